// Finds any of many texts in one pass (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994): looks at pairs of
// bytes and jumps as far as no text can begin.
import type { Match, TextMatcher } from "./content-plan.ts";

const PAIRS = 65536;

export class LiteralSet implements TextMatcher {
  /** Which of several texts matches depends on what follows. */
  readonly exact = false;
  readonly longest: number;
  readonly #shortest: number;
  /** For a pair of bytes: how far the end of the shortest text may move on. 0: a text may end there. */
  readonly #jumps: Uint8Array;
  /** For a pair: the texts whose first `shortest` bytes end with it, longest first. */
  readonly #texts = new Map<number, Buffer[]>();
  /** By the first two bytes; and 1 for each first byte. */
  readonly #beginnings = new Map<number, Buffer[]>();
  readonly #firsts = new Uint8Array(256);

  /** The texts must have at least two bytes; there must be one. Throws an Error otherwise. */
  constructor(texts: readonly Buffer[]) {
    const lengths = texts.map((t) => t.length);
    this.longest = Math.max(...lengths);
    this.#shortest = Math.min(255, ...lengths);
    if (texts.length === 0 || this.#shortest < 2) throw new Error("texts of two bytes and more are needed");
    this.#jumps = new Uint8Array(PAIRS).fill(this.#shortest - 1);
    for (const text of texts) this.#add(text);
    for (const list of this.#texts.values()) list.sort((a, b) => b.length - a.length);
  }

  #add(text: Buffer): void {
    const last = this.#shortest - 1;
    for (let i = 1; i <= last; i++) {
      const pair = pairOf(text, i);
      this.#jumps[pair] = Math.min(this.#jumps[pair] as number, last - i);
    }
    const pair = pairOf(text, last);
    const list = this.#texts.get(pair) ?? [];
    if (!list.some((t) => t.equals(text))) list.push(text);
    this.#texts.set(pair, list);
    const first = pairOf(text, 1);
    this.#beginnings.set(first, [...(this.#beginnings.get(first) ?? []), text]);
    this.#firsts[text[0] as number] = 1;
  }

  open(text: Buffer, from: number, to: number): number {
    for (let at = Math.max(from, to - this.longest + 1); at < to; at++) {
      if (this.#firsts[text[at] as number] === 0) continue;
      if (at + 1 === to || this.#beginnings.get(pairOf(text, at + 1))?.some((t) => goesOn(t, text, at, to)) === true)
        return at;
    }
    return to;
  }

  find(text: Buffer, from: number, to: number): Match | null {
    const jumps = this.#jumps;
    const last = this.#shortest - 1;
    let i = from + last;
    while (i < to) {
      const jump = jumps[((text[i - 1] as number) << 8) | (text[i] as number)] as number;
      if (jump > 0) {
        i += jump;
        continue;
      }
      const found = this.#at(text, i - last, i, to);
      if (found !== null) return found;
      i++;
    }
    return null;
  }

  #at(text: Buffer, start: number, pairEnd: number, to: number): Match | null {
    for (const candidate of this.#texts.get(pairOf(text, pairEnd)) ?? []) {
      const end = start + candidate.length;
      if (end <= to && standsAt(candidate, text, start)) return { start, end };
    }
    return null;
  }
}

const pairOf = (bytes: Buffer, end: number): number => ((bytes[end - 1] as number) << 8) | (bytes[end] as number);

/** True when what stands there up to `to` is the beginning of the longer text. */
function goesOn(wanted: Buffer, text: Buffer, at: number, to: number): boolean {
  if (wanted.length <= to - at) return false;
  for (let i = 2; i < to - at; i++) if (wanted[i] !== text[at + i]) return false;
  return true;
}

/** Most differ soon: a loop is faster than a call out of JavaScript. */
function standsAt(wanted: Buffer, text: Buffer, at: number): boolean {
  for (let i = 0; i < wanted.length; i++) if (wanted[i] !== text[at + i]) return false;
  return true;
}
