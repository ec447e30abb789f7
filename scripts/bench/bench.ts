// A whole run: origin, load generator and every proxy are started once; then, round by round and scenario by scenario, each
// proxy in turn gets the same load. One proxy works at a time; the others idle.
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { type Credentials, writeCredentials } from "./credentials.ts";
import type { Outcome } from "./load/job.ts";
import { LoadGenerator } from "./load-generator.ts";
import type { OriginPorts } from "./payload.ts";
import type { Peer } from "./peers/peer.ts";
import { CORES, freePort, type Running, startPinned, untilListening } from "./pinned.ts";
import { cpuSeconds, residentBytes, threadSeconds } from "./process-tree.ts";
import type { Measurement, Participant, Results } from "./results.ts";
import { costOf, type Scenario, type ScenarioId } from "./scenarios.ts";

/** What a proxy does after its last response (audit, logs) is its work too: so long is waited for it. */
const SETTLE_MS = 600;

interface Runner {
  readonly peer: Peer;
  readonly running: Running;
  readonly port: number;
  /** PEM. */
  readonly ca: string;
}

export interface BenchPlan {
  readonly peers: readonly Peer[];
  readonly scenarios: readonly Scenario[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  /** Proxies run on one core. */
  readonly pinned: boolean;
  /** After these rounds, so many more of some scenarios among some participants. */
  readonly again?: {
    readonly rounds: number;
    readonly who: (sofar: Results) => ReadonlyMap<ScenarioId, ReadonlySet<string>>;
  };
  /** For people: what is going on. */
  readonly tell: (text: string) => void;
}

/** So much of a scenario's warmth again in each round after the first. */
const WARM_AGAIN = 1 / 4;

export class Bench {
  readonly dir = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
  private readonly plan: BenchPlan;
  private readonly runners: Runner[] = [];
  private readonly participants: Participant[] = [];
  private readonly measurements: Measurement[] = [];
  private credentials!: Credentials;
  private origin!: { readonly ports: OriginPorts; readonly running: Running };
  private load!: LoadGenerator;
  private closed = false;

  constructor(plan: BenchPlan) {
    this.plan = plan;
    chmodSync(this.dir, 0o755);
  }

  /** Runs everything. Call `close` in any case; a run that is closed before its end throws. */
  async run(): Promise<Results> {
    await this.open();
    const { rounds, scenarios, again } = this.plan;
    for (let round = 0; round < rounds; round++) {
      for (const scenario of scenarios) await this.playRound(scenario, round);
    }
    if (again !== undefined) await this.playAgain(again.rounds, again.who(this.results));
    for (const { peer, running } of this.runners) {
      const participant = this.participants.find(({ name }) => name === peer.name);
      if (participant !== undefined && !running.ended) participant.residentAtEnd = residentBytes(running.pid);
    }
    return this.results;
  }

  private get results(): Results {
    return { participants: this.participants, measurements: this.measurements };
  }

  /** Ends all processes and removes their files. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.allSettled(this.runners.map(({ running }) => running.stop()));
    await this.load?.stop();
    await this.origin?.running.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** CPU seconds of each thread of this proxy, so far. */
  threads(name: string): number[] {
    const runner = this.runners.find(({ peer }) => peer.name === name);
    return runner === undefined ? [] : threadSeconds(runner.running.pid);
  }

  /** Ends this proxy alone, so that it can write what it writes at its end. */
  async stopPeer(name: string): Promise<void> {
    await this.runners.find(({ peer }) => peer.name === name)?.running.stop();
  }

  private async open(): Promise<void> {
    this.credentials = writeCredentials(this.dir);
    this.origin = await this.openOrigin();
    this.load = new LoadGenerator(CORES.load, this.dir);
    for (const peer of this.plan.peers) await this.openPeer(peer);
  }

  private async openOrigin(): Promise<{ ports: OriginPorts; running: Running }> {
    const { key, cert } = this.credentials.origin;
    const args = ["--import", import.meta.resolve("tsx"), join(import.meta.dirname, "origin.ts"), key, cert];
    const running = startPinned(process.execPath, args, { core: CORES.load, cwd: this.dir, channel: true });
    const [ports] = (await once(running.child, "message", { signal: AbortSignal.timeout(30_000) })) as [OriginPorts];
    return { ports, running };
  }

  private async openPeer(peer: Peer): Promise<void> {
    const version = await peer.version();
    this.participants.push({ name: peer.name, version, install: peer.install, residentAtEnd: null });
    if (version === null) return this.plan.tell(`${peer.name} is not installed: ${peer.install}`);
    const dir = join(this.dir, peer.name);
    mkdirSync(dir);
    chmodSync(dir, 0o777);
    const port = await freePort();
    const { origin, peers } = this.credentials;
    const surroundings = { dir, port, origin: this.origin.ports, originCa: origin.ca, ca: peers };
    const start = await peer.prepare(surroundings);
    const env = start.env === undefined ? {} : { env: start.env };
    const running = startPinned(start.command, start.args, {
      core: this.plan.pinned ? CORES.proxy : null,
      cwd: dir,
      ...env,
    });
    try {
      await untilListening(running, port);
      this.runners.push({ peer, running, port, ca: readFileSync(start.caFile, "utf8") });
      this.plan.tell(`${peer.name} ${version} listens`);
    } catch (error) {
      await running.stop();
      this.plan.tell(`${peer.name} ${version}: ${(error as Error).message}`);
    }
  }

  private async playAgain(rounds: number, who: ReadonlyMap<ScenarioId, ReadonlySet<string>>): Promise<void> {
    const scenarios = this.plan.scenarios.filter(({ id }) => who.has(id));
    if (scenarios.length > 0) this.plan.tell(`near a target, so again: ${scenarios.map(({ id }) => id).join(", ")}`);
    for (let round = 0; round < rounds; round++) {
      for (const scenario of scenarios) await this.playRound(scenario, this.plan.rounds + round, who.get(scenario.id));
    }
  }

  /** `only`: the names of those who play; undefined: all that can. */
  private async playRound(scenario: Scenario, round: number, only?: ReadonlySet<string>): Promise<void> {
    // Memory does not change from round to round, and opening a thousand connections takes some peers long.
    if (scenario.job.kind === "idle" && round > 0) return;
    const able = this.runners.filter(
      ({ peer }) => peer.scenarios.includes(scenario.id) && (only?.has(peer.name) ?? true),
    );
    // Each round begins with another, so that none always follows the same neighbour.
    for (let i = 0; i < able.length; i++) {
      const runner = able[(i + round) % able.length] as Runner;
      const measurement = await this.measure(scenario, runner, round);
      if (this.closed) throw new Error("stopped");
      this.measurements.push(measurement);
      this.plan.tell(`${round + 1} ${scenario.id} ${runner.peer.name}: ${measurement.failed ?? measurement.cost}`);
    }
  }

  private async measure(scenario: Scenario, runner: Runner, round: number): Promise<Measurement> {
    const { pid } = runner.running;
    const base = { scenario: scenario.id, participant: runner.peer.name, round };
    let before = 0;
    let figures: Pick<Measurement, "cost" | "residentBytes"> = { cost: null, residentBytes: 0 };
    let outcome: Outcome | null = null;
    const idle = scenario.job.kind === "idle";
    try {
      await this.load.perform(this.jobFor(scenario, runner, round), {
        ready: () => {
          before = idle ? residentBytes(pid) : cpuSeconds(pid);
        },
        done: async (found) => {
          await wait(SETTLE_MS);
          outcome = found;
          const resident = residentBytes(pid);
          const cost = idle
            ? (resident - before) / 1024 / found.count
            : costOf(scenario.unit, cpuSeconds(pid) - before, found);
          figures = { cost, residentBytes: resident };
        },
      });
    } catch (error) {
      return {
        ...base,
        ...figures,
        cost: null,
        rate: 0,
        p50: 0,
        p99: 0,
        reopened: 0,
        failed: (error as Error).message,
      };
    }
    const { count, bytes, seconds, p50, p99, reopened } = outcome as unknown as Outcome;
    const rate = (scenario.unit === "s/GB" ? bytes : count) / seconds;
    return { ...base, ...figures, rate, p50, p99, reopened, failed: null };
  }

  private jobFor(scenario: Scenario, { port, ca }: Runner, round: number): Parameters<LoadGenerator["perform"]>[0] {
    const { seconds, warmSeconds } = this.plan;
    // Processes stay, but what they compiled for one scenario was dropped in part for the next.
    const warm =
      round === 0
        ? { seconds: warmSeconds, count: scenario.warmth }
        : { seconds: warmSeconds / 3, count: scenario.warmth * WARM_AGAIN };
    const measured = { seconds, count: Math.ceil(scenario.warmth / 20) };
    const seen = scenario.job.way === "tunnel" ? readFileSync(this.credentials.origin.ca, "utf8") : ca;
    return { ...scenario.job, proxy: port, ca: seen, origin: this.origin.ports, warm, measured };
  }
}
