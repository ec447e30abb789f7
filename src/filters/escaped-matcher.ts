// Finds in the reading of a text (its escapes undone) what another matcher finds in plain text.
import { type Match, openFrom, type TextMatcher } from "./content-plan.ts";
import { LONGEST_ESCAPE } from "./escapes.ts";
import { differs, type Mode, type Reader, readBytes, readingOf, readingOfEnd } from "./reading.ts";

/** Bytes that are read at once, beside those in which a match may end: more than a body has in one piece, as a rule. */
const BLOCK = 128 * 1024;

/** Of a large piece so many bytes are read again: so several matchers mostly begin at the same one, and share the reading. */
const AGAIN = 48;
const LARGE = 1024;

export class EscapedMatcher implements TextMatcher {
  readonly exact = false;
  readonly longest: number;
  readonly #inner: TextMatcher;
  readonly #mode: Mode;

  /** `longest`: bytes that a match may have as it is written. */
  constructor(inner: TextMatcher, mode: Mode, longest: number) {
    this.#inner = inner;
    this.#mode = mode;
    this.longest = Math.max(longest, inner.longest);
  }

  nameOf(match: Buffer): string | null {
    return this.#inner.nameOf?.(readBytes(match, this.#mode)) ?? null;
  }

  find(text: Buffer, from: number, to: number): Match | null {
    for (let at = from; at < to; ) {
      const next = Math.min(to, at + BLOCK);
      const read = this.#read(text, at, Math.min(to, next + this.longest + LONGEST_ESCAPE));
      if (read === null) {
        at = next;
        continue;
      }
      const match = this.#findIn(read, next);
      if (match !== null) return match;
      // The next block begins where a byte of the reading does.
      at = next === to ? to : read.begin + read.reading.startOf(read.reading.countTo(next - read.begin));
    }
    return null;
  }

  /** The reading of what stands between two offsets, behind a little context; null where it is the text itself. */
  #read(text: Buffer, from: number, to: number): Read | null {
    const begin = Math.max(0, from - LONGEST_ESCAPE);
    if (!differs(text, begin, to, this.#mode)) return null;
    return { begin, reading: readingOf(text.subarray(begin, to), this.#mode, from - begin) };
  }

  /** A match that begins before `next`. */
  #findIn({ begin, reading }: Read, next: number): Match | null {
    const { bytes } = reading;
    for (let at = reading.border; at < bytes.length; ) {
      const match = this.#inner.find(bytes, at, bytes.length);
      if (match === null) return null;
      const start = begin + reading.startOf(match.start);
      if (start >= next) return null;
      const end = begin + reading.endOf(match.end - 1);
      // A longer one would be found or not as the text is cut.
      if (end - start <= this.longest) return { start, end };
      at = match.start + 1;
    }
    return null;
  }

  open(text: Buffer, from: number, to: number): number {
    if (to - from > BLOCK) return to - this.longest;
    // Where nothing is escaped at the end, no more than the longest match has to be read.
    let end = Math.max(from, to - this.#inner.longest);
    // Blanks may be behind a line break, and so be left out.
    while (end > from && isBlank(text[end - 1])) end--;
    const escaped = differs(text, Math.max(0, end - LONGEST_ESCAPE), to, this.#mode);
    const at = escaped ? from : end;
    const begin = Math.max(0, at - LONGEST_ESCAPE);
    const part = text.subarray(begin, to);
    const reading = (escaped ? readingOf : readingOfEnd)(part, this.#mode, at - begin);
    const settled = reading.settled;
    const inner = openFrom(this.#inner, reading.bytes, reading.border, settled.bytes);
    const again = to - from > LARGE ? settled.bytes - AGAIN : inner;
    const open = Math.max(
      reading.border,
      this.#stands(reading.bytes, again, inner, settled.bytes) ? inner : Math.min(again, inner),
    );
    const source = open < settled.bytes ? reading.startOf(open) : settled.source;
    // A match that is longer in the text than may be is none.
    return Math.max(begin + source, to - this.longest);
  }

  /**
   * True when a match begins between two offsets and is whole before `to`. It is to be given out now: read again, it would lack what
   * stands before it and says that it is one.
   */
  #stands(bytes: Buffer, from: number, before: number, to: number): boolean {
    if (from >= before) return false;
    const match = this.#inner.find(bytes, Math.max(0, from), to);
    return match !== null && match.start < before;
  }
}

const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09;

interface Read {
  /** Where in the text it begins. */
  readonly begin: number;
  readonly reading: Reader;
}
