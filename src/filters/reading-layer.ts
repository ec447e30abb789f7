// A text with its escapes undone once, and where each byte of it came from: one of the two layers of a reading.
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

/** What a byte is: itself, perhaps the beginning of an escape (the values below BLANK), a space or a line break that is folded. */
const ITSELF = 0;
const BLANK = 16;
const BREAK = 32;
const KINDS: Readonly<Record<Mode, Uint8Array>> = { plain: BEGINS_ESCAPE, folded: new Uint8Array(BEGINS_ESCAPE) };
KINDS.folded[LF] = KINDS.folded[CR] = BREAK;
KINDS.folded[SPACE] = BLANK;

const found: Escape = { end: 0, code: 0, byte: true };

/** The marks of the first byte in UTF-8, by the number of bytes that follow it. */
const LEADS = [0, 0xc0, 0xe0, 0xf0];

export class Layer {
  readonly #mode: Mode;
  bytes: Buffer = Buffer.alloc(0);
  length = 0;
  /** Bytes that come from before the border. */
  border = 0;
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

  /** Reads so many bytes; no escape goes from before the offset `border` to behind it. */
  read(text: Uint8Array, border: number, to: number): void {
    this.#makeRoom(to);
    this.#joints = this.#signCount = 0;
    this.#behindBreak = -1;
    this.#join(0, 0);
    this.border = this.#readOn(text, 0, border, 0);
    let from = border;
    if (this.#behindBreak === border) {
      from = this.#afterBlanks(text, border, to);
      this.#join(this.border, from);
    }
    this.length = this.#readOn(text, from, to, this.border);
  }

  /** Reads what stands between two offsets. Returns the length after it. */
  #readOn(text: Uint8Array, from: number, to: number, before: number): number {
    const kinds = KINDS[this.#mode];
    const { bytes } = this;
    let length = before;
    for (let i = from; i < to; ) {
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
    return length;
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

  /** How many bytes come from before an offset in what was read. */
  countTo(source: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sourceOf(middle) < source) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Where in what was read a byte ends. */
  sourceEnd(index: number, text: Uint8Array, to: number): number {
    this.#codeAt(text, this.sourceOf(index), to);
    return found.end;
  }
}
