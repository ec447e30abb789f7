// The chunked transfer coding (RFC 9112 section 7.1), read strictly. Extensions are checked and dropped.

import type { Fields } from "./fields.ts";
import { isToken, parseTrailers } from "./parse-head.ts";

/** Bytes: of a chunk-size line's extensions, of a trailer section. */
export const CHUNK_BOUNDS = { extension: 1024, trailers: 8192 } as const;

const SIZE = 0;
const EXTENSION = 1;
const SIZE_LF = 2;
const DATA = 3;
const DATA_CR = 4;
const DATA_LF = 5;
const TRAILER = 6;

const HEX = new Int8Array(256).fill(-1);
for (let c = 0; c < 256; c++) {
  const digit = Number.parseInt(String.fromCharCode(c), 16);
  if (!Number.isNaN(digit)) HEX[c] = digit;
}
const EXTENSIONS =
  /^(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)+$/;
/** In a trailer section these are an attack, not a mistake. */
const FRAMING = /^(?:content-length|transfer-encoding|host|(?:proxy-)?connection)$/i;
/** What may not stand in trailers (RFC 9110 section 6.5.1): dropped and counted. */
const NOT_IN_TRAILERS =
  /^(?:trailer|te|upgrade|expect|authorization|set-cookie|cookie|content-(?:type|encoding|range|location)|proxy-.*|keep-alive|cache-control|max-forwards|range|if-.*|www-authenticate|location|retry-after|vary|age|expires|date|via)$/i;

/** Receives content: a borrowed range of the buffer being read. */
export type ChunkSink = (b: Buffer, start: number, end: number) => void;

/** Reads one chunked body. */
export class ChunkedReader {
  private state = SIZE;
  private left = 0;
  private digits = 0;
  private extension = "";
  private tail: Buffer | null = null;
  private tailLength = 0;
  /** True once the last chunk and the trailer section have been read. */
  done = false;
  /** The trailer fields that may go on, or null. */
  trailers: Fields | null = null;
  /** How many trailer fields were dropped. */
  dropped = 0;

  /** Reads `b[i..end)`; hands content to `sink`. Returns the index after what it took, or -1 for bad framing. */
  read(b: Buffer, i: number, end: number, sink: ChunkSink): number {
    while (i < end) {
      if (this.state === DATA) {
        const n = Math.min(this.left, end - i);
        sink(b, i, i + n);
        i += n;
        this.left -= n;
        if (this.left === 0) this.state = DATA_CR;
        continue;
      }
      if (this.state === TRAILER) {
        if (!this.trailer(b[i++] as number)) return -1;
        if (this.done) return i;
        continue;
      }
      if (!this.line(b[i++] as number)) return -1;
    }
    return i;
  }

  /** One byte of a chunk-size line or of the line end after data. False: bad framing. */
  private line(c: number): boolean {
    switch (this.state) {
      case SIZE:
        return this.size(c);
      case EXTENSION:
        if (c === 13) {
          if (!EXTENSIONS.test(this.extension)) return false;
          this.extension = "";
          this.state = SIZE_LF;
          return true;
        }
        if (c !== 9 && (c < 32 || c === 127)) return false;
        if (this.extension.length >= CHUNK_BOUNDS.extension) return false;
        this.extension += String.fromCharCode(c);
        return true;
      case SIZE_LF:
        if (c !== 10) return false;
        this.digits = 0;
        this.state = this.left === 0 ? TRAILER : DATA;
        return true;
      case DATA_CR:
        this.state = DATA_LF;
        return c === 13;
      default:
        this.state = SIZE;
        return c === 10;
    }
  }

  private size(c: number): boolean {
    const digit = HEX[c] as number;
    if (digit >= 0) {
      this.left = this.left * 16 + digit;
      return ++this.digits <= 16 && this.left <= Number.MAX_SAFE_INTEGER;
    }
    if (this.digits === 0) return false;
    if (c === 13) this.state = SIZE_LF;
    else if (c === 59) {
      this.state = EXTENSION;
      this.extension = ";";
    } else return false;
    return true;
  }

  private trailer(c: number): boolean {
    this.tail ??= Buffer.allocUnsafe(CHUNK_BOUNDS.trailers);
    if (this.tailLength === CHUNK_BOUNDS.trailers) return false;
    const tail = this.tail;
    tail[this.tailLength++] = c;
    const n = this.tailLength;
    if (c !== 10) return true;
    if (n < 2 || tail[n - 2] !== 13) return false;
    if (n > 2 && (n < 4 || tail[n - 3] !== 10)) return true;
    const fields = parseTrailers(tail, n);
    this.tail = null;
    return fields !== null && this.accept(fields);
  }

  private accept(fields: Fields): boolean {
    const kept: Fields = [];
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i] as string;
      if (FRAMING.test(name) || !isToken(name)) return false;
      if (NOT_IN_TRAILERS.test(name)) this.dropped++;
      else kept.push(name, fields[i + 1] as string);
    }
    this.trailers = kept.length > 0 ? kept : null;
    this.done = true;
    return true;
  }
}
