// What is common to all kinds of load: workers that go on until the time is over, and what they counted.
import { Latencies } from "./latencies.ts";

export class Tally {
  count = 0;
  bytes = 0;
  reopened = 0;
  latencies = new Latencies();

  add(bytes: number, startedAt: number): void {
    this.count += 1;
    this.bytes += bytes;
    this.latencies.add(performance.now() - startedAt);
  }

  reset(): void {
    this.count = 0;
    this.bytes = 0;
    this.reopened = 0;
    this.latencies = new Latencies();
  }
}

/** One connection with what is done on it over and over. */
export interface Worker {
  /** Opens what it needs. */
  open(): Promise<void>;
  /** One unit of work, checked; throws when anything is not right. */
  once(tally: Tally): Promise<void>;
  close(): void;
}

/** Lets every worker work until this many seconds are over; each finishes what it has begun. */
export async function work(workers: readonly Worker[], tally: Tally, seconds: number): Promise<number> {
  const started = performance.now();
  const end = started + seconds * 1000;
  await Promise.all(
    workers.map(async (worker) => {
      do await worker.once(tally);
      while (performance.now() < end);
    }),
  );
  return (performance.now() - started) / 1000;
}
