// The keyword filter: finds a text, byte for byte, or without regard to the case of letters.
import { RE2JS } from "re2js";
import type { Match, TextMatcher } from "./content-plan.ts";
import { patternMatcher } from "./pattern.ts";

/** A matcher for one keyword. `ignoreCase` follows the simple case folding of Unicode, as RE2's `(?i)` does. */
export function textMatcher(text: string, ignoreCase: boolean): TextMatcher {
  if (ignoreCase && text.toLowerCase() !== text.toUpperCase()) return patternMatcher(RE2JS.quote(text), true);
  return literalMatcher(Buffer.from(text, "utf8"));
}

/** A matcher for a sequence of bytes, which must not be empty. */
export function literalMatcher(needle: Buffer): TextMatcher {
  return {
    longest: needle.length,
    exact: true,
    find(text: Buffer, from: number, to: number): Match | null {
      const start = text.indexOf(needle, from);
      return start < 0 || start + needle.length > to ? null : { start, end: start + needle.length };
    },
  };
}
