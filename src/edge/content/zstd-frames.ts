// The frames of zstd content (RFC 8878 section 3.1), read block by block, so that the window is capped (RFC 9659: 8 MiB) before
// anything is allocated, every byte belongs to something that is decoded, and a bomb stops between two blocks. The checksum
// after a frame is not compared: who reads the content at the end does that.
import { ByteWindow } from "../../filters/byte-window.ts";
import { ZstdBlocks } from "./zstd-block.ts";

const MAGIC = 0xfd2fb528;
const LARGEST_WINDOW = 8 * 1024 * 1024;
const RAW = 0;
const RLE = 1;
const RESERVED = 3;

interface Frame {
  /** Bytes of content, where the frame says how many; otherwise null. */
  readonly size: number | null;
  /** Bytes of the checksum after the last block. */
  readonly checksum: number;
  /** Bytes of content so far. */
  given: number;
}

export class ZstdFrames {
  readonly #out: (plain: Uint8Array) => void;
  readonly #blocks = new ZstdBlocks();
  /** Not yet decoded; less than a block and a header once `next` said false. */
  readonly #rest = new ByteWindow();
  /** The frame that is being decoded. */
  #frame: Frame | null = null;

  /** `out` gets borrowed bytes, during `next`. */
  constructor(out: (plain: Uint8Array) => void) {
    this.#out = out;
  }

  /** Takes a chunk, which is copied. */
  push(chunk: Uint8Array): void {
    this.#rest.append(chunk);
  }

  /** Takes a header or a block. False: more bytes are needed. Throws an Error where this is no zstd. */
  next(): boolean {
    return this.#frame === null ? this.#openFrame() : this.#takeBlock(this.#frame);
  }

  /** Bytes that wait for the rest of their header or block. */
  get waiting(): number {
    return this.#rest.end - this.#rest.start;
  }

  /** True between two frames. */
  get whole(): boolean {
    return this.#frame === null && this.waiting === 0;
  }

  /** Frees the window, which is counted among those of all content; must be called once nothing more is decoded. */
  close(): void {
    this.#blocks.close();
  }

  #openFrame(): boolean {
    const bytes = this.#rest.slice(this.#rest.start, this.#rest.end);
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
    this.#blocks.begin(window);
    const size = sizeBytes > 0 ? contentSize(bytes, length - sizeBytes, sizeBytes) : null;
    this.#frame = { size, checksum: (descriptor & 0x04) === 0 ? 0 : 4, given: 0 };
    this.#rest.dropTo(this.#rest.start + length);
    return true;
  }

  #takeBlock(frame: Frame): boolean {
    const bytes = this.#rest.slice(this.#rest.start, this.#rest.end);
    if (bytes.length < 3) return false;
    const header = (bytes[0] as number) | ((bytes[1] as number) << 8) | ((bytes[2] as number) << 16);
    const last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type === RESERVED) throw new Error("a block of an unknown type");
    if (size > this.#blocks.largest) throw new Error("a block is too large");
    const end = 3 + (type === RLE ? 1 : size);
    const length = end + (last ? frame.checksum : 0);
    if (bytes.length < length) return false;
    this.#rest.dropTo(this.#rest.start + length);
    const plain = this.#contentOf(type, size, bytes.subarray(3, end));
    frame.given += plain.length;
    if (frame.size !== null && (last ? frame.given !== frame.size : frame.given > frame.size))
      throw new Error("another length than the frame says");
    if (last) this.#frame = null;
    if (plain.length > 0) this.#out(plain);
    return true;
  }

  #contentOf(type: number, size: number, block: Uint8Array): Uint8Array {
    if (type === RAW) return this.#blocks.raw(block);
    return type === RLE ? this.#blocks.repeated(block[0] as number, size) : this.#blocks.compressed(block);
  }
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
