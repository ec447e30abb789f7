// Records as the database keeps them: packed one behind the other, up to some hundred in one value, which is called a run. Binding a
// column, running a statement and making room for a row cost SQLite more than all else that storing a record does. Words are their
// numbers here; the values stand in the order of a row, so that what queries test is in front.
import { AT, ROW_KEYS, type Row, WORD_KEYS } from "./row.ts";

const COUNT = ROW_KEYS.length;
const TEXTS: readonly number[] = [AT.path, AT.id, AT.parent, AT.more];
const DIGESTS: readonly number[] = [AT.sentSha, AT.receivedSha];
/** How each is packed: numbers and words, texts, digests. */
export const FORMS = Uint8Array.from(ROW_KEYS, (_, i) => (TEXTS.includes(i) ? 1 : DIGESTS.includes(i) ? 2 : 0));

/** The places of words that are packed as numbers. */
export const WORD_PLACES: readonly number[] = WORD_KEYS.map((key) => AT[key]);

export const HASH_BYTES = 32;
/** In front of each record: how many bytes follow. */
export const LENGTH_BYTES = 4;
/** Stands for a number that is no whole number from 0 on. */
export const FLOAT = 1;

/** Where the records of a run lie. Anything can be read: what is left over at the end of a damaged one is its last record. */
export class Run {
  readonly bytes: Buffer;
  /** Where each record begins, behind its length, and ends. */
  readonly #places: number[] = [];

  constructor(packed: unknown) {
    const known = packed instanceof Uint8Array ? packed : new Uint8Array(0);
    const bytes = Buffer.from(known.buffer, known.byteOffset, known.byteLength);
    this.bytes = bytes;
    let at = 0;
    do {
      const from = Math.min(at + LENGTH_BYTES, bytes.length);
      const length = from - at === LENGTH_BYTES ? bytes.readUInt32BE(at) : 0;
      at = length > 0 && from + length <= bytes.length ? from + length : bytes.length;
      this.#places.push(from, at);
    } while (at < bytes.length);
  }

  /** At least one. */
  get count(): number {
    return this.#places.length / 2;
  }

  from(i: number): number {
    return this.#places[2 * i] as number;
  }

  to(i: number): number {
    return this.#places[2 * i + 1] as number;
  }

  /** The hash (hex) of a record; of one that is damaged whatever stands there, so that the chain goes on and `verify` tells. */
  hash(i: number): string {
    return this.bytes.toString("hex", this.from(i), Math.min(this.from(i) + HASH_BYTES, this.to(i)));
  }

  /** The run without its first `count` records. */
  without(count: number): Uint8Array {
    return this.bytes.subarray(count < this.count ? this.from(count) - LENGTH_BYTES : this.bytes.length);
  }
}

/** One record of a run at a time. What is not packed so throws RangeError. */
export class PackedRecord {
  /** The value of each number and word; 0 for null. */
  readonly numbers = new Float64Array(COUNT);
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;
  #at = 0;
  #end = 0;
  /** The place of the value that is read next. */
  #next = 0;
  /** Where each value lies: the length of a text that is there begins `from`, the 32 bytes of a digest end at `to`. */
  readonly #from = new Int32Array(COUNT);
  readonly #to = new Int32Array(COUNT);
  /** null, number or text, digest. */
  readonly #tags = new Uint8Array(COUNT);

  /** Takes record `i` of the run, and reads its values before `end`. */
  begin(run: Run, i: number, end: number): void {
    this.#bytes = run.bytes;
    this.#start = run.from(i);
    this.#end = run.to(i);
    this.#at = this.#start;
    this.#skip(HASH_BYTES);
    this.#next = 0;
    this.#readTo(end);
  }

  /** Reads all other values. */
  finish(): void {
    this.#readTo(COUNT);
    if (this.#at !== this.#end) throw damaged();
  }

  /** Takes record `i` of the run, and reads it. */
  read(run: Run, i: number): this {
    this.begin(run, i, 0);
    this.finish();
    return this;
  }

  #readTo(end: number): void {
    for (; this.#next < end; this.#next++) {
      const form = FORMS[this.#next] as number;
      if (form === 0) this.#readNumber(this.#next);
      else if (form === 1) this.#readText(this.#next);
      else this.#readDigest(this.#next);
    }
  }

  get hash(): string {
    return this.#bytes.toString("hex", this.#start, this.#start + HASH_BYTES);
  }

  isNull(place: number): boolean {
    return this.#tags[place] === 0;
  }

  /** A text or digest. */
  text(place: number): string | null {
    const tag = this.#tags[place] as number;
    if (tag === 0) return null;
    return this.#bytes.toString(tag === 2 ? "hex" : "utf8", this.#from[place], this.#to[place]);
  }

  /** All values; words are numbers. */
  row(into: Row): Row {
    for (let i = 0; i < COUNT; i++) {
      if (this.#tags[i] === 0) into[i] = null;
      else into[i] = FORMS[i] === 0 ? (this.numbers[i] as number) : this.text(i);
    }
    return into;
  }

  #readNumber(place: number): void {
    const whole = this.#whole();
    this.#tags[place] = whole === 0 ? 0 : 1;
    if (whole === FLOAT) {
      this.#skip(8);
      this.numbers[place] = this.#bytes.readDoubleBE(this.#at - 8);
    } else this.numbers[place] = whole === 0 ? 0 : whole - 2;
  }

  #readText(place: number): void {
    const length = this.#whole();
    this.#tags[place] = length === 0 ? 0 : 1;
    this.#from[place] = this.#at;
    if (length > 0) this.#skip(length - 1);
    this.#to[place] = this.#at;
  }

  #readDigest(place: number): void {
    const tag = this.#bytes[this.#at] as number;
    this.#skip(1);
    if (tag > 2) throw damaged();
    if (tag === 2) return this.#readText(place);
    this.#tags[place] = tag === 1 ? 2 : 0;
    this.#from[place] = this.#at;
    if (tag === 1) this.#skip(HASH_BYTES);
    this.#to[place] = this.#at;
  }

  #skip(count: number): void {
    this.#at += count;
    if (this.#at > this.#end) throw damaged();
  }

  #whole(): number {
    const bytes = this.#bytes;
    let value = 0;
    for (let unit = 1; unit <= 2 ** 49; unit *= 128) {
      if (this.#at >= this.#end) throw damaged();
      const byte = bytes[this.#at++] as number;
      if (byte < 128) return value + byte * unit;
      value += (byte - 128) * unit;
    }
    throw damaged();
  }
}

const damaged = (): RangeError => new RangeError("a packed record is damaged");
