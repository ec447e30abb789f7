// Finds providers' tokens: their beginnings in one pass, and then, there, the rest of the format.
import { Beginnings } from "./beginnings.ts";
import type { Match, TextMatcher } from "./content-plan.ts";
import { TOKEN_FORMATS, type TokenFormat } from "./token-formats.ts";

interface Prepared {
  readonly format: TokenFormat;
  readonly anchor: Buffer;
  /** 1 for each byte that may stand in the body. */
  readonly body: Uint8Array;
  readonly rest: { readonly text: Buffer; readonly body: Uint8Array; readonly length: number } | null;
  /** 1 for each byte that may stand behind the anchor, wherever. */
  readonly behind: Uint8Array;
}

const KEY_BYTES = 3;
const NONE: readonly Prepared[] = [];
/** Bytes before a token that say whether it is one. */
const BEFORE = 11;
/** Fewer different characters are a placeholder. */
const FEWEST_DIFFERENT = 7;

export class TokenMatcher implements TextMatcher {
  readonly exact = false;
  readonly longest: number;
  /** By the first three bytes of their anchors. */
  readonly #formats = new Map<number, Prepared[]>();
  readonly #anchors: Beginnings;
  readonly #lower: boolean;

  /** `lower`: the text has lost its case (host names), so that checksums cannot be compared. */
  constructor(formats: readonly TokenFormat[] = TOKEN_FORMATS, lower = false) {
    const all = formats.map((format) => prepare(format, lower));
    for (const one of all) {
      const key = keyAt(one.anchor, 0);
      const others = this.#formats.get(key);
      if (others === undefined) this.#formats.set(key, [one]);
      else others.push(one);
    }
    this.#anchors = new Beginnings(all.map((f) => f.anchor));
    this.#lower = lower;
    this.longest = Math.max(...all.map((f) => f.anchor.length + f.format.max + restLength(f) + 1));
  }

  find(text: Buffer, from: number, to: number): Match | null {
    let start = this.#anchors.next(text, from, to);
    while (start >= 0) {
      const formats = this.#formats.get(keyAt(text, start)) ?? NONE;
      for (const prepared of formats) {
        const end = this.#tokenEnd(prepared, text, start, to);
        if (end > 0) return { start, end };
      }
      start = this.#anchors.next(text, start + 1, to);
    }
    return null;
  }

  open(text: Buffer, from: number, to: number): number {
    const first = Math.max(from, to - this.longest);
    let at = this.#anchors.next(text, first, to);
    while (at >= 0 && !this.#goesOn(text, at, to)) at = this.#anchors.next(text, at + 1, to);
    return Math.max(first, (at >= 0 ? at : to - KEY_BYTES + 1) - BEFORE);
  }

  /** True when a token may begin there that is not wholly shown. */
  #goesOn(text: Buffer, start: number, to: number): boolean {
    const formats = this.#formats.get(keyAt(text, start)) ?? NONE;
    return formats.some(({ anchor, behind }) => {
      const end = Math.min(to, start + anchor.length);
      return anchor.compare(text, start, end, 0, end - start) === 0 && runEnd(text, behind, end, to) === to;
    });
  }

  nameOf(match: Buffer): string | null {
    for (const { format, anchor, body, rest } of this.#formats.get(keyAt(match, 0)) ?? []) {
      const length = match.length - anchor.length - (rest === null ? 0 : rest.text.length + rest.length);
      if (length < format.min || length > format.max || anchor.compare(match, 0, anchor.length) !== 0) continue;
      const end = anchor.length + length;
      if (runEnd(match, body, anchor.length, end) < end) continue;
      if (rest === null || rest.text.compare(match, end, end + rest.text.length) === 0) return format.id;
    }
    return null;
  }

  /** Where the token that begins at `start` ends, or 0 where there is none of this format. */
  #tokenEnd(prepared: Prepared, text: Buffer, start: number, to: number): number {
    const { format, anchor, body, rest } = prepared;
    const bodyStart = start + anchor.length;
    if (bodyStart + format.min > to || !standsAt(anchor, text, start)) return 0;
    let end = runEnd(text, body, bodyStart, Math.min(to, bodyStart + format.max));
    if (end - bodyStart < format.min) return 0;
    if (rest !== null) {
      const more = end + rest.text.length;
      if (more + rest.length > to || rest.text.compare(text, end, more) !== 0) return 0;
      end = runEnd(text, rest.body, more, more + rest.length);
      if (end < more + rest.length) return 0;
    }
    if (format.alone === true && end < to && isKin(text[end] as number, body)) return 0;
    if ((format.alone === true || format.first === true) && !isFirst(text, start, body)) return 0;
    if (format.numbered === true && !/(?:^|[^0-9])[0-9]{8,10}$/.test(text.toString("latin1", start - BEFORE, start)))
      return 0;
    if (fewDifferent(text, bodyStart, end)) return 0;
    return this.#plausible(format, text, start, bodyStart, end) ? end : 0;
  }

  #plausible(format: TokenFormat, text: Buffer, start: number, bodyStart: number, end: number): boolean {
    if (format.examples === true && text.toString("latin1", bodyStart, end).includes("EXAMPLE")) return false;
    if (format.has !== undefined && !text.toString("latin1", bodyStart, end).includes(format.has)) return false;
    if (this.#lower) return holds(text, bodyStart, end, DIGITS, 1);
    if (format.check !== undefined) return format.check(text.toString("latin1", start, end));
    // Words with hyphens are no random text.
    return holds(text, bodyStart, end, OF_WORDS, 0);
  }
}

/** True when some byte is in the class (1), or is not (0). */
function holds(text: Buffer, from: number, to: number, bytes: Uint8Array, wanted: number): boolean {
  for (let at = from; at < to; at++) if (bytes[text[at] as number] === wanted) return true;
  return false;
}

function prepare(format: TokenFormat, lower: boolean): Prepared {
  const rest = format.rest;
  const behind = classOf(format.body, lower);
  if (rest !== undefined) for (const [byte, is] of classOf(rest.body, lower).entries()) if (is === 1) behind[byte] = 1;
  for (const byte of Buffer.from(rest?.text ?? "", "latin1")) behind[byte] = 1;
  return {
    format,
    anchor: Buffer.from(lower ? format.anchor.toLowerCase() : format.anchor, "latin1"),
    body: classOf(format.body, lower),
    behind,
    rest:
      rest === undefined
        ? null
        : {
            text: Buffer.from(lower ? rest.text.toLowerCase() : rest.text, "latin1"),
            body: classOf(rest.body, lower),
            length: rest.length,
          },
  };
}

const restLength = (f: Prepared): number => (f.rest === null ? 0 : f.rest.text.length + f.rest.length);

function classOf(body: string, lower: boolean): Uint8Array {
  const pattern = new RegExp(`[${body}]`);
  const table = new Uint8Array(256);
  for (let byte = 0; byte < 128; byte++) {
    const character = String.fromCharCode(byte);
    if (!pattern.test(character)) continue;
    table[lower ? character.toLowerCase().charCodeAt(0) : byte] = 1;
  }
  return table;
}

const keyAt = (text: Uint8Array, at: number): number =>
  ((text[at] as number) << 16) | ((text[at + 1] as number) << 8) | (text[at + 2] as number);

/** A loop is faster than a call out of JavaScript for so few bytes. */
function standsAt(wanted: Buffer, text: Buffer, at: number): boolean {
  for (let i = KEY_BYTES; i < wanted.length; i++) if (wanted[i] !== text[at + i]) return false;
  return true;
}

function runEnd(text: Buffer, body: Uint8Array, from: number, to: number): number {
  let at = from;
  while (at < to && body[text[at] as number] === 1) at++;
  return at;
}

/** In which search a byte was seen last; so the table need not be cleared. */
const SEEN = new Float64Array(256);
let search = 0;

function fewDifferent(text: Buffer, from: number, to: number): boolean {
  search++;
  let different = 0;
  for (let at = from; at < to; at++) {
    const byte = text[at] as number;
    if (SEEN[byte] === search) continue;
    SEEN[byte] = search;
    if (++different >= FEWEST_DIFFERENT) return false;
  }
  return true;
}

/** What words are made of that stand beside each other. */
const OF_WORDS = classOf("a-z_.-", false);
const DIGITS = classOf("0-9", false);

/** What data in base64url, base32 or hexadecimal is made of. */
const ENCODED = classOf("A-Za-z0-9_-", false);

/** True for a byte of the body's kind, or of encoded data. */
const isKin = (byte: number, body: Uint8Array): boolean => body[byte] === 1 || ENCODED[byte] === 1;

/** Nothing of the kind stands before it, other than an escape (`%22`, `\n`, `\u0022`). */
function isFirst(text: Buffer, start: number, body: Uint8Array): boolean {
  if (start === 0 || !isKin(text[start - 1] as number, body)) return true;
  const before = text.toString("latin1", Math.max(0, start - 6), start);
  return /(?:%[0-9A-Fa-f]{2}|\\[nrt]|\\u[0-9A-Fa-f]{4})$/.test(before);
}
