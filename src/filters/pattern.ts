// The regular expression filter: RE2 syntax, matched in linear time over UTF-8 bytes.
import { RE2JS, RE2JSException } from "re2js";
import type { Match, TextMatcher } from "./content-plan.ts";
import { longestMatch, matchesEmpty } from "./pattern-length.ts";

/**
 * A matcher for a regular expression in RE2 syntax.
 * Throws an Error that says why when the expression is not RE2 syntax, or can match without taking a byte.
 */
export function patternMatcher(source: string, ignoreCase: boolean): TextMatcher {
  const pattern = compile(source, ignoreCase);
  if (matchesEmpty(pattern)) throw new Error("the pattern matches the empty text, so it would match everywhere");
  return new PatternMatcher(pattern, longestMatch(pattern));
}

function compile(source: string, ignoreCase: boolean): RE2JS {
  try {
    return RE2JS.compile(source, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    throw new Error(
      `not a regular expression of RE2 (which has neither look-around nor back-references): ${error.message}`,
    );
  }
}

/** Bytes more than the longest match in which a match is located at once. */
const STRIDE = 512;

class PatternMatcher implements TextMatcher {
  readonly exact = false;
  readonly longest: number;
  readonly cost: number;
  readonly #pattern: RE2JS;
  constructor(pattern: RE2JS, longest: number) {
    this.#pattern = pattern;
    this.longest = longest;
    this.cost = pattern.re2().numberOfInstructions() * (2 * longest + STRIDE);
  }

  matches(text: Buffer): boolean {
    return this.#pattern.test(text);
  }

  /**
   * The automaton behind `test` is many times faster than the machine that finds where, whose time grows with the pattern as well.
   * So most texts, which have no match, are only tested, and others by strides, until one has it.
   */
  find(text: Buffer, from: number, to: number): Match | null {
    const start = characterStart(text, Math.max(0, from - 1));
    if (!this.#pattern.test(text.subarray(start, to))) return null;
    for (let at = from; at < to; ) {
      // Every match that begins before `next` ends before `end`, with the byte that follows it in sight.
      const next = Math.min(to, at + this.longest + STRIDE);
      const end = Math.min(to, next + this.longest + 1);
      const match = this.#locate(text, at, end);
      if (match !== null && (match.start < next || end === to)) return match;
      if (end === to) return null;
      at = characterStart(text, next);
    }
    return null;
  }

  #locate(text: Buffer, from: number, to: number): Match | null {
    const cut = characterStart(text, Math.max(0, from - 1));
    const part = text.subarray(cut, to);
    if (!this.#pattern.test(part)) return null;
    const matcher = this.#pattern.matcher(part);
    return matcher.find(from - cut) ? { start: cut + matcher.start(), end: cut + matcher.end() } : null;
  }
}

/**
 * An offset at or at most three bytes before `at` at which a character begins for a reader from the beginning of the text, also
 * where the text is not valid UTF-8 (a byte that continues no character stands alone).
 */
export function characterStart(text: Buffer, at: number): number {
  for (let back = 0; back <= 3 && at - back >= 0; back++) {
    const byte = text[at - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    return byte >= 0xc0 ? at - back : at;
  }
  return at;
}
