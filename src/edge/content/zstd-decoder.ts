// zstd (RFC 8878), which Node 20 does not have: a few blocks at a time, all decoders in turn.
import type { Decoder } from "../../filters/decoder.ts";
import { ZstdFrames } from "./zstd-frames.ts";

type Done = (error: Error | null) => void;

/** Blocks that are decoded before other work gets its turn: 256 KiB, which are searched as well, and others have theirs too. */
const TURN = 2;

/** Milliseconds for all decoders together before anything else gets its turn. */
const SLICE = 10;

/** The decoders that have work, one after the other: together they hold nobody up for longer than one alone. */
const queue: ZstdDecoder[] = [];
let running = false;

function enqueue(decoder: ZstdDecoder): void {
  queue.push(decoder);
  if (!running) setImmediate(runQueue);
  running = true;
}

function runQueue(): void {
  const until = performance.now() + SLICE;
  do queue.shift()?.work();
  while (queue.length > 0 && performance.now() < until);
  running = queue.length > 0;
  if (running) setImmediate(runQueue);
}

export const zstdDecoder = (out: (plain: Uint8Array) => void): Decoder => new ZstdDecoder(out);

class ZstdDecoder implements Decoder {
  readonly #frames: ZstdFrames;
  #done: Done | null = null;
  #error: Error | null = null;
  #paused = false;
  #closed = false;
  #scheduled = false;

  constructor(out: (plain: Uint8Array) => void) {
    this.#frames = new ZstdFrames((plain) => {
      if (!this.#closed) out(plain);
    });
  }

  write(chunk: Uint8Array, done: Done): void {
    this.#frames.push(chunk);
    this.#done = done;
    this.#schedule();
  }

  end(done: Done): void {
    done(this.#error ?? (this.#frames.whole ? null : new Error("unexpected end of file")));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    enqueue(this);
  }

  /** A few blocks. */
  work(): void {
    this.#scheduled = false;
    if (this.#closed || this.#paused || this.#done === null) return;
    try {
      for (let turn = 0; this.#error === null && this.#frames.next(); turn++) {
        if (this.#closed || this.#paused) return;
        if (turn === TURN) {
          this.#schedule();
          return;
        }
      }
    } catch (error) {
      this.#error ??= error as Error;
      // At once: others may wait for its room.
      this.#frames.close();
    }
    const done = this.#done;
    this.#done = null;
    if (!this.#closed) done(this.#error);
  }

  /** A block yields nothing until it is whole. */
  get waits(): boolean {
    return this.#frames.waiting > 0;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#done = null;
    // Not while a block is being given out: that may be what closes it.
    setImmediate(() => this.#frames.close());
  }
}
