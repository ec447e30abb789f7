// What may be found in a block of 1,024 records: a Bloom filter of the terms that queries ask for. It stands where an index would: one
// small blob a block instead of a dozen entries a record. It never says no to what is there; it says yes wrongly for one block in fifty.
import { ESCAPED, type LineValues, NULL, PLAIN } from "./line-values.ts";
import type { PackedRecord } from "./packed.ts";
import { AT } from "./row.ts";

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
/** A query names at least so many digits of a digest. */
const DIGEST_DIGITS = 12;

function mix(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** FNV-1a over UTF-16 units, from a state. */
const step = (state: number, code: number): number => Math.imul(state ^ code, 0x01000193);

const begin = (kind: number): number => 0x811c9dc5 ^ kind;

function textTerm(kind: number, text: string): number {
  let state = begin(kind);
  for (let i = 0; i < text.length; i++) state = step(state, text.charCodeAt(i));
  return mix(state);
}

/** The term of a number in a column of `TERM_COLUMNS`; null is 0. */
export const numberTerm = (column: number, value: number): number => mix((column << 26) ^ value);
export const statusClassTerm = (status: number): number => numberTerm(STATUS_CLASS, Math.floor(status / 100));
/** At least the first 12 digits of a SHA-256. */
export const digestTerm = (hex: string): number => textTerm(DIGEST, hex.slice(0, DIGEST_DIGITS));
export const idTerm = (id: string): number => textTerm(ID, id);
/** `path` without its query. */
export const pathTerm = (path: string): number => textTerm(PATH, path);

/** The term for all paths that begin with the text: that of the folder which it is in; null: there is none. */
export function folderTerm(start: string): number | null {
  let state = begin(PATH);
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

  /** `bits`: those of a block that has records already. */
  constructor(bits: Uint8Array | null = null) {
    this.bits = bits ?? new Uint8Array(BITS / 8);
  }

  /** Adds the record of a line in which words are numbers. */
  add(line: LineValues): void {
    for (let i = 0; i < TERM_COLUMNS.length; i++) {
      const column = TERM_COLUMNS[i] as number;
      const value = line.kinds[column] === NULL ? 0 : (line.numbers[column] as number);
      if (value !== this.#last[i]) this.#addNumber(i, value);
    }
    this.#addText(line, AT.id, ID, Number.MAX_SAFE_INTEGER);
    this.#addText(line, AT.sentSha, DIGEST, DIGEST_DIGITS);
    this.#addText(line, AT.receivedSha, DIGEST, DIGEST_DIGITS);
    this.#addPath(line);
    if (line.kinds[AT.more] === ESCAPED) this.#addMore(line.text(AT.more));
  }

  /** Adds a packed record that was read whole: the same terms as its line has. */
  addPacked(record: PackedRecord): void {
    for (let i = 0; i < TERM_COLUMNS.length; i++) {
      const value = record.numbers[TERM_COLUMNS[i] as number] as number;
      if (value !== this.#last[i]) this.#addNumber(i, value);
    }
    this.#set(idTerm(record.text(AT.id) ?? ""));
    for (const place of [AT.sentSha, AT.receivedSha]) {
      const digest = record.text(place);
      if (digest !== null) this.#set(digestTerm(digest));
    }
    const path = record.text(AT.path);
    if (path !== null) this.#addPathText(path);
    const more = record.text(AT.more);
    if (more !== null) this.#addMore(more);
  }

  #addText(line: LineValues, place: number, kind: number, most: number): void {
    if (line.kinds[place] === NULL) return;
    if (line.kinds[place] === ESCAPED) return this.#set(textTerm(kind, line.text(place).slice(0, most)));
    const from = line.from[place] as number;
    const to = Math.min(line.to[place] as number, from + most);
    let state = begin(kind);
    for (let i = from; i < to; i++) state = step(state, line.bytes[i] as number);
    this.#set(mix(state));
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

  #addPath(line: LineValues): void {
    if (line.kinds[AT.path] === NULL) return;
    // UTF-16 units of what is ASCII are its bytes.
    if (line.kinds[AT.path] === PLAIN)
      this.#addFolders(line.bytes, line.from[AT.path] as number, line.to[AT.path] as number);
    else this.#addPathText(line.text(AT.path));
  }

  #addPathText(path: string): void {
    const units = new Uint16Array(path.length);
    for (let i = 0; i < path.length; i++) units[i] = path.charCodeAt(i);
    this.#addFolders(units, 0, units.length);
  }

  #addFolders(units: Uint8Array | Uint16Array, from: number, to: number): void {
    let state = begin(PATH);
    let folders = 0;
    for (let i = from; i < to; i++) {
      const code = units[i] as number;
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
