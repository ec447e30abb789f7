// What was answered and has not all left yet: it may take its time, as long as the client takes some of it.
import type { Outgoing } from "./outgoing.ts";

export class Leaving {
  private readonly out: Outgoing;
  /** Writes that had left when it was last looked, and since when there are no more. */
  private landings = 0;
  private since = 0;

  constructor(out: Outgoing) {
    this.out = out;
  }

  /** From `now` (milliseconds of one clock) on, the client is expected to read. */
  begin(now: number): void {
    this.since = now;
  }

  /** True when nothing has left for `patience` milliseconds. */
  stuck(now: number, patience: number): boolean {
    const { landings } = this.out;
    if (landings !== this.landings) {
      this.landings = landings;
      this.since = now;
    }
    return now - this.since >= patience;
  }
}
