// How V8 collects what exchanges leave behind. Its young generation stays at the size it starts with: by itself it grows to 48 MiB in
// each thread under load and stays, at no gain. And it is collected by the thread that made it: handing a millisecond of work to four
// helpers and waiting for them costs more than doing it.
import { setFlagsFromString } from "node:v8";

/** Holds for all threads. V8 sets it back whenever a thread begins, so that it is called after each that does. */
export function keepYoungGenerationSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--no-parallel-scavenge");
}
