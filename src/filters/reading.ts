// A text as somebody reads it who undoes its escapes: other bytes, and where they came from. Escapes are undone twice, since one
// kind may stand inside another (JSON in a form). The work is bounded by the length of the text alone.
import { BEGINS_ESCAPE, LONGEST_ESCAPE } from "./escapes.ts";
import { Layer, type Mode } from "./reading-layer.ts";

export type { Mode };

const LF = 0x0a;
const CR = 0x0d;

/** Not 0 for each byte at which the reading of a text may differ from the text in more than the sign for a space. */
const MATTERS: Readonly<Record<Mode, Uint8Array>> = { plain: BEGINS_ESCAPE, folded: new Uint8Array(BEGINS_ESCAPE) };
MATTERS.folded[LF] = MATTERS.folded[CR] = 1;

/** True when the reading of the text between two offsets may be another than the text. */
export function differs(text: Uint8Array, from: number, to: number, mode: Mode): boolean {
  const table = MATTERS[mode];
  for (let i = from; i < to; i++) if (table[text[i] as number] !== 0) return true;
  return false;
}

/** Where the first escape may begin that goes on behind `to`; what was read before stays as it is. */
function openEscape(text: Uint8Array, to: number): number {
  let at = Math.max(0, to - LONGEST_ESCAPE);
  while (at < to && BEGINS_ESCAPE[text[at] as number] === 0) at++;
  return at;
}

/** The reading of one text after the other; several matchers ask for the same, which is read once. */
export class Reader {
  readonly #once: Layer;
  readonly #twice: Layer;
  #source = Buffer.alloc(0);
  #length = 0;
  #border = 0;
  #nested = false;

  constructor(mode: Mode) {
    this.#once = new Layer(mode);
    this.#twice = new Layer(mode);
  }

  /** Reads a text, which is copied. An escape does not go on behind `border`: what stands before is there to be looked back at. */
  read(text: Buffer, border: number): void {
    const same = this.#length === text.length && this.#border === border;
    if (same && text.compare(this.#source, 0, this.#length) === 0) return;
    if (this.#source.length < text.length) this.#source = Buffer.allocUnsafeSlow(text.length * 2);
    this.#source.set(text);
    this.#length = text.length;
    this.#border = border;
    this.#once.read(text, border, text.length);
    this.#nested = this.#once.nested;
    if (this.#nested) this.#twice.read(this.#once.bytes, this.#once.border, this.#once.length);
  }

  get #last(): Layer {
    return this.#nested ? this.#twice : this.#once;
  }

  /** The bytes of the reading, borrowed until the next text is read. */
  get bytes(): Buffer {
    return this.#last.bytes.subarray(0, this.#last.length);
  }

  /** Bytes of the reading that come from before the border. */
  get border(): number {
    return this.#last.border;
  }

  /** How much stays as it is, whatever follows: bytes of the reading, and the offset in the text behind them. */
  get settled(): { readonly bytes: number; readonly source: number } {
    const source = openEscape(this.#source, this.#length);
    const outer = this.#once.countTo(source);
    const inner = openEscape(this.#once.bytes, outer);
    return {
      bytes: this.#nested ? this.#twice.countTo(inner) : inner,
      source: inner < outer ? this.#once.sourceOf(inner) : source,
    };
  }

  /** How many bytes of the reading come from before an offset in the text. */
  countTo(source: number): number {
    const outer = this.#once.countTo(source);
    return this.#nested ? this.#twice.countTo(outer) : outer;
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
/** For ends of texts, so that what was read of the whole is not forgotten. */
const OF_ENDS: Readonly<Record<Mode, Reader>> = { plain: new Reader("plain"), folded: new Reader("folded") };

/** The reading of a text (`read` of the Reader); it is good until the next call. */
export function readingOf(text: Buffer, mode: Mode, border = 0): Reader {
  const reader = READERS[mode];
  reader.read(text, border);
  return reader;
}

/** The same for the end of a text whose whole reading is wanted again. */
export function readingOfEnd(text: Buffer, mode: Mode, border: number): Reader {
  const reader = OF_ENDS[mode];
  reader.read(text, border);
  return reader;
}

/** A copy of the reading of a text. */
export const readBytes = (text: Buffer, mode: Mode): Buffer => Buffer.from(readingOf(text, mode).bytes);
