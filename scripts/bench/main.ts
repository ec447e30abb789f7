// `npm run bench`: our CPU time beside that of other proxies, on this machine, in one run. docs/performance.md says how to
// read it.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bench } from "./bench.ts";
import { type BenchOptions, HELP, readOptions } from "./options.ts";
import { mitmproxy } from "./peers/mitmproxy.ts";
import { httpMitmProxy, mockttp } from "./peers/node-peers.ts";
import type { Peer } from "./peers/peer.ts";
import { privoxy } from "./peers/privoxy.ts";
import { squid } from "./peers/squid.ts";
import { tinyproxy } from "./peers/tinyproxy.ts";
import { CORES } from "./pinned.ts";
import { profileText } from "./profile.ts";
import { participantsText, round, tables, verdictsText } from "./report.ts";
import { OWN, type Results } from "./results.ts";
import { sallyport } from "./sallyport.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";
import { closeCalls, judge, type Verdict } from "./targets.ts";

const PEERS: readonly Peer[] = [squid, privoxy, tinyproxy, httpMitmProxy, mockttp, mitmproxy];
/** A profile takes longer than a measurement: samples are few. */
const PROFILE_SECONDS = 6;
/** More rounds for what came near a target: with three, noise decides there. An odd number in all has one in the middle. */
const ROUNDS_AGAIN = 8;

const tell = (text: string): void => void process.stderr.write(`${text}\n`);
const print = (text: string): void => void process.stdout.write(`${text}\n`);

function builtMain({ main }: BenchOptions): string {
  if (main !== null) return main;
  const root = join(import.meta.dirname, "..", "..");
  execFileSync(process.execPath, [join(root, "scripts", "build.mjs")], { stdio: ["ignore", 2, 2] });
  return join(root, "dist", "main.js");
}

const chosen = (ids: readonly string[]): Scenario[] => SCENARIOS.filter(({ id }) => ids.includes(id));

/** Us, once for each number of rules, and the peers. */
function participants(options: BenchOptions): Peer[] {
  const main = builtMain(options);
  const wanted = options.peers;
  const unknown = wanted?.find((name) => !PEERS.some((peer) => peer.name === name));
  if (unknown !== undefined) throw new Error(`no peer ${unknown}; there are ${PEERS.map((p) => p.name).join(", ")}`);
  const rules = [...new Set(chosen(options.scenarios).map((s) => s.rules))].filter((n) => n !== undefined);
  const extra = rules.map((n) =>
    sallyport({ name: `${OWN}, ${n} rule${n === 1 ? "" : "s"}`, main, rules: n, nodeOptions: [] }),
  );
  const own = sallyport({ name: OWN, main, rules: null, nodeOptions: [] });
  const { beside } = options;
  const other = beside === null ? [] : [sallyport({ name: "other build", main: beside, rules: null, nodeOptions: [] })];
  return [own, ...other, ...PEERS.filter(({ name }) => wanted?.includes(name) ?? true), ...extra];
}

/** Whoever tells the benchmark to stop means all that it has started. Not 1: that is a missed target. */
function closeOnSignals(bench: Bench): void {
  const close = (): void => void bench.close().finally(() => process.exit(2));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, close);
}

async function benchmark(options: BenchOptions): Promise<void> {
  const { rounds, seconds, warmSeconds } = options;
  const scenarios = chosen(options.scenarios);
  const bench = new Bench({
    peers: participants(options),
    scenarios,
    rounds,
    seconds,
    warmSeconds,
    pinned: true,
    tell,
    ...(options.check
      ? { again: { rounds: ROUNDS_AGAIN, who: (sofar: Results) => closeCalls(sofar, options.scenarios) } }
      : {}),
  });
  closeOnSignals(bench);
  try {
    const results = await bench.run();
    const verdicts = judge(results, options.scenarios);
    print(
      `Node ${process.version}, ${rounds} rounds of ${seconds} s${options.check ? ` (near a target ${rounds + ROUNDS_AGAIN})` : ""}, medians; ${CORES.proxy === null ? "NOT pinned" : "proxy pinned to one core"}`,
    );
    print(`${participantsText(results.participants)}\n${tables(results)}\n${verdictsText(verdicts)}`);
    if (options.json !== null) writeJson(options, results, verdicts);
    if (options.check && verdicts.some(({ met }) => !met)) process.exitCode = 1;
  } finally {
    await bench.close();
  }
}

function writeJson(options: BenchOptions, results: Results, verdicts: readonly Verdict[]): void {
  const { rounds, seconds } = options;
  const all = { node: process.version, pinned: CORES.proxy !== null, rounds, seconds, ...results, verdicts };
  writeFileSync(options.json as string, `${JSON.stringify(all, null, 2)}\n`);
}

async function profile(options: BenchOptions, scenario: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-profile-"));
  const nodeOptions = ["--cpu-prof", `--cpu-prof-dir=${dir}`, "--cpu-prof-interval=500"];
  const rules = chosen([scenario])[0]?.rules ?? null;
  const own = sallyport({ name: OWN, main: builtMain(options), rules, nodeOptions });
  const seconds = Math.max(options.seconds, PROFILE_SECONDS);
  const bench = new Bench({
    peers: [own],
    scenarios: chosen([scenario]),
    rounds: 1,
    seconds,
    warmSeconds: 1,
    pinned: false,
    tell,
  });
  closeOnSignals(bench);
  try {
    const { measurements } = await bench.run();
    const threads = bench.threads(OWN).filter((s) => s >= 0.05);
    print(
      `${measurements.map((m) => m.failed ?? `${round(m.cost ?? 0)} in all`).join()}; CPU seconds by thread: ${threads.join(" ")}`,
    );
    await bench.stopPeer(OWN);
    print(profileText(dir));
  } finally {
    await bench.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === "help") return print(HELP);
  await (options.profile === null ? benchmark(options) : profile(options, options.profile));
}

main().catch((error: Error) => {
  tell(error.message);
  process.exitCode = 2;
});
