// A text as somebody reads it who undoes its escapes: other bytes, and where they came from. Escapes are undone twice, since one
// kind may stand inside another (JSON in a form). The work is bounded by the length of the text alone.
import { BEGINS_ESCAPE, type Escape, GOES_ON, readEscape } from "./escapes.ts";

/**
 * `plain`: escapes are undone. `folded`: also line breaks and the blanks behind them are left out, and "+" and " " are one
 * character; for texts that are folded themselves, however they are wrapped.
 */
export type Mode = "plain" | "folded";

const LF = 0x0a;
const CR = 0x0d;
const TAB = 0x09;
const SPACE = 0x20;
const PLUS = 0x2b;

/** Not 0 for each byte at which the reading of a text may differ from the text in more than the sign for a space. */
const MATTERS: Readonly<Record<Mode, Uint8Array>> = { plain: BEGINS_ESCAPE, folded: new Uint8Array(BEGINS_ESCAPE) };
MATTERS.folded[LF] = MATTERS.folded[CR] = 1;

/** What a byte is: itself, perhaps the beginning of an escape (the values below BLANK), a space or a line break that is folded. */
const ITSELF = 0;
const BLANK = 16;
const BREAK = 32;
const KINDS: Readonly<Record<Mode, Uint8Array>> = { plain: BEGINS_ESCAPE, folded: new Uint8Array(BEGINS_ESCAPE) };
KINDS.folded[LF] = KINDS.folded[CR] = BREAK;
KINDS.folded[SPACE] = BLANK;

const found: Escape = { end: 0, code: 0, byte: true };

/** True when the reading of the text between two offsets may be another than the text. */
export function differs(text: Uint8Array, from: number, to: number, mode: Mode): boolean {
  const table = MATTERS[mode];
  for (let i = from; i < to; i++) if (table[text[i] as number] !== 0) return true;
  return false;
}

/** The marks of the first byte in UTF-8, by the number of bytes that follow it. */
const LEADS = [0, 0xc0, 0xe0, 0xf0];

/** A text whose escapes were undone once. */
class Layer {
  readonly #mode: Mode;
  bytes: Buffer = Buffer.alloc(0);
  length = 0;
  /** From the byte `#at[n]` on, each comes from the one behind the last, beginning with `#from[n]`. */
  #at = new Int32Array(0);
  #from = new Int32Array(0);
  #joints = 0;
  /** Where in `bytes` an escape may begin: only there can be another inside. */
  #signs = new Int32Array(0);
  #signCount = 0;
  /** The blanks that stand from here on are behind a line break. */
  #behindBreak = -1;

  constructor(mode: Mode) {
    this.#mode = mode;
  }

  /** Reads so many bytes. */
  read(text: Uint8Array, to: number): void {
    this.#makeRoom(to);
    const kinds = KINDS[this.#mode];
    const { bytes } = this;
    let length = 0;
    this.#joints = this.#signCount = 0;
    this.#behindBreak = -1;
    this.#join(0, 0);
    for (let i = 0; i < to; ) {
      const byte = text[i] as number;
      const kind = kinds[byte] as number;
      if (kind === ITSELF) {
        bytes[length++] = byte;
        i++;
      } else if (kind === BLANK) {
        bytes[length++] = PLUS;
        i++;
      } else if (kind === BREAK) {
        i = this.#afterBlanks(text, i + 1, to);
        this.#join(length, i);
      } else if (i + 1 < to && ((GOES_ON[text[i + 1] as number] as number) & kind) === 0) {
        this.#signs[this.#signCount++] = length;
        bytes[length++] = byte;
        i++;
      } else {
        length = this.#readSign(text, i, to, length);
        i = found.end;
      }
    }
    this.length = length;
  }

  /** True when there are escapes in what was read. */
  get nested(): boolean {
    for (let n = 0; n < this.#signCount; n++) {
      const at = this.#signs[n] as number;
      const sign = BEGINS_ESCAPE[this.bytes[at] as number] as number;
      if (((GOES_ON[this.bytes[at + 1] as number] as number) & sign) === 0) continue;
      if (readEscape(this.bytes, at, this.length, this.#mode === "folded", found)) return true;
    }
    return false;
  }

  /** Reads what begins at `at`, up to the byte that `found.end` says then. Returns the length after it. */
  #readSign(text: Uint8Array, at: number, to: number, length: number): number {
    const code = this.#codeAt(text, at, to);
    const { end } = found;
    const behind = this.#behindBreak === at;
    if (code < 0 || this.#isDropped(code, behind)) {
      if (behind || code >= 0) found.end = this.#afterBlanks(text, end, to);
      this.#join(length, found.end);
      return length;
    }
    this.#join(length, at);
    const after = this.#put(code, length, at);
    this.#join(after, end);
    return after;
  }

  /** Where the raw blanks behind a line break end. */
  #afterBlanks(text: Uint8Array, from: number, to: number): number {
    let at = from;
    while (at < to && (text[at] === SPACE || text[at] === TAB)) at++;
    this.#behindBreak = at;
    return at;
  }

  /** What stands there: a byte, a character, or -1 for nothing; `found` says where it ends and which it is. */
  #codeAt(text: Uint8Array, at: number, to: number): number {
    if (readEscape(text, at, to, this.#mode === "folded", found)) return found.code;
    found.end = at + 1;
    found.byte = true;
    return text[at] as number;
  }

  /** A line break, and the blanks behind one. */
  #isDropped(code: number, behindBreak: boolean): boolean {
    if (this.#mode === "plain") return false;
    return code === LF || code === CR || (behindBreak && (code === SPACE || code === TAB));
  }

  /** Puts what comes from the bytes at `from`. Returns the length after it. */
  #put(code: number, length: number, from: number): number {
    if (code > 0x7f && !found.byte) return this.#putCharacter(code, length, from);
    if (BEGINS_ESCAPE[code] !== 0) this.#signs[this.#signCount++] = length;
    this.bytes[length] = code === SPACE && this.#mode === "folded" ? PLUS : code;
    return length + 1;
  }

  /** In UTF-8, all of it from the same place; half of a pair becomes the sign for what has no character. */
  #putCharacter(code: number, length: number, from: number): number {
    const point = code >= 0xd800 && code <= 0xdfff ? 0xfffd : code;
    const more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    this.bytes[length] = (LEADS[more] as number) | (point >> (6 * more));
    for (let i = 1; i <= more; i++) {
      this.bytes[length + i] = 0x80 | ((point >> (6 * (more - i))) & 0x3f);
      this.#join(length + i, from);
    }
    return length + more + 1;
  }

  #join(at: number, from: number): void {
    if (this.#joints > 0 && this.#at[this.#joints - 1] === at) this.#joints--;
    this.#at[this.#joints] = at;
    this.#from[this.#joints++] = from;
  }

  /** Nothing is shorter than what it stands for, and there is at most one joint for each byte that was put, and one more. */
  #makeRoom(length: number): void {
    if (this.bytes.length >= length + 4) return;
    const room = Math.max(4096, length * 2);
    this.bytes = Buffer.allocUnsafeSlow(room);
    this.#at = new Int32Array(room + 1);
    this.#from = new Int32Array(room + 1);
    this.#signs = new Int32Array(room);
  }

  /** Where in what was read a byte begins. */
  sourceOf(index: number): number {
    let low = 0;
    let high = this.#joints - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#at[middle] as number) <= index) low = middle;
      else high = middle - 1;
    }
    return (this.#from[low] as number) + index - (this.#at[low] as number);
  }

  /** Where in what was read a byte ends. */
  sourceEnd(index: number, text: Uint8Array, to: number): number {
    this.#codeAt(text, this.sourceOf(index), to);
    return found.end;
  }
}

/** The reading of one text after the other; several matchers ask for the same, which is read once. */
export class Reader {
  readonly #once: Layer;
  readonly #twice: Layer;
  #source = Buffer.alloc(0);
  #length = 0;
  #nested = false;

  constructor(mode: Mode) {
    this.#once = new Layer(mode);
    this.#twice = new Layer(mode);
  }

  /** Reads a text, which is copied. */
  read(text: Buffer): void {
    if (this.#length === text.length && text.compare(this.#source, 0, this.#length) === 0) return;
    if (this.#source.length < text.length) this.#source = Buffer.allocUnsafeSlow(text.length * 2);
    this.#source.set(text);
    this.#length = text.length;
    this.#once.read(text, text.length);
    this.#nested = this.#once.nested;
    if (this.#nested) this.#twice.read(this.#once.bytes, this.#once.length);
  }

  get #last(): Layer {
    return this.#nested ? this.#twice : this.#once;
  }

  /** The bytes of the reading, borrowed until the next text is read. */
  get bytes(): Buffer {
    return this.#last.bytes.subarray(0, this.#last.length);
  }

  /** Where in the text a byte of the reading begins. */
  startOf(index: number): number {
    return this.#once.sourceOf(this.#nested ? this.#twice.sourceOf(index) : index);
  }

  /** Where in the text it ends. */
  endOf(index: number): number {
    const { bytes, length } = this.#once;
    const last = this.#nested ? this.#twice.sourceEnd(index, bytes, length) - 1 : index;
    return this.#once.sourceEnd(last, this.#source, this.#length);
  }
}

const READERS: Readonly<Record<Mode, Reader>> = { plain: new Reader("plain"), folded: new Reader("folded") };

/** The reading of a text; it is good until the next call. */
export function readingOf(text: Buffer, mode: Mode): Reader {
  const reader = READERS[mode];
  reader.read(text);
  return reader;
}

/** A copy of the reading of a text. */
export const readBytes = (text: Buffer, mode: Mode): Buffer => Buffer.from(readingOf(text, mode).bytes);
