// The sequences section of a zstd block (RFC 8878 section 3.1.1.3.2): how literals and earlier content make up its content.
import { bitsAt, bitsBackward, corrupt, type FseTable, fseTable, oneSymbol, readFseTable } from "./zstd-tables.ts";

/** Tables for the lengths of literals, offsets, and lengths of matches, as a block may take over from the one before it. */
export type Tables = readonly [FseTable | null, FseTable | null, FseTable | null];

export interface Sequences {
  readonly count: number;
  readonly tables: Tables;
  /** Where the bits of the sequences begin. */
  readonly from: number;
}

/** What a sequence may ask for; it fills in what it is. */
export interface Sequence {
  literals: number;
  offset: number;
  match: number;
}

/** An offset of more bits is farther back than any window. */
const MOST_OFFSET_BITS = 24;
const MOST = [
  { log: 9, symbol: 35 },
  { log: 8, symbol: 31 },
  { log: 9, symbol: 52 },
] as const;

/** Section 3.1.1.3.2.1.1: for each code its additional bits; its value is what all codes before it cover. */
const LITERAL_BITS = [
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
const MATCH_BITS = [
  ...Array.from({ length: 32 }, () => 0),
  ...[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
];

const baselines = (bits: readonly number[], first: number): number[] => {
  let sum = first;
  return bits.map((n) => {
    const base = sum;
    sum += 1 << n;
    return base;
  });
};
const LITERAL_BASE = baselines(LITERAL_BITS, 0);
const MATCH_BASE = baselines(MATCH_BITS, 3);

/** Section 3.1.1.3.2.2. */
const DEFAULTS: readonly FseTable[] = [
  fseTable(
    6,
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1],
  ),
  fseTable(5, [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]),
  fseTable(6, [1, 4, 3, 2, 2, 2, 2, 2, 2, ...Array.from({ length: 37 }, () => 1), -1, -1, -1, -1, -1, -1, -1]),
];

/** Reads the head of the section: how many there are, and their tables. */
export function readSequences(bytes: Uint8Array, from: number, to: number, previous: Tables): Sequences {
  const byte = (i: number): number => {
    if (from + i >= to) throw corrupt("the sequences are missing");
    return bytes[from + i] as number;
  };
  const first = byte(0);
  if (first === 0) {
    if (from + 1 !== to) throw corrupt("data after the last sequence");
    return { count: 0, tables: previous, from: to };
  }
  const count = first < 128 ? first : first < 255 ? ((first - 128) << 8) + byte(1) : byte(1) + (byte(2) << 8) + 0x7f00;
  const head = first < 128 ? 1 : first < 255 ? 2 : 3;
  if (count === 0) throw corrupt("no sequences, said in a way that nobody says it");
  const modes = byte(head);
  if ((modes & 3) !== 0) throw corrupt("a reserved bit is set");
  let at = from + head + 1;
  const tables = previous.map((before, i) => {
    const read = readTable(bytes, at, to, i, (modes >> (6 - i * 2)) & 3, before);
    at = read.end;
    return read.table;
  });
  return { count, tables: tables as unknown as Tables, from: at };
}

function readTable(
  bytes: Uint8Array,
  from: number,
  to: number,
  which: number,
  mode: number,
  before: FseTable | null,
): { table: FseTable; end: number } {
  const most = MOST[which] as (typeof MOST)[number];
  if (mode === 0) return { table: DEFAULTS[which] as FseTable, end: from };
  if (mode === 2) return readFseTable(bytes, from, to, most);
  if (mode === 3) {
    if (before === null) throw corrupt("there is no earlier table");
    return { table: before, end: from };
  }
  if (from >= to) throw corrupt("a table is missing");
  const symbol = bytes[from] as number;
  if (symbol > most.symbol) throw corrupt("a symbol that does not exist");
  return { table: oneSymbol(symbol), end: from + 1 };
}

/** Gives out each sequence (always the same object, filled anew); the bits must be used up by the last one. */
export function eachSequence(
  bytes: Uint8Array,
  to: number,
  { count, tables, from }: Sequences,
  repeats: Uint32Array,
  take: (sequence: Sequence) => void,
): void {
  const [literal, offset, match] = tables as readonly [FseTable, FseTable, FseTable];
  const base = from * 8;
  let left = bitsBackward(bytes, from, to);
  const read = (bits: number): number => {
    left -= bits;
    if (left < 0) throw corrupt("sequences are missing");
    return bitsAt(bytes, base + left, bits);
  };
  const sequence: Sequence = { literals: 0, offset: 0, match: 0 };
  let l = read(literal.log);
  let o = read(offset.log);
  let m = read(match.log);
  for (let i = 1; ; i++) {
    const literalCode = literal.symbols[l] as number;
    const matchCode = match.symbols[m] as number;
    const offsetBits = offset.symbols[o] as number;
    if (offsetBits > MOST_OFFSET_BITS) throw corrupt("an offset outside the window");
    const value = (1 << offsetBits) + read(offsetBits);
    sequence.match = (MATCH_BASE[matchCode] as number) + read(MATCH_BITS[matchCode] as number);
    sequence.literals = (LITERAL_BASE[literalCode] as number) + read(LITERAL_BITS[literalCode] as number);
    sequence.offset = offsetOf(value, sequence.literals, repeats);
    take(sequence);
    if (i === count) break;
    l = (literal.next[l] as number) + read(literal.bits[l] as number);
    m = (match.next[m] as number) + read(match.bits[m] as number);
    o = (offset.next[o] as number) + read(offset.bits[o] as number);
  }
  if (left !== 0) throw corrupt("data after the last sequence");
}

/** Values up to 3 name one of the last three offsets (section 3.1.1.5). */
function offsetOf(value: number, literals: number, repeats: Uint32Array): number {
  const [first, second, third] = repeats as unknown as [number, number, number];
  const which = value > 3 ? 4 : value - (literals === 0 ? 0 : 1);
  if (which === 0) return first;
  const offset = which === 4 ? value - 3 : which === 3 ? first - 1 : which === 2 ? third : second;
  if (offset === 0) throw corrupt("an offset of nothing");
  if (which !== 1) repeats[2] = second;
  repeats[1] = first;
  repeats[0] = offset;
  return offset;
}
