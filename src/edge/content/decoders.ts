// The content codings that can be undone, and chains of them.
import type { Decoder, Decoders } from "../../filters/decoder.ts";
import { ProxyError } from "../../shared/errors.ts";
import { brotliDecoder, deflateDecoder, gzipDecoder } from "./zlib-decoder.ts";
import { zstdDecoder } from "./zstd-decoder.ts";

type Out = (plain: Uint8Array) => void;

const CODINGS: Readonly<Record<string, (out: Out) => Decoder>> = {
  gzip: gzipDecoder,
  deflate: deflateDecoder,
  br: brotliDecoder,
  zstd: zstdDecoder,
};

/** More codings on one body than anybody stacks in earnest. */
export const MOST_STACKED = 4;

/** The decoders of this process. `open` throws an Error for a coding it does not know, and for too many. */
export const contentDecoders: Decoders = {
  most: MOST_STACKED,
  knows: (coding) => Object.hasOwn(CODINGS, coding),
  open(codings, out) {
    if (codings.length > MOST_STACKED) throw new Error("too many content codings");
    let chain: Decoder | null = null;
    // The first applied is the last undone: it gives out the plain content.
    for (const coding of codings) {
      const make = Object.hasOwn(CODINGS, coding) ? CODINGS[coding] : undefined;
      if (make === undefined) throw new Error("unknown content coding");
      if (chain === null) chain = make(out);
      else {
        const stacked: StackedDecoder = new StackedDecoder(chain);
        stacked.outer = make((bytes) => stacked.take(bytes));
        chain = stacked;
      }
    }
    if (chain === null) throw new Error("no content coding");
    return chain;
  },
};

/** Bytes between two codings before the ratio counts, and how many times more they may be than what came in. */
const RATIO_FROM = 1024 * 1024;
const RATIO = 100;

/** Two decoders in a row: what the outer one gives out is copied, since the inner one works on it later. */
class StackedDecoder implements Decoder {
  outer!: Decoder;
  readonly #inner: Decoder;
  readonly #between: Uint8Array[] = [];
  #waiting: ((error: Error | null) => void) | null = null;
  #busy = false;
  #error: Error | null = null;
  #closed = false;
  #stopped = false;
  /** Who waits for the end of a piece, or of the content. */
  #caller: ((error: Error | null) => void) | null = null;
  #in = 0;
  #out = 0;

  constructor(inner: Decoder) {
    this.#inner = inner;
  }

  take(bytes: Uint8Array): void {
    if (this.#error !== null || this.#closed) return;
    this.#out += bytes.length;
    // What comes out in the end may be nothing at all, so that nobody else would notice.
    if (this.#out > RATIO_FROM && this.#out > this.#in * RATIO) {
      this.#fail(new ProxyError("decode-limit", `a coding inside grows more than ${RATIO} times`));
      return;
    }
    this.#between.push(new Uint8Array(bytes));
    // A bomb inside a bomb: the outer one waits for the inner one.
    if (this.#between.length > 4 && !this.#stopped) {
      this.#stopped = true;
      this.outer.pause();
    }
    this.#pump();
  }

  #pump(): void {
    if (this.#busy || this.#closed) return;
    const next = this.#between.shift();
    if (next === undefined) {
      if (this.#stopped) {
        this.#stopped = false;
        this.outer.resume();
      }
      const waiting = this.#waiting;
      this.#waiting = null;
      waiting?.(this.#error);
      return;
    }
    this.#busy = true;
    this.#inner.write(next, (error) => {
      this.#busy = false;
      if (error === null) this.#pump();
      else this.#fail(error);
    });
  }

  /** Whatever the outer one would still give out is nothing to anybody: a bomb stops here. */
  #fail(error: Error): void {
    if (this.#closed || this.#error !== null) return;
    this.#error = error;
    this.#between.length = 0;
    this.#waiting = null;
    this.outer.close();
    this.#answer(error);
  }

  #answer(error: Error | null): void {
    const caller = this.#caller;
    this.#caller = null;
    caller?.(error);
  }

  /** Calls back when everything that came out of the outer one went through the inner one. */
  #settle(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#closed) return;
    this.#error ??= error;
    this.#waiting = done;
    this.#pump();
  }

  write(chunk: Uint8Array, done: (error: Error | null) => void): void {
    if (this.#error !== null) {
      done(this.#error);
      return;
    }
    this.#caller = done;
    this.#in += chunk.length;
    this.outer.write(chunk, (error) => this.#settle(error, (settled) => this.#answer(settled)));
  }

  end(done: (error: Error | null) => void): void {
    if (this.#error !== null) {
      done(this.#error);
      return;
    }
    this.#caller = done;
    this.outer.end((error) =>
      this.#settle(error, (settled) => {
        if (settled !== null) this.#answer(settled);
        else this.#inner.end((last) => this.#answer(last));
      }),
    );
  }

  get waits(): boolean {
    return this.outer.waits || this.#inner.waits;
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }

  close(): void {
    this.#closed = true;
    this.#between.length = 0;
    this.outer.close();
    this.#inner.close();
  }
}
