// gzip, deflate and br, by Node's zlib, which works on its own threads.
import { constants, createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib";
import type { Decoder } from "../../filters/decoder.ts";

type Done = (error: Error | null) => void;
type Out = (plain: Uint8Array) => void;
type Zlib = ReturnType<typeof createGunzip> | ReturnType<typeof createBrotliDecompress>;

const CHUNK = 65536;

/** gzip, of one or several members (RFC 1952). */
export const gzipDecoder = (out: Out): Decoder => new ZlibDecoder(createGunzip({ chunkSize: CHUNK }), out);

/** Brotli (RFC 7932). */
export const brotliDecoder = (out: Out): Decoder =>
  new ZlibDecoder(createBrotliDecompress({ chunkSize: CHUNK, flush: constants.BROTLI_OPERATION_PROCESS }), out);

/** What RFC 9110 calls deflate is the zlib format; some send raw deflate data. The first two bytes tell. */
export const deflateDecoder = (out: Out): Decoder => new DeflateDecoder(out);

class ZlibDecoder implements Decoder {
  /** Everything but the last bits is given out at once. */
  readonly waits = false;
  readonly #zlib: Zlib;
  #done: Done | null = null;
  #fed = 0;
  /** True: it has taken everything, and what came out of it has not left yet, since it is paused. */
  #written = false;
  #ended = false;
  #over = false;
  #error: Error | null = null;
  #closed = false;

  constructor(zlib: Zlib, out: Out) {
    this.#zlib = zlib;
    zlib.on("data", (plain: Buffer) => {
      if (!this.#closed) out(plain);
      if (this.#written && zlib.readableLength === 0) this.#finish(this.#error);
    });
    zlib.on("error", (error: Error) => {
      this.#error = error;
      this.#finish(error);
    });
    // The coded data says that it is over. When there is more, nobody has looked at it.
    zlib.on("end", () => {
      this.#over = true;
      const all = this.#ended && zlib.bytesWritten >= this.#fed;
      if (!all) this.#error = new Error("data after the end of the coded content");
      this.#finish(this.#error);
    });
  }

  #finish(error: Error | null): void {
    const done = this.#done;
    this.#done = null;
    this.#written = false;
    if (!this.#closed) done?.(error);
  }

  write(chunk: Uint8Array, done: Done): void {
    if (this.#error !== null || this.#over) {
      done(this.#error ?? new Error("data after the end of the coded content"));
      return;
    }
    this.#fed += chunk.length;
    this.#done = done;
    this.#zlib.write(chunk, (error) => {
      if (this.#done !== done) return;
      if (!error && this.#zlib.readableLength > 0) this.#written = true;
      else this.#finish(error ?? null);
    });
  }

  end(done: Done): void {
    if (this.#error !== null || this.#fed === 0) {
      done(this.#error);
      return;
    }
    this.#ended = true;
    this.#done = done;
    this.#zlib.end();
  }

  pause(): void {
    this.#zlib.pause();
  }

  resume(): void {
    this.#zlib.resume();
  }

  close(): void {
    this.#closed = true;
    this.#done = null;
    this.#zlib.destroy();
  }
}

class DeflateDecoder implements Decoder {
  readonly waits = false;
  readonly #out: Out;
  #first: number | null = null;
  #decoder: ZlibDecoder | null = null;

  constructor(out: Out) {
    this.#out = out;
  }

  write(chunk: Uint8Array, done: Done): void {
    if (this.#decoder !== null || chunk.length === 0) {
      if (this.#decoder === null) done(null);
      else this.#decoder.write(chunk, done);
      return;
    }
    const whole = this.#first === null ? chunk : Buffer.concat([Buffer.of(this.#first), chunk]);
    if (whole.length < 2) {
      this.#first = whole[0] as number;
      done(null);
      return;
    }
    this.#open(hasZlibHeader(whole)).write(whole, done);
  }

  #open(zlibFormat: boolean): ZlibDecoder {
    const zlib = zlibFormat ? createInflate({ chunkSize: CHUNK }) : createInflateRaw({ chunkSize: CHUNK });
    this.#decoder = new ZlibDecoder(zlib, this.#out);
    return this.#decoder;
  }

  end(done: Done): void {
    if (this.#decoder !== null) this.#decoder.end(done);
    else done(this.#first === null ? null : new Error("unexpected end of file"));
  }

  pause(): void {
    this.#decoder?.pause();
  }

  resume(): void {
    this.#decoder?.resume();
  }

  close(): void {
    this.#decoder?.close();
  }
}

/** RFC 1950 section 2.2: method 8, and a check that makes the first two bytes a multiple of 31. */
export function hasZlibHeader(bytes: Uint8Array): boolean {
  const [first = 0, second = 0] = bytes;
  return (first & 0x0f) === 8 && first >> 4 <= 7 && (first * 256 + second) % 31 === 0;
}
