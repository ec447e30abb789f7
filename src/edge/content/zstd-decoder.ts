// zstd (RFC 8878), which Node 20 does not have: a few blocks each turn of the event loop.
import type { Decoder } from "../../filters/decoder.ts";
import { ZstdFrames } from "./zstd-frames.ts";

type Done = (error: Error | null) => void;

/** Blocks that are decoded before other work gets its turn: 2 MiB at most. */
const TURN = 16;

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
    setImmediate(() => {
      this.#scheduled = false;
      this.#work();
    });
  }

  #work(): void {
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
  }
}
