// Time for what was sent within this process to arrive.
import { setImmediate as turn, setTimeout as wait } from "node:timers/promises";

/** How many parties hand something on: client, proxy, origin, and back, with one to spare. */
const TURNS = 6;

/**
 * Waits so many milliseconds, and then until each party here has read what came. The clock alone says nothing: on a machine
 * with other work nobody else's turn may have come meanwhile, since Node runs timers before it reads sockets.
 */
export async function pause(milliseconds: number): Promise<void> {
  await wait(milliseconds);
  for (let i = 0; i < TURNS; i++) await turn();
}

/** Does something after such a pause. */
export function afterPause(milliseconds: number, act: () => unknown): void {
  void pause(milliseconds).then(act);
}
