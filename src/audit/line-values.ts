// The values of a journal line, found in its bytes: JSON.parse would make a string of each, only for most of them to be bytes again a
// moment later. It takes what `rowText` writes, and nothing else: what it refuses is for `parseRow` to judge.
import { isUtf8 } from "node:buffer";
import { AT, NULLABLE, NUMERIC, ROW_KEYS, WORD_KEYS } from "./row.ts";

/** What a value is. PLAIN: text whose bytes, all ASCII, stand between the quotes; ESCAPED: any other text. */
export const NULL = 0;
export const NUMBER = 1;
export const PLAIN = 2;
export const ESCAPED = 3;

const COUNT = ROW_KEYS.length;
const WORD_PLACES: readonly number[] = WORD_KEYS.map((key) => AT[key]);
const IS_WORD = ROW_KEYS.map((_, i) => WORD_PLACES.includes(i));

const TAB = 32;
const QUOTE = 34;
const COMMA = 44;
const ZERO = 48;
const NINE = 57;
const OPEN = 91;
const BACKSLASH = 92;
const CLOSE = 93;
const N = 110;
const U = 117;
/** What JSON.stringify puts behind a backslash. */
const ESCAPES = Uint8Array.from({ length: 256 }, (_, code) =>
  '"\\bfnrtu'.includes(String.fromCharCode(code)) ? 1 : 0,
);
/** Behind `\u`: a control character that has no shorter escape. */
const CONTROL = /^00(?:0[0-7bef]|1[0-9a-f])$/;
/** Digits that are exact in any case. */
const EXACT = 15;
const JSON_NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

/** One line at a time. Words, which repeat, are kept from line to line as the numbers that `setWord` gave them. */
export class LineValues {
  bytes: Buffer = Buffer.alloc(0);
  /** What each value is (see above), in the order of `ROW_KEYS`. */
  readonly kinds = new Uint8Array(COUNT);
  /** The value of each NUMBER. */
  readonly numbers = new Float64Array(COUNT);
  /** Where the bytes of each text begin and end, without its quotes. */
  readonly from = new Int32Array(COUNT).fill(-1);
  readonly to = new Int32Array(COUNT);
  /** False for words that are numbers already (an upgrade). */
  readonly #texts: boolean;
  #at = 0;
  #ascii = true;

  constructor(texts = true) {
    this.#texts = texts;
  }

  /** Other bytes: what was known of lines before is forgotten. */
  use(bytes: Uint8Array): void {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.from.fill(-1);
  }

  /** Reads this text of a row, as a line of its own. False: it is not what `rowText` writes. */
  take(text: string): boolean {
    this.use(Buffer.from(`${text}\n`));
    return this.scan(0) === this.bytes.length - 1;
  }

  /** Reads the line that begins at `start`. Returns where its newline stands; -1: it is not what `rowText` writes. */
  scan(start: number): number {
    const { bytes } = this;
    this.#at = start;
    this.#ascii = true;
    let before = OPEN;
    for (let i = 0; i < COUNT; i++) {
      if (bytes[this.#at++] !== before || !this.#value(i)) return this.#refuse();
      before = COMMA;
    }
    const end = this.#at + 1;
    if (bytes[this.#at] !== CLOSE || bytes[end] !== 10) return this.#refuse();
    return this.#ascii || isUtf8(bytes.subarray(start, end)) ? end : this.#refuse();
  }

  /** A text as it was written; also one that is a word, until it has its number. */
  text(place: number): string {
    const from = this.from[place] as number;
    const to = this.to[place] as number;
    if (this.kinds[place] === PLAIN) return this.bytes.toString("latin1", from, to);
    return JSON.parse(this.bytes.toString("utf8", from - 1, to + 1));
  }

  /** From now on the value is this number, on the lines that follow too while it has the same bytes there. */
  setWord(place: number, word: number): void {
    this.kinds[place] = NUMBER;
    this.numbers[place] = word;
  }

  /** What the line before had is not to be compared with: some places may be of this line. */
  #refuse(): -1 {
    this.from.fill(-1);
    return -1;
  }

  #value(i: number): boolean {
    const first = this.bytes[this.#at] as number;
    if (first === QUOTE) return (IS_WORD[i] as boolean) ? this.#texts && this.#word(i) : !NUMERIC[i] && this.#text(i);
    if (first === N) return (NULLABLE[i] as boolean) && this.#null(i);
    return ((NUMERIC[i] as boolean) || (!this.#texts && (IS_WORD[i] as boolean))) && this.#number(i);
  }

  #null(i: number): boolean {
    const { bytes } = this;
    const at = this.#at;
    if (bytes[at + 1] !== U || bytes[at + 2] !== 108 || bytes[at + 3] !== 108) return false;
    this.#at = at + 4;
    this.kinds[i] = NULL;
    this.from[i] = -1;
    return true;
  }

  #number(i: number): boolean {
    const { bytes } = this;
    const start = this.#at;
    let at = start;
    let value = 0;
    for (let digit = bytes[at] as number; digit >= ZERO && digit <= NINE; digit = bytes[++at] as number)
      value = value * 10 + (digit - ZERO);
    const next = bytes[at];
    const plain = next === COMMA || next === CLOSE;
    if (!plain || at === start || at - start > EXACT || (bytes[start] === ZERO && at > start + 1)) return this.#odd(i);
    this.#at = at;
    this.kinds[i] = NUMBER;
    this.numbers[i] = value;
    return true;
  }

  /** A number with a sign, a fraction, an exponent, or very many digits. */
  #odd(i: number): boolean {
    const { bytes } = this;
    let at = this.#at;
    while (at < bytes.length && bytes[at] !== COMMA && bytes[at] !== CLOSE) at++;
    const text = bytes.toString("latin1", this.#at, at);
    const value = Number(text);
    if (!JSON_NUMBER.test(text) || JSON.stringify(value) !== text) return false;
    this.#at = at;
    this.kinds[i] = NUMBER;
    this.numbers[i] = value;
    return true;
  }

  #word(i: number): boolean {
    const { bytes } = this;
    const last = this.from[i] as number;
    if (last < 0) return this.#text(i);
    const length = (this.to[i] as number) - last + 1;
    const start = this.#at + 1;
    // With the quote behind it, which no text has in it without a backslash before.
    for (let k = 0; k < length; k++) if (bytes[start + k] !== bytes[last + k]) return this.#text(i);
    this.from[i] = start;
    this.to[i] = start + length - 1;
    this.#at = start + length;
    return true;
  }

  #text(i: number): boolean {
    const { bytes } = this;
    const start = this.#at + 1;
    let kind = PLAIN;
    let at = start;
    for (let code = bytes[at] as number; code !== QUOTE; code = bytes[++at] as number) {
      // Also false for the undefined behind the last byte.
      if (!(code >= TAB)) return false;
      if (code === BACKSLASH) {
        kind = ESCAPED;
        if (!this.#escape(++at)) return false;
      } else if (code > 127) {
        kind = ESCAPED;
        this.#ascii = false;
      }
    }
    this.#at = at + 1;
    this.kinds[i] = kind;
    this.from[i] = start;
    this.to[i] = at;
    return true;
  }

  #escape(at: number): boolean {
    const code = this.bytes[at] as number;
    if (ESCAPES[code] !== 1) return false;
    return code !== U || CONTROL.test(this.bytes.toString("latin1", at + 1, at + 5));
  }
}
