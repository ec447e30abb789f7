// The literals section of a zstd block (RFC 8878 section 3.1.1.3.1), and the Huffman codes it is written in (section 4.2).
import { bitsAt, bitsBackward, corrupt, highestBit, readFseTable } from "./zstd-tables.ts";

/** A code of at most `bits` bits: for each of the next `bits` bits the symbol, and how many of them it takes. */
export interface HuffmanTable {
  readonly bits: number;
  readonly symbols: Uint8Array;
  readonly lengths: Uint8Array;
}

const MOST_BITS = 11;
const RAW = 0;
const RLE = 1;
const COMPRESSED = 2;

/** Reads the section at `from` into `literals`, whose length is the most that is allowed. */
export function readLiterals(
  bytes: Uint8Array,
  from: number,
  to: number,
  literals: Uint8Array,
  previous: HuffmanTable | null,
): { count: number; end: number; huffman: HuffmanTable | null } {
  const head = readHead(bytes, from, to);
  const { type, count, start } = head;
  if (count > literals.length) throw corrupt("more literals than a block can have");
  const end = start + (type === RAW ? count : type === RLE ? 1 : head.size);
  if (end > to) throw corrupt("literals are missing");
  if (type === RAW) literals.set(bytes.subarray(start, end));
  else if (type === RLE) literals.fill(bytes[start] as number, 0, count);
  else {
    const read = type === COMPRESSED ? readHuffman(bytes, start, end) : { huffman: previous, end: start };
    if (read.huffman === null) throw corrupt("there is no earlier code");
    decode(bytes, read.end, end, literals.subarray(0, count), read.huffman, head.streams);
    return { count, end, huffman: read.huffman };
  }
  return { count, end, huffman: previous };
}

interface Head {
  readonly type: number;
  /** Literals. */
  readonly count: number;
  /** Coded bytes. */
  readonly size: number;
  readonly streams: 1 | 4;
  /** The offset after the head. */
  readonly start: number;
}

function readHead(bytes: Uint8Array, from: number, to: number): Head {
  if (from >= to) throw corrupt("literals are missing");
  const first = bytes[from] as number;
  const type = first & 3;
  const format = (first >> 2) & 3;
  const byte = (i: number): number => (from + i < to ? (bytes[from + i] as number) : 0);
  if (type === RAW || type === RLE) {
    if ((format & 1) === 0) return { type, count: first >> 3, size: 0, streams: 1, start: from + 1 };
    const count = (first >> 4) | (byte(1) << 4) | (format === 3 ? byte(2) << 12 : 0);
    return { type, count, size: 0, streams: 1, start: from + (format === 3 ? 3 : 2) };
  }
  const width = format < 2 ? 10 : format === 2 ? 14 : 18;
  const value = first / 16 + byte(1) * 2 ** 4 + byte(2) * 2 ** 12 + byte(3) * 2 ** 20 + byte(4) * 2 ** 28;
  const count = Math.floor(value) % 2 ** width;
  const size = Math.floor(value / 2 ** width) % 2 ** width;
  return { type, count, size, streams: format === 0 ? 1 : 4, start: from + (format < 2 ? 3 : format + 2) };
}

/** Reads the description of a code: the weights of its symbols (section 4.2.1). */
function readHuffman(bytes: Uint8Array, from: number, to: number): { huffman: HuffmanTable; end: number } {
  if (from >= to) throw corrupt("a code is missing");
  const head = bytes[from] as number;
  const end = from + 1 + (head < 128 ? head : (head - 126) >> 1);
  if (end > to) throw corrupt("a code is missing");
  const weights = head < 128 ? fseWeights(bytes, from + 1, end) : plainWeights(bytes, from + 1, head - 127);
  return { huffman: huffmanTable(weights), end };
}

function plainWeights(bytes: Uint8Array, from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => ((bytes[from + (i >> 1)] as number) >> (i % 2 === 0 ? 4 : 0)) & 15);
}

/** Two states take turns, and the last two symbols are those that they are in when the bits are used up (section 4.2.1.2). */
function fseWeights(bytes: Uint8Array, from: number, to: number): number[] {
  const { table, end } = readFseTable(bytes, from, to, { log: 6, symbol: 255 });
  let left = bitsBackward(bytes, end, to);
  const read = (count: number): number => {
    left -= count;
    if (left >= 0) return bitsAt(bytes, end * 8 + left, count);
    // What is not there any more reads as zeros.
    return left + count <= 0 ? 0 : bitsAt(bytes, end * 8, left + count) << -left;
  };
  let state = read(table.log);
  let other = read(table.log);
  if (left < 0) throw corrupt("weights are missing");
  const weights: number[] = [];
  while (left >= 0) {
    weights.push(table.symbols[state] as number);
    if (weights.length > 254) throw corrupt("too many weights");
    const next = (table.next[state] as number) + read(table.bits[state] as number);
    state = other;
    other = next;
  }
  weights.push(table.symbols[state] as number);
  return weights;
}

/** The weight of the last symbol is what is missing to a power of two. */
function huffmanTable(weights: number[]): HuffmanTable {
  let sum = 0;
  for (const weight of weights) {
    if (weight > MOST_BITS) throw corrupt("a weight is too large");
    if (weight > 0) sum += 1 << (weight - 1);
  }
  const bits = sum === 0 ? 0 : highestBit(sum) + 1;
  const left = (1 << bits) - sum;
  if (sum === 0 || bits > MOST_BITS || (left & (left - 1)) !== 0) throw corrupt("weights that do not fit");
  weights.push(highestBit(left) + 1);
  // No code of this kind has fewer than two symbols of the most bits.
  if (weights.filter((weight) => weight === 1).length < 2) throw corrupt("weights that do not fit");
  return { bits, ...codesOf(weights, bits) };
}

/** Codes in the order of their weights, and among those of one weight in the order of their symbols. */
function codesOf(weights: readonly number[], bits: number): { symbols: Uint8Array; lengths: Uint8Array } {
  const symbols = new Uint8Array(1 << bits);
  const lengths = new Uint8Array(1 << bits);
  let at = 0;
  for (let weight = 1; weight <= bits; weight++)
    for (const [symbol, its] of weights.entries()) {
      if (its !== weight) continue;
      const span = 1 << (weight - 1);
      symbols.fill(symbol, at, at + span);
      lengths.fill(bits + 1 - weight, at, at + span);
      at += span;
    }
  if (at !== symbols.length) throw corrupt("weights that do not fit");
  return { symbols, lengths };
}

/** One stream, or four of which the sizes of three stand before them (section 3.1.1.3.1.6). */
function decode(
  bytes: Uint8Array,
  from: number,
  to: number,
  out: Uint8Array,
  huffman: HuffmanTable,
  streams: 1 | 4,
): void {
  if (streams === 1) return decodeStream(bytes, from, to, out, huffman);
  const each = (out.length + 3) >> 2;
  if (to - from < 6 || each * 3 > out.length) throw corrupt("literals are missing");
  let start = from + 6;
  for (let i = 0; i < 4; i++) {
    const size = (bytes[from + i * 2] as number) | ((bytes[from + i * 2 + 1] as number) << 8);
    const end = i === 3 ? to : start + size;
    if (end > to) throw corrupt("literals are missing");
    decodeStream(bytes, start, end, out.subarray(i * each, i === 3 ? out.length : (i + 1) * each), huffman);
    start = end;
  }
}

/** The stream must be used up by as many symbols as are wanted. */
function decodeStream(bytes: Uint8Array, from: number, to: number, out: Uint8Array, huffman: HuffmanTable): void {
  const { bits, symbols, lengths } = huffman;
  const base = from * 8;
  let left = bitsBackward(bytes, from, to);
  for (let i = 0; i < out.length; i++) {
    const code = left >= bits ? bitsAt(bytes, base + left - bits, bits) : bitsAt(bytes, base, left) << (bits - left);
    out[i] = symbols[code] as number;
    left -= lengths[code] as number;
    if (left < 0) throw corrupt("literals are missing");
  }
  if (left !== 0) throw corrupt("more literals than announced");
}
