// Reads of accepted connections into one buffer that they all share. node:net and node:tls offer this to connections that they
// open (`onread`), and not to those that they accept, where each read of a kilobyte takes 64 KiB of memory and gives most of it
// back. So what `onread` would set is set here, and where this Node has it under other names,
// nothing is set: reads then come as 'data' events (decision 14).
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

/**
 * As much as Node reads at once by itself. What reads into it is done with it when its callback returns. No empty piece may be
 * written to a TLS connection in such a callback: that makes Node read what TLS has decrypted, into this, before it returns.
 */
export const SHARED: Buffer = Buffer.allocUnsafeSlow(65_536);

/** Takes the first `n` bytes of the buffer, which are gone when the next read comes. False: no more until `socket.resume()`. */
export type Take = (n: number, buffer: Buffer) => boolean;

interface Handle {
  useUserBuffer?(buffer: Buffer): void;
}
interface Names {
  readonly buffer: symbol;
  readonly callback: symbol;
}

/**
 * From now on what comes is read into `buffer` and given to `take`. Returns what ends that, so that the rest comes as 'data' events;
 * null: nothing has changed, since `socket` is no connection of the system, or this Node cannot do it.
 */
export function borrowReads(socket: Duplex, take: Take, buffer = SHARED): (() => void) | null {
  if (!(socket instanceof Socket)) return null;
  const handle = (socket as { readonly _handle?: Handle | null })._handle;
  const names = namesOf(socket);
  if (handle?.useUserBuffer === undefined || names === null) return null;
  const fields = socket as unknown as Record<symbol, unknown>;
  handle.useUserBuffer(buffer);
  fields[names.buffer] = buffer;
  fields[names.callback] = take;
  return () => {
    fields[names.callback] = (n: number, b: Buffer): boolean => socket.push(Buffer.from(b.subarray(0, n)));
  };
}

let names: Names | null | undefined;

/** The same for all sockets of a process. */
function namesOf(socket: Socket): Names | null {
  if (names === undefined) {
    const buffer = symbolOf(socket, "kBuffer");
    const callback = symbolOf(socket, "kBufferCb");
    names = buffer === undefined || callback === undefined ? null : { buffer, callback };
  }
  return names;
}

const symbolOf = (socket: Socket, name: string): symbol | undefined =>
  Object.getOwnPropertySymbols(socket).find((symbol) => symbol.description === name);
