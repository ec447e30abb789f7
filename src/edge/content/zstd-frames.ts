// The frames of zstd content (RFC 8878 section 3.1), read block by block, so that the window is capped (RFC 9659: 8 MiB) before
// anything is allocated, every byte belongs to something that is decoded, and a bomb stops between two blocks; fzstd decodes.
import { Decompress } from "fzstd";

const MAGIC = 0xfd2fb528;
const LARGEST_WINDOW = 8 * 1024 * 1024;
const LARGEST_BLOCK = 128 * 1024;
const RLE = 1;
const RESERVED = 3;

interface Frame {
  readonly inflate: Decompress;
  /** Waits for the first block. */
  header: Uint8Array;
  /** Bytes of the checksum after the last block. */
  readonly checksum: number;
}

export class ZstdFrames {
  readonly #out: (plain: Uint8Array) => void;
  /** Not yet decoded; less than a block and a header once `next` said false. */
  #rest: Uint8Array = new Uint8Array(0);
  /** The frame that is being decoded. */
  #frame: Frame | null = null;

  /** `out` gets borrowed bytes, during `next`. */
  constructor(out: (plain: Uint8Array) => void) {
    this.#out = out;
  }

  /** Takes a chunk, which must stay as it is until `keep` or the last `next`. */
  push(chunk: Uint8Array): void {
    this.#rest = this.#rest.length === 0 ? chunk : joined(this.#rest, chunk);
  }

  /** Takes a header or a block. False: more bytes are needed. Throws an Error where this is no zstd. */
  next(): boolean {
    return this.#frame === null ? this.#openFrame() : this.#takeBlock(this.#frame);
  }

  /** What is left is copied: the chunk is the caller's. */
  keep(): void {
    this.#rest = new Uint8Array(this.#rest);
  }

  /** True between two frames. */
  get whole(): boolean {
    return this.#frame === null && this.#rest.length === 0;
  }

  #openFrame(): boolean {
    const bytes = this.#rest;
    if (bytes.length < 5) return false;
    if (word(bytes, 0) !== MAGIC) throw new Error("no zstd frame");
    const descriptor = bytes[4] as number;
    const single = (descriptor & 0x20) !== 0;
    if ((descriptor & 0x08) !== 0) throw new Error("a reserved bit is set");
    if ((descriptor & 0x03) !== 0) throw new Error("a dictionary is needed");
    const sizeBytes = descriptor >> 6 === 0 ? (single ? 1 : 0) : 1 << (descriptor >> 6);
    const length = 5 + (single ? 0 : 1) + sizeBytes;
    if (bytes.length < length) return false;
    const window = single ? contentSize(bytes, 5, sizeBytes) : windowSize(bytes[5] as number);
    if (window > LARGEST_WINDOW) throw new Error("the window is larger than 8 MiB");
    const inflate = new Decompress((plain) => {
      if (plain.length > 0) this.#out(plain);
    });
    this.#frame = { inflate, header: bytes.slice(0, length), checksum: (descriptor & 0x04) === 0 ? 0 : 4 };
    this.#rest = bytes.subarray(length);
    return true;
  }

  #takeBlock(frame: Frame): boolean {
    const bytes = this.#rest;
    if (bytes.length < 3) return false;
    const header = (bytes[0] as number) | ((bytes[1] as number) << 8) | ((bytes[2] as number) << 16);
    const last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type === RESERVED) throw new Error("a block of an unknown type");
    if (size > LARGEST_BLOCK) throw new Error("a block is too large");
    const length = 3 + (type === RLE ? 1 : size) + (last ? frame.checksum : 0);
    if (bytes.length < length) return false;
    // Two pieces would make fzstd collect them: header and first block go in one.
    const block = bytes.subarray(0, length);
    this.#rest = bytes.subarray(length);
    const input = frame.header.length > 0 ? joined(frame.header, block) : new Uint8Array(block);
    frame.header = new Uint8Array(0);
    if (last) this.#frame = null;
    frame.inflate.push(input, last);
    return true;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

const word = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)) >>>
  0;

/** RFC 8878 section 3.1.1.1.2. */
function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** RFC 8878 section 3.1.1.1.4: little-endian; of two bytes, 256 more. */
function contentSize(bytes: Uint8Array, at: number, length: number): number {
  let size = length === 2 ? 256 : 0;
  for (let i = 0; i < length; i++) size += (bytes[at + i] as number) * 2 ** (8 * i);
  return size;
}
