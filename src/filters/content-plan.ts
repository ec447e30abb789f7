// The port between the policy (which holds compiled content rules) and the stage that runs them.
import type { Fields } from "../http/fields.ts";

/** What a rule does with a match; `report` lets it pass and says so. */
export type ContentAction = "block" | "redact" | "report";

/** A stretch of text: offsets in bytes, `end` excluded. */
export interface Match {
  readonly start: number;
  readonly end: number;
}

/** Finds something in UTF-8 text. Stateless: everything it needs stands in the text. */
export interface TextMatcher {
  /** The longest match, in bytes; finite. */
  readonly longest: number;
  /** True: a match depends on its own bytes alone. False: also on what follows it (`\b`, alternatives, repetitions). */
  readonly exact: boolean;
  /** How many steps finding one match can take, where that depends on more than the text. */
  readonly cost?: number;
  /** What the bytes of a match are, for people: a name, never a part of them. */
  nameOf?(match: Buffer): string | null;
  /** True when there is a match anywhere; where that is cheaper to say than where it is. */
  matches?(text: Buffer): boolean;
  /**
   * The first match that begins at or after `from` in `text[0, to)`. `text[0]` is the beginning of the whole text only when
   * `from` is 0; otherwise a few bytes of context stand before `from`.
   */
  find(text: Buffer, from: number, to: number): Match | null;
  /**
   * Where the first match may begin at or after `from` that `text[0, to)` does not wholly show: what stands before is not looked at
   * again. Where it is missing, that is as far from `to` as the longest match is long.
   */
  open?(text: Buffer, from: number, to: number): number;
}

/** `open` of any matcher. */
export function openFrom(matcher: TextMatcher, text: Buffer, from: number, to: number): number {
  return matcher.open?.(text, from, to) ?? to - matcher.longest + (matcher.exact ? 1 : 0);
}

/** What a rule needs to know of a head. */
export interface HeadFacts {
  /** Path and query. */
  readonly path: string;
  readonly fields: Fields;
  /** False: the message has no content, so that its media type says nothing. */
  readonly hasContent: boolean;
}

/** Decides by the head alone: media type, file name extension. */
export interface HeadMatcher {
  matches(head: HeadFacts): boolean;
}

export interface ContentRule {
  readonly action: ContentAction;
  /** What it is, for `explain`, refusals and notes: never a secret. */
  readonly title: string;
  /** Which entry of `content:` it is, for refusals and notes. */
  readonly label: string;
  readonly status: number | null;
  readonly message: string | null;
  /** What stands in for a match; "" unless the action is `redact`. */
  readonly replacement: string;
}

export interface TextRule extends ContentRule {
  /** True: what it finds must not be written anywhere. */
  readonly secret: boolean;
  readonly matcher: TextMatcher;
}

export interface HeadRule extends ContentRule {
  readonly matcher: HeadMatcher;
}

/** The rules for one direction, by where they look. */
export interface SideRules {
  readonly head: readonly HeadRule[];
  readonly path: readonly TextRule[];
  readonly query: readonly TextRule[];
  readonly fields: readonly TextRule[];
  readonly host: readonly TextRule[];
  readonly body: readonly TextRule[];
}

/** Compiled content rules of one policy rule; `filters/index.ts` makes it, `stages/content.ts` runs it. */
export interface ContentPlan {
  /** True when a rule looks at request content, at response content. */
  readonly onRequest: boolean;
  readonly onResponse: boolean;
  /** For `explain` and the record. */
  readonly describe: readonly string[];
  readonly request: SideRules;
  readonly response: SideRules;
  /** Bytes of decoded content that wait whole until they are decided. */
  readonly hold: number;
  /** Bytes of decoded content that can be scanned; Infinity: no limit. */
  readonly scanLimit: number;
  /** How many times larger than its coded form content may become (after the first MiB). */
  readonly ratioLimit: number;
  /** What happens to content that cannot be looked at. */
  readonly onUnscannable: "deny" | "allow";
  /** In report mode nothing is blocked or changed. Asked for each exchange, since the mode may have an end date. */
  mode(): "enforce" | "report";
}

export type { Fields };
