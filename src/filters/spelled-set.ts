// Finds any of some texts of which characters are written as escapes, or which are cut by line breaks, any of them and in any
// mixture. What is written as it is, is for LiteralSet: here a match has at least one such place.
import type { Match, TextMatcher } from "./content-plan.ts";
import { BEGINS_SPELLING, LONGEST_SPELLING, type Spelling, spellingsAt } from "./spellings.ts";

/** Ways to read a place of the text that are followed; more would be somebody's game. */
const MOST_WAYS = 8;
/** Places in a text are numbered with it: index of the text, times this, and the place. */
const LONGEST_TEXT = 4096;

export class SpelledSet implements TextMatcher {
  readonly exact = false;
  readonly longest: number;
  readonly #texts: readonly Buffer[];
  /** For a byte and the one before it: the places in the texts where it stands. */
  readonly #places = new Map<number, number[]>();
  /** For two bytes: the places after them. */
  readonly #after = new Map<number, number[]>();

  /** `longest`: bytes of a match at most; the texts have at least two bytes, and fewer than 4,096. */
  constructor(texts: readonly Buffer[], longest: number) {
    this.#texts = texts;
    this.longest = Math.min(longest, Math.max(2, ...texts.map((t) => t.length * LONGEST_SPELLING)));
    for (const [index, text] of texts.entries())
      for (let at = 0; at < text.length; at++) {
        add(
          this.#places,
          pair(at === 0 ? FIRST : (text[at - 1] as number), text[at] as number),
          index * LONGEST_TEXT + at,
        );
        if (at >= 2) add(this.#after, pair(text[at - 2] as number, text[at - 1] as number), index * LONGEST_TEXT + at);
      }
  }

  find(text: Buffer, from: number, to: number): Match | null {
    for (let at = from; at < to; at++) {
      if (BEGINS_SPELLING[text[at] as number] === 0) continue;
      for (const spelling of spellingsAt(text, at, to)) {
        const match = this.#around(text, from, at, to, spelling);
        if (match !== null) return match;
      }
    }
    return null;
  }

  /** A match whose first place that is not as it is stands at `at`. */
  #around(text: Buffer, from: number, at: number, to: number, spelling: Spelling): Match | null {
    const [byte] = spelling.bytes;
    const last = at > from ? (text[at - 1] as number) : FIRST;
    if (byte === undefined) {
      if (at - from < 2) return null;
      return this.#from(text, from, at, to, spelling, this.#after.get(pair(text[at - 2] as number, last)));
    }
    const inside = this.#from(text, from, at, to, spelling, this.#places.get(pair(last, byte)));
    if (inside !== null || last === FIRST) return inside;
    return this.#from(text, from, at, to, spelling, this.#places.get(pair(FIRST, byte)));
  }

  /** A match in which one of the places stands at `at`. */
  #from(
    text: Buffer,
    from: number,
    at: number,
    to: number,
    { bytes, length }: Spelling,
    places: readonly number[] | undefined,
  ): Match | null {
    for (const place of places ?? []) {
      const wanted = this.#texts[Math.floor(place / LONGEST_TEXT)] as Buffer;
      const done = place % LONGEST_TEXT;
      const start = at - done;
      if (start < from || !isNext(wanted, done, bytes)) continue;
      if (done > 1 && wanted.compare(text, start, at, 0, done) !== 0) continue;
      const end = endOf(text, at + length, to, wanted, done + bytes.length);
      if (end > 0) return { start, end };
    }
    return null;
  }
}

function add(map: Map<number, number[]>, key: number, place: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [place]);
  else list.push(place);
}

/** In place of a byte: there is none before it. */
const FIRST = 256;
const pair = (before: number, byte: number): number => (before << 8) | byte;

/** Where what is wanted, of which `done` bytes are found, ends in the text that goes on at `at`; 0 where it does not. */
function endOf(text: Buffer, at: number, to: number, wanted: Buffer, done: number): number {
  // Most that begin alike go on differently.
  let bytes = done;
  let place = at;
  while (bytes < wanted.length && place < to && BEGINS_SPELLING[text[place] as number] === 0) {
    if (text[place] !== wanted[bytes]) return 0;
    bytes++;
    place++;
  }
  if (bytes === wanted.length) return place;
  return place >= to ? 0 : endOfWays(text, place, to, wanted, bytes);
}

/** The same where several readings are possible: each is followed. */
function endOfWays(text: Buffer, at: number, to: number, wanted: Buffer, done: number): number {
  /** For each number of bytes found: the places at which the text may go on. */
  const ways: number[][] = [];
  const reach = (bytes: number, place: number): void => {
    let places = ways[bytes - done];
    if (places === undefined) {
      places = [];
      ways[bytes - done] = places;
    }
    if (places.length < MOST_WAYS && !places.includes(place)) places.push(place);
  };
  reach(done, at);
  for (let bytes = done; bytes < wanted.length; bytes++)
    // An array may grow while it is walked: a line break leads to another place of the same bytes.
    for (const place of ways[bytes - done] ?? []) {
      if (place >= to) continue;
      if (text[place] === wanted[bytes]) reach(bytes + 1, place + 1);
      if (BEGINS_SPELLING[text[place] as number] === 0) continue;
      for (const spelling of spellingsAt(text, place, to))
        if (isNext(wanted, bytes, spelling.bytes)) reach(bytes + spelling.bytes.length, place + spelling.length);
    }
  return Math.max(0, ...(ways[wanted.length - done] ?? []));
}

function isNext(wanted: Buffer, at: number, bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (wanted[at + i] !== bytes[i]) return false;
  return true;
}
