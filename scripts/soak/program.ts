// The built program, run as a process of its own: what the soak and the tests of disk, descriptors, signals and memory drive.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../test/support/free-port.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** `npm test` and `npm run soak` build it first. */
export const MAIN = process.env.SALLYPORT_MAIN ?? join(ROOT, "dist", "main.js");

/** Everything allowed and loopback open. */
export const OPEN = "defaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n";

export interface ProgramOptions {
  /** The policy file after `version: 1`. */
  readonly policy?: string;
  /** Shell text that runs before the program is, such as `ulimit -n 64`. */
  readonly before?: string;
  readonly nodeOptions?: readonly string[];
  /** A command that runs it, such as `setpriv …`. */
  readonly through?: string;
}

/** A folder with a policy, a port that stays the same, and the process when it runs. */
export class Program {
  readonly dir: string;
  readonly port: number;
  readonly adminPort: number;
  child: ChildProcess | null = null;
  errors = "";
  private readonly options: ProgramOptions;

  constructor(port: number, adminPort: number, options: ProgramOptions, roots: string | null) {
    this.options = options;
    this.port = port;
    this.adminPort = adminPort;
    this.dir = mkdtempSync(join(tmpdir(), "sallyport-program-"));
    mkdirSync(this.data);
    if (roots !== null) writeFileSync(join(this.dir, "roots.pem"), roots);
    const trust = roots === null ? "" : "tls: { roots: [roots.pem] }\n";
    writeFileSync(join(this.dir, "policy.yaml"), `version: 1\n${trust}${options.policy ?? OPEN}`);
  }

  get data(): string {
    return join(this.dir, "data");
  }
  get ca(): string {
    return readFileSync(join(this.dir, "ca", "ca.pem"), "utf8");
  }
  get pid(): number {
    return this.child?.pid ?? 0;
  }
  get running(): boolean {
    return this.child !== null && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Starts it and waits until it says where it is. Milliseconds from the start to then. */
  async start(): Promise<number> {
    const started = performance.now();
    const places = ["--data", this.data, "--ca", join(this.dir, "ca")];
    const ports = ["--listen", `127.0.0.1:${this.port}`, "--admin", `127.0.0.1:${this.adminPort}`];
    const program = [...(this.options.nodeOptions ?? []), MAIN, "start", "-c", join(this.dir, "policy.yaml")];
    const child = spawn(
      "bash",
      [
        "-c",
        `${this.options.before ?? ""}\nexec ${this.options.through ?? ""} "$0" "$@"`,
        process.execPath,
        ...program,
        ...places,
        ...ports,
      ],
      { stdio: ["ignore", "pipe", "pipe"], cwd: this.dir, env: { ...process.env, NO_COLOR: "1" } },
    );
    this.child = child;
    let said = "";
    child.stdout.on("data", (b: Buffer) => {
      said = (said + b).slice(-20_000);
    });
    child.stderr.on("data", (b: Buffer) => {
      this.errors = (this.errors + b).slice(-20_000);
    });
    for (const end = Date.now() + 30_000; !/\n {2}try /.test(said); await wait(5)) {
      if (!this.running || Date.now() > end) throw new Error(`it did not start: ${said} ${this.errors}`);
    }
    return performance.now() - started;
  }

  /** Sends a signal and waits for the end. Milliseconds that it took. */
  async end(signal: NodeJS.Signals, patience = 30_000): Promise<number> {
    const { child } = this;
    if (child === null || !this.running) return 0;
    const started = performance.now();
    const ended = once(child, "exit");
    child.kill(signal);
    const late = wait(patience, "late", { ref: false });
    if ((await Promise.race([ended, late])) === "late") {
      child.kill("SIGKILL");
      await ended;
      throw new Error(`still running ${patience} ms after ${signal}`);
    }
    return performance.now() - started;
  }

  /** Resident memory, bytes; `peak`: the most that it ever was. */
  memory(): { now: number; peak: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
    return { now: kib("VmRSS"), peak: kib("VmHWM") };
  }

  /** Open file descriptors. */
  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Seconds of CPU so far. */
  cpu(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.adminPort}/metrics`)).text();
  }

  async close(): Promise<void> {
    if (this.running) await this.end("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A program, not yet started. `roots`: PEM that origins are verified against. */
export async function aProgram(options: ProgramOptions = {}, roots: string | null = null): Promise<Program> {
  return new Program(await freePort(), await freePort(), options, roots);
}
