// The load generator: a process of its own, which main.ts pins to the core that the proxy does not have. Jobs come and
// outcomes go through the channel to its parent.
import type { Job, Order, Report } from "./job.ts";
import { perform } from "./perform.ts";

let goOn: () => void = () => {};

function report(text: Report): void {
  process.send?.(text);
}

/** Resolves at the next `go` or `release`. */
const nextWord = (): Promise<void> =>
  new Promise((resolve) => {
    goOn = resolve;
  });

async function carryOut(job: Job): Promise<void> {
  try {
    await perform(
      job,
      () => {
        report({ ready: true });
        return nextWord();
      },
      (outcome) => {
        report({ outcome });
        return nextWord();
      },
    );
  } catch (error) {
    report({ failed: (error as Error).message });
  }
}

process.on("message", (order: Order) => {
  if ("job" in order) void carryOut(order.job);
  else goOn();
});
process.on("disconnect", () => process.exit(0));
