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

class PatternMatcher implements TextMatcher {
  readonly exact = false;
  readonly longest: number;
  readonly #pattern: RE2JS;
  constructor(pattern: RE2JS, longest: number) {
    this.#pattern = pattern;
    this.longest = longest;
  }

  find(text: Buffer, from: number, to: number): Match | null {
    const cut = characterStart(text, Math.max(0, from - 1));
    const part = text.subarray(cut, to);
    // The automaton behind `test` is several times faster than finding where; most texts have no match.
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
