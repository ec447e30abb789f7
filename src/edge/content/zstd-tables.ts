// The tables of zstd's entropy coding (RFC 8878 section 4): FSE tables, and the reader of backward bit streams that both need.

/** How far a state leads: its symbol, the bits to read, and what is added to them for the next state. */
export interface FseTable {
  /** The table has 2 to this power states. */
  readonly log: number;
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
  readonly next: Uint16Array;
}

export const corrupt = (what: string): Error => new Error(`broken zstd data: ${what}`);

/** The position of the highest bit that is set; `value` is at least 1. */
export const highestBit = (value: number): number => 31 - Math.clz32(value);

/** Up to 25 bits that begin at a bit offset; the array goes on for four bytes at least, whatever stands there. */
export const bitsAt = (bytes: Uint8Array, bit: number, count: number): number => {
  const at = bit >> 3;
  const word =
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24);
  return (word >>> (bit & 7)) & ((1 << count) - 1);
};

/** The bits of a stream that is read from its end: how many there are before the mark in its last byte. Throws for none. */
export function bitsBackward(bytes: Uint8Array, from: number, to: number): number {
  const last = to > from ? (bytes[to - 1] as number) : 0;
  if (last === 0) throw corrupt("a bit stream without an end");
  return (to - from - 1) * 8 + highestBit(last);
}

/** A table from the probabilities of its symbols, of which -1 is "less than one" (section 4.1.1). */
export function fseTable(log: number, probabilities: readonly number[]): FseTable {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const counts = spread(size, probabilities, symbols);
  const bits = new Uint8Array(size);
  const next = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const symbol = symbols[state] as number;
    const count = counts[symbol] as number;
    counts[symbol] = count + 1;
    const more = log - highestBit(count);
    bits[state] = more;
    next[state] = (count << more) - size;
  }
  return { log, symbols, bits, next };
}

/** Gives each symbol its states. Returns the number of states of each. */
function spread(size: number, probabilities: readonly number[], symbols: Uint8Array): number[] {
  let high = size;
  for (const [symbol, p] of probabilities.entries()) if (p === -1) symbols[--high] = symbol;
  const step = (size >> 1) + (size >> 3) + 3;
  let at = 0;
  for (const [symbol, p] of probabilities.entries())
    for (let i = 0; i < p; i++) {
      symbols[at] = symbol;
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
  if (at !== 0) throw corrupt("probabilities that do not fit");
  return probabilities.map((p) => (p === -1 ? 1 : p));
}

/** A table with one symbol, which takes no bits. */
export const oneSymbol = (symbol: number): FseTable => ({
  log: 0,
  symbols: Uint8Array.of(symbol),
  bits: new Uint8Array(1),
  next: new Uint16Array(1),
});

/** Reads the description of a table (section 4.1.1). `end`: the offset after it. */
export function readFseTable(
  bytes: Uint8Array,
  from: number,
  to: number,
  most: { readonly log: number; readonly symbol: number },
): { table: FseTable; end: number } {
  if (from >= to) throw corrupt("a table is missing");
  const log = ((bytes[from] as number) & 15) + 5;
  if (log > most.log) throw corrupt("a table is too large");
  const probabilities: number[] = [];
  let bit = from * 8 + 4;
  for (let left = 1 << log; left > 0; ) {
    const width = highestBit(left + 1) + 1;
    const value = bitsAt(bytes, bit, width);
    // Small values take one bit less.
    const unused = (1 << width) - 2 - left;
    const low = value & ((1 << (width - 1)) - 1);
    const short = low < unused;
    bit += short ? width - 1 : width;
    const probability = (short ? low : value >= 1 << (width - 1) ? value - unused : value) - 1;
    left -= Math.abs(probability);
    probabilities.push(probability);
    if (probability === 0) bit = skipZeros(bytes, bit, probabilities);
    if (left < 0 || probabilities.length > most.symbol + 1 || bit > to * 8) throw corrupt("a table that does not fit");
  }
  return { table: fseTable(log, probabilities), end: (bit + 7) >> 3 };
}

/** After a probability of 0: how many more follow, in pairs of bits. */
function skipZeros(bytes: Uint8Array, from: number, probabilities: number[]): number {
  for (let bit = from; ; ) {
    const more = bitsAt(bytes, bit, 2);
    for (let i = 0; i < more; i++) probabilities.push(0);
    bit += 2;
    if (more < 3 || probabilities.length > 255) return bit;
  }
}
