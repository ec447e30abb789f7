// The content of zstd blocks (RFC 8878 section 3.1.1.2), and the window of earlier content that they refer to. What one block
// costs is bounded by the 128 KiB it may have, and the window by what its frame said: nothing grows with what a sequence asks for.
import { ProxyError } from "../../shared/errors.ts";
import { type HuffmanTable, readLiterals } from "./zstd-literals.ts";
import { eachSequence, readSequences, type Sequence, type Tables } from "./zstd-sequences.ts";
import { corrupt } from "./zstd-tables.ts";

export const LARGEST_BLOCK = 128 * 1024;
/** Content beyond the window before it is moved to the front, as a part of the window: each byte is moved four times. */
const SLACK = 1 / 4;
const SMALLEST = 4096;
/** Bytes that are read at once. */
const PADDING = 8;

/** Bytes that the windows of all zstd content may have together: a few bytes of a bomb make one as large as it may be. */
const ALL_WINDOWS = 256 * 1024 * 1024;
let windows = 0;

/** What one block needs while it is decoded, whose it is: nothing else is decoded meanwhile. */
const INPUT = new Uint8Array(LARGEST_BLOCK + PADDING);
const LITERALS = new Uint8Array(LARGEST_BLOCK);

/** So few bytes are copied faster one by one. */
const FEW = 48;

/** A buffer that grows where it stands and gives its memory back at once (ES2024); what is outgrown or left would stay for long. */
type Room = ArrayBuffer & { resize(bytes: number): void };
const roomOf = (most: number): Room =>
  new (ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => Room)(0, {
    maxByteLength: most,
  });

export class ZstdBlocks {
  #memory: Room = roomOf(0);
  #window = new Uint8Array(this.#memory);
  /** Bytes that the memory may grow to. */
  #most = 0;
  /** Bytes of content in the window. */
  #filled = 0;
  #windowSize = 0;
  #largest = 0;
  readonly #repeats = new Uint32Array(3);
  #huffman: HuffmanTable | null = null;
  #tables: Tables = [null, null, null];

  /** A frame begins, with a window of so many bytes. */
  begin(windowSize: number): void {
    const most = windowSize + Math.max(LARGEST_BLOCK, Math.ceil(windowSize * SLACK));
    if (most > this.#most) this.#reserve(most);
    this.#windowSize = windowSize;
    this.#largest = Math.min(LARGEST_BLOCK, windowSize);
    this.#filled = 0;
    this.#repeats.set([1, 4, 8]);
    this.#huffman = null;
    this.#tables = [null, null, null];
  }

  /** Addresses, and no memory. */
  #reserve(most: number): void {
    this.close();
    this.#most = most;
    this.#memory = roomOf(most);
    this.#window = new Uint8Array(this.#memory);
  }

  /** The most bytes that a block of this frame may have, coded or not. */
  get largest(): number {
    return this.#largest;
  }

  /** The bytes themselves. Returns the content (borrowed, as in the other two). */
  raw(bytes: Uint8Array): Uint8Array {
    const at = this.#room();
    this.#window.set(bytes, at);
    return this.#added(bytes.length);
  }

  /** One byte so many times. */
  repeated(byte: number, count: number): Uint8Array {
    const at = this.#room();
    this.#window.fill(byte, at, at + count);
    return this.#added(count);
  }

  compressed(coded: Uint8Array): Uint8Array {
    const input = INPUT;
    input.set(coded);
    input.fill(0, coded.length, coded.length + PADDING);
    const literals = LITERALS.subarray(0, this.#largest);
    const read = readLiterals(input, 0, coded.length, literals, this.#huffman);
    this.#huffman = read.huffman;
    const sequences = readSequences(input, read.end, coded.length, this.#tables);
    this.#tables = sequences.tables;
    const start = this.#room();
    let at = start;
    let used = 0;
    const end = start + this.#largest;
    if (sequences.count > 0)
      eachSequence(input, coded.length, sequences, this.#repeats, (sequence) => {
        if (used + sequence.literals > read.count) throw corrupt("literals are missing");
        if (at + sequence.literals + sequence.match > end) throw corrupt("more content than a block can have");
        copy(literals, used, this.#window, at, sequence.literals);
        used += sequence.literals;
        at = this.#copyMatch(at + sequence.literals, sequence);
      });
    if (at + read.count - used > end) throw corrupt("more content than a block can have");
    this.#window.set(literals.subarray(used, read.count), at);
    return this.#added(at + read.count - used - start);
  }

  /** A match may reach into what it is making. Returns the offset after it. */
  #copyMatch(at: number, { offset, match }: Sequence): number {
    if (offset > at || offset > this.#windowSize) throw corrupt("an offset outside the window");
    const window = this.#window;
    if (offset >= match && match > FEW) window.copyWithin(at, at - offset, at - offset + match);
    else for (let i = at; i < at + match; i++) window[i] = window[i - offset] as number;
    return at + match;
  }

  #added(count: number): Uint8Array {
    this.#filled += count;
    return this.#window.subarray(this.#filled - count, this.#filled);
  }

  /** Where the next block begins; there is room for a whole one. */
  #room(): number {
    const needed = this.#filled + this.#largest;
    if (needed <= this.#window.length) return this.#filled;
    if (needed <= this.#most) {
      this.#enlarge(Math.min(this.#most, Math.max(SMALLEST, needed * 2)));
      return this.#filled;
    }
    this.#window.copyWithin(0, this.#filled - this.#windowSize, this.#filled);
    this.#filled = this.#windowSize;
    return this.#filled;
  }

  #enlarge(size: number): void {
    const more = size - this.#window.length;
    if (windows + more > ALL_WINDOWS) throw new ProxyError("busy", "the windows of zstd content fill the memory");
    windows += more;
    this.#memory.resize(size);
  }

  /** Gives the window back. Nothing is decoded any more. */
  close(): void {
    windows -= this.#window.length;
    this.#memory.resize(0);
  }
}

function copy(from: Uint8Array, at: number, to: Uint8Array, start: number, count: number): void {
  if (count > FEW) to.set(from.subarray(at, at + count), start);
  else for (let i = 0; i < count; i++) to[start + i] = from[at + i] as number;
}
