// Finds the matches of rules in a stream of UTF-8 text, so that the result does not depend on how the stream is cut.
import type { ByteWindow } from "./byte-window.ts";
import { openFrom, type TextRule } from "./content-plan.ts";
import { characterStart } from "./pattern.ts";

/**
 * What follows the searched text. `more`: something, so what may still become another match waits. `pause`: nothing for now, what
 * stands there is judged as if it were the end, and a match may go on across it. `end`: nothing.
 */
export type Following = "more" | "pause" | "end";

/** Gets a match (offsets in the stream). True: nothing more of this rule matters. */
export type OnMatch = (rule: TextRule, start: number, end: number) => boolean;

/** Bytes before the first undecided one that a matcher may look back at: a whole character, an escape, and room to align. */
const CONTEXT = 32;

export class TextScan {
  readonly #rules: readonly TextRule[];
  readonly #window: ByteWindow;
  /** For each rule the offset from which it still has to search; Infinity: it is done. */
  readonly #next: number[];
  /** For each rule the end of the last match that was given to `onMatch`; 0: there was none. */
  readonly ends: number[];

  constructor(rules: readonly TextRule[], window: ByteWindow) {
    this.#rules = rules;
    this.#window = window;
    this.#next = rules.map(() => 0);
    this.ends = rules.map(() => 0);
  }

  /** No match begins before this offset that was not given to `onMatch`. */
  get decided(): number {
    return Math.min(this.#window.end, ...this.#next);
  }

  /** What stands before this offset is not looked at again. */
  get needed(): number {
    return Math.max(0, this.decided - CONTEXT);
  }

  /** Passes over what stands before the offset, unsearched. */
  skipTo(offset: number): void {
    for (let i = 0; i < this.#next.length; i++) this.#next[i] = Math.max(offset, this.#next[i] as number);
  }

  /** Searches up to the offset `upto`, with every rule in turn. */
  search(upto: number, following: Following, onMatch: OnMatch): void {
    for (let i = 0; i < this.#rules.length; i++)
      if (this.#next[i] !== Number.POSITIVE_INFINITY) this.#searchOne(i, upto, following, onMatch);
  }

  #searchOne(i: number, upto: number, following: Following, onMatch: OnMatch): void {
    const rule = this.#rules[i] as TextRule;
    const { matcher } = rule;
    const base = this.#window.start;
    const text = this.#window.slice(base, upto);
    let next = this.#next[i] as number;
    // The first offset at which a match could still begin that is not wholly visible, with the byte after it where that matters.
    const open = following === "end" ? upto : base + openFrom(matcher, text, next - base, upto - base);
    while (next < upto) {
      const match = matcher.find(text, next - base, upto - base);
      if (match === null) break;
      const start = base + match.start;
      if (following === "more" && !matcher.exact && start >= open) break;
      next = base + match.end;
      this.ends[i] = next;
      if (onMatch(rule, start, next)) {
        this.#next[i] = Number.POSITIVE_INFINITY;
        return;
      }
    }
    if (open > next) next = open >= upto ? upto : Math.max(next, base + characterStart(text, open - base));
    this.#next[i] = next;
  }
}
