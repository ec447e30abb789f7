// What may be found in a block of 1,024 records: a Bloom filter of the terms that queries ask for. It stands where an index would: one
// small blob a block instead of a dozen entries a record. It never says no to what is there; it says yes wrongly for one block in fifty.
import { AT, type Row } from "./row.ts";

export const BLOCK = 1_024;
const BITS = 65_536;
const HASHES = 4;
/** Folders of a path that are terms; deeper ones are found through these. */
const MAX_FOLDERS = 8;

/** The block of a record, by its number. */
export const blockOf = (seq: number): number => Math.floor(seq / BLOCK);

/** Columns of words (numbers of the table `words`; 0 stands for null) and of plain numbers that are terms. */
const TERM_COLUMNS = [
  AT.kind,
  AT.client,
  AT.host,
  AT.method,
  AT.status,
  AT.decision,
  AT.rule,
  AT.reason,
  AT.uninspected,
];
const STATUS_CLASS = 100;
const DIGEST = 101;
const ID = 102;
const PATH = 103;

function mix(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** FNV-1a over UTF-16 units, from a state. */
const step = (state: number, code: number): number => Math.imul(state ^ code, 0x01000193);

function textTerm(kind: number, text: string): number {
  let state = 0x811c9dc5 ^ kind;
  for (let i = 0; i < text.length; i++) state = step(state, text.charCodeAt(i));
  return mix(state);
}

/** The term of a number in a column of `TERM_COLUMNS`; null is 0. */
export const numberTerm = (column: number, value: number): number => mix((column << 26) ^ value);
export const statusClassTerm = (status: number): number => numberTerm(STATUS_CLASS, Math.floor(status / 100));
/** At least the first 12 digits of a SHA-256. */
export const digestTerm = (hex: string): number => textTerm(DIGEST, hex.slice(0, 12));
export const idTerm = (id: string): number => textTerm(ID, id);
/** `path` without its query. */
export const pathTerm = (path: string): number => textTerm(PATH, path);

/** The term for all paths that begin with the text: that of the folder which it is in; null: there is none. */
export function folderTerm(start: string): number | null {
  let state = 0x811c9dc5 ^ PATH;
  let term: number | null = null;
  let folders = 0;
  for (let i = 0; i < start.length && folders < MAX_FOLDERS; i++) {
    const code = start.charCodeAt(i);
    if (code === 63) break;
    state = step(state, code);
    if (code !== 47) continue;
    folders++;
    term = mix(~state);
  }
  return term;
}

/** True when all groups have a term that may be in the block. */
export const mayHold = (bits: Uint8Array, groups: readonly (readonly number[])[]): boolean =>
  groups.every((terms) => terms.some((term) => has(bits, term)));

function has(bits: Uint8Array, term: number): boolean {
  const stride = mix(term) | 1;
  for (let i = 0, at = term; i < HASHES; i++, at += stride) {
    const bit = at & (BITS - 1);
    if (((bits[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** The signature of one block, while it grows. */
export class Signature {
  readonly bits: Uint8Array;
  /** For each column the values that are in already, and the last one: it is often the next. */
  readonly #seen = TERM_COLUMNS.map(() => new Set<number>());
  readonly #last: number[] = TERM_COLUMNS.map(() => -1);
  #path: string | null = null;

  /** `bits`: those of a block that has records already. */
  constructor(bits: Uint8Array | null = null) {
    this.bits = bits ?? new Uint8Array(BITS / 8);
  }

  /** Adds a row in which words are numbers; `id`, `path`, digests and `more` are text still. */
  add(row: Row): void {
    for (let i = 0; i < TERM_COLUMNS.length; i++) {
      const value = (row[TERM_COLUMNS[i] as number] as number | null) ?? 0;
      if (value !== this.#last[i]) this.#addNumber(i, value);
    }
    this.#set(idTerm(row[AT.id] as string));
    if (row[AT.sentSha] !== null) this.#set(digestTerm(row[AT.sentSha] as string));
    if (row[AT.receivedSha] !== null) this.#set(digestTerm(row[AT.receivedSha] as string));
    if (row[AT.path] !== null) this.#addPath(row[AT.path] as string);
    if (row[AT.more] !== null) this.#addMore(row[AT.more] as string);
  }

  #addNumber(place: number, value: number): void {
    this.#last[place] = value;
    const seen = this.#seen[place] as Set<number>;
    if (seen.has(value)) return;
    seen.add(value);
    const column = TERM_COLUMNS[place] as number;
    this.#set(numberTerm(column, value));
    if (column === AT.status && value > 0) this.#set(statusClassTerm(value));
  }

  #addPath(path: string): void {
    if (path === this.#path) return;
    this.#path = path;
    let state = 0x811c9dc5 ^ PATH;
    let folders = 0;
    for (let i = 0; i < path.length; i++) {
      const code = path.charCodeAt(i);
      if (code === 63) break;
      state = step(state, code);
      if (code === 47 && folders++ < MAX_FOLDERS) this.#set(mix(~state));
    }
    this.#set(mix(state));
  }

  /** Digests of decoded bodies and of parts. */
  #addMore(more: string): void {
    if (more.length < 66) return;
    for (const [, digest] of more.matchAll(/"([0-9a-f]{64})"/g)) this.#set(digestTerm(digest as string));
  }

  #set(term: number): void {
    const stride = mix(term) | 1;
    for (let i = 0, at = term; i < HASHES; i++, at += stride) {
      const bit = at & (BITS - 1);
      this.bits[bit >>> 3] = (this.bits[bit >>> 3] as number) | (1 << (bit & 7));
    }
  }
}
