// The load generator's process, seen from main: one job at a time, every wait with a deadline.
import { once } from "node:events";
import { join } from "node:path";
import type { Job, Order, Outcome, Report } from "./load/job.ts";
import { AT_MOST } from "./load/run.ts";
import { type Running, startPinned } from "./pinned.ts";

export interface Steps {
  /** All is open and warm. */
  ready(): void;
  /** The work is done and everything is still open. */
  done(outcome: Outcome): Promise<void>;
}

export class LoadGenerator {
  private readonly running: Running;

  constructor(core: string | null, cwd: string) {
    const args = ["--import", import.meta.resolve("tsx"), join(import.meta.dirname, "load", "main.ts")];
    this.running = startPinned(process.execPath, args, { core, cwd, channel: true });
  }

  /** Rejects with what was not right, or when it takes more than a minute longer than it should. */
  async perform(job: Job, steps: Steps): Promise<void> {
    const deadline = (AT_MOST * Math.max(job.measured.seconds, job.warm.seconds) + 60) * 1000;
    this.send({ job });
    const ready = await this.report(deadline);
    if (!("ready" in ready)) throw new Error("failed" in ready ? ready.failed : "out of turn");
    steps.ready();
    this.send({ go: true });
    const last = await this.report(deadline);
    if (!("outcome" in last)) throw new Error("failed" in last ? last.failed : "out of turn");
    try {
      await steps.done(last.outcome);
    } finally {
      this.send({ release: true });
    }
  }

  stop(): Promise<void> {
    return this.running.stop();
  }

  private send(order: Order): void {
    this.running.child.send(order);
  }

  private async report(milliseconds: number): Promise<Report> {
    const signal = AbortSignal.timeout(milliseconds);
    try {
      const [report] = (await once(this.running.child, "message", { signal })) as [Report];
      return report;
    } catch (error) {
      throw new Error(`no word from the load generator: ${(error as Error).message} ${this.running.complaint}`);
    }
  }
}
