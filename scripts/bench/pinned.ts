// Processes that run on one core, and ports that are free.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { availableParallelism } from "node:os";
import { setTimeout as wait } from "node:timers/promises";
import { findProgram } from "./peers/peer.ts";

/** The proxy's core, and that of load generator and origin; null where there is one core only, or no taskset. */
export const CORES =
  availableParallelism() > 1 && findProgram("taskset") !== null
    ? { proxy: "0", load: "1" }
    : { proxy: null, load: null };

export interface PinnedOptions {
  readonly core: string | null;
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Messages go to and from it. */
  readonly channel?: boolean;
}

/** Starts a program; its standard error is kept for messages, up to a bound. */
export function startPinned(command: string, args: readonly string[], options: PinnedOptions): Running {
  const { core, cwd, env, channel } = options;
  const [program, all] = core === null ? [command, [...args]] : ["taskset", ["-c", core, command, ...args]];
  const stdio = channel ? (["ignore", "ignore", "pipe", "ipc"] as const) : (["ignore", "ignore", "pipe"] as const);
  const child = spawn(program, all, { cwd, env: { ...process.env, ...env }, stdio: [...stdio] });
  return new Running(child);
}

/** taskset replaces itself by the program, so that the child's number is the program's. */
export class Running {
  readonly child: ChildProcess;
  complaint = "";

  constructor(child: ChildProcess) {
    this.child = child;
    child.on("error", (error) => {
      this.complaint += error.message;
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      if (this.complaint.length < 10_000) this.complaint += chunk.toString("utf8");
    });
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null || this.child.pid === undefined;
  }

  /** SIGTERM, and SIGKILL when that takes more than ten seconds. */
  async stop(): Promise<void> {
    if (this.ended) return;
    const gone = once(this.child, "exit");
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    await gone;
    clearTimeout(timer);
  }
}

/** A port of 127.0.0.1 that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Resolves when something listens there; rejects when the process ends first, or after `milliseconds`. */
export async function untilListening(running: Running, port: number, milliseconds = 60_000): Promise<void> {
  for (const end = performance.now() + milliseconds; ; await wait(50)) {
    if (running.ended) throw new Error(`ended at once: ${running.complaint.slice(-1000)}`);
    if (await accepts(port)) return;
    if (performance.now() > end) throw new Error(`does not listen: ${running.complaint.slice(-1000)}`);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
