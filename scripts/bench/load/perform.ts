// One job from beginning to end: open, warm up, wait for the word, work, tell, close.
import { type Way, wayTo } from "./connect.ts";
import { Http1Worker } from "./http1-worker.ts";
import { Http2Line, Http2Worker } from "./http2-worker.ts";
import type { Job, Outcome } from "./job.ts";
import { Tally, type Worker, work } from "./run.ts";
import { WebSocketWorker } from "./websocket-worker.ts";

/** Connections that are opened at once, where many are opened. */
const AT_ONCE = 8;

/** `ready` is called when all is warm; work begins when its promise resolves. `done` gets the outcome before anything is closed. */
export async function perform(
  job: Job,
  ready: () => Promise<void>,
  done: (outcome: Outcome) => Promise<void>,
): Promise<void> {
  if (job.kind === "idle") return holdIdle(job, ready, done);
  const workers = workersOf(job);
  const tally = new Tally();
  try {
    await inTurn(workers, (worker) => worker.open());
    await work(workers, tally, job.warm);
    tally.reset();
    await ready();
    await done(outcomeOf(tally, await work(workers, tally, job.measured)));
  } finally {
    for (const worker of workers) worker.close();
  }
}

function workersOf(job: Job): Worker[] {
  const many = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
  switch (job.kind) {
    case "h2": {
      const way = wayTo(job, job.origin.h2);
      const lines = many(job.connections, () => new Http2Line(way));
      return lines.flatMap((line) => many(job.streams, () => new Http2Worker(line)));
    }
    case "websocket": {
      const way = wayTo(job, job.origin.websocket);
      return many(job.connections, () => new WebSocketWorker(way));
    }
    default: {
      const way = wayTo(job, portOf(job));
      return many(job.connections, () => new Http1Worker(way));
    }
  }
}

const portOf = ({ way, origin }: Job): number =>
  way === "plain" ? origin.plain : way === "tunnel" ? origin.opaque : origin.tls;

/** Opens many connections, asks once on each, and keeps them open until `done` has resolved. */
async function holdIdle(
  job: Job,
  ready: () => Promise<void>,
  done: (outcome: Outcome) => Promise<void>,
): Promise<void> {
  const way: Way = wayTo(job, portOf(job));
  const tally = new Tally();
  const workers = Array.from({ length: job.connections }, () => new Http1Worker(way));
  await ready();
  const started = performance.now();
  try {
    await inTurn(workers, async (worker) => {
      await worker.open();
      await worker.once(tally);
    });
    await done(outcomeOf(tally, (performance.now() - started) / 1000));
  } finally {
    for (const worker of workers) worker.close();
  }
}

/** A few at a time: handshakes of a thousand connections at once are no load that anything here is about. */
async function inTurn<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) await act(items[next++] as T);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

function outcomeOf(tally: Tally, seconds: number): Outcome {
  const { count, bytes, reopened, latencies } = tally;
  return { count, bytes, seconds, reopened, p50: latencies.percentile(0.5), p99: latencies.percentile(0.99) };
}
