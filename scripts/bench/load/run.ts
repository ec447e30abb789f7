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

/** How long and how much: until both are reached, but never eight times as long as said. */
export interface Portion {
  readonly seconds: number;
  /** Units of work; a proxy that compiles as it runs is not warm after a second of few. */
  readonly count: number;
}

export const AT_MOST = 8;

/** Lets every worker work that much; each finishes what it has begun. Seconds that it took. */
export async function work(workers: readonly Worker[], tally: Tally, { seconds, count }: Portion): Promise<number> {
  const started = performance.now();
  const end = started + seconds * 1000;
  const last = started + seconds * AT_MOST * 1000;
  const goOn = (): boolean => {
    const now = performance.now();
    return now < end || (tally.count < count && now < last);
  };
  await Promise.all(
    workers.map(async (worker) => {
      do await worker.once(tally);
      while (goOn());
    }),
  );
  return (performance.now() - started) / 1000;
}
