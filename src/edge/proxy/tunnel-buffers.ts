// Read buffers of blind tunnels, used again: memory outside the heap is what makes V8 collect, and one such buffer for each
// short tunnel cost almost half of the CPU time of opening them (`npm run bench -- --only tunnel-connections`).
import type { Duplex } from "node:stream";

const SIZE = 65_536;
const MAX_SPARE = 64;
const spare: Buffer[] = [];

export const takeBuffer = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(SIZE);

/** Gives the buffer back when every socket that may still read into it, or write from it, has closed. */
export function giveBackAfter(buffer: Buffer, sockets: readonly Duplex[]): void {
  let open = sockets.length;
  const closed = (): void => {
    if (--open === 0 && spare.length < MAX_SPARE) spare.push(buffer);
  };
  for (const socket of sockets) {
    if (socket.closed) closed();
    else socket.on("close", closed);
  }
}
