// Finds in the reading of a text (its escapes undone) what another matcher finds in plain text.
import type { Match, TextMatcher } from "./content-plan.ts";
import { LONGEST_ESCAPE } from "./escapes.ts";
import { differs, type Mode, readBytes, readingOf } from "./reading.ts";

/** Bytes that are read at once, beside those in which a match may end: more than a body has in one piece, as a rule. */
const BLOCK = 128 * 1024;

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
    for (let at = from; at < to; at += BLOCK) {
      const next = Math.min(to, at + BLOCK);
      const match = this.#findBetween(text, at, next, Math.min(to, next + this.longest + LONGEST_ESCAPE));
      if (match !== null) return match;
    }
    return null;
  }

  /** A match that begins from `from` on and before `next`, in the text up to `to`. */
  #findBetween(text: Buffer, from: number, next: number, to: number): Match | null {
    // An escape may have begun before.
    const begin = Math.max(0, from - LONGEST_ESCAPE);
    if (!differs(text, begin, to, this.#mode)) return null;
    const reading = readingOf(text.subarray(begin, to), this.#mode);
    const { bytes } = reading;
    let at = 0;
    while (at < bytes.length && begin + reading.startOf(at) < from) at++;
    while (at < bytes.length) {
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
}
