// Finds any of many texts in a string in one pass, whatever the case of ASCII letters (Wu and Manber, "A fast algorithm for
// multi-pattern searching", 1994): looks at pairs of characters and jumps as far as no text can begin.

/** A stretch of a string: `end` excluded. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

const PAIRS = 65536;
/** Of a longer text so much of its beginning is enough for a match, which goes on for as long as the text is the same. */
const LONG = 256;

/** The low byte of each character with ASCII letters made small; what shares a low byte is told apart when texts are compared. */
const FOLDED = Uint8Array.from({ length: 256 }, (_, code) => (code >= 65 && code <= 90 ? code + 32 : code));

export class TextSet {
  readonly #texts: readonly string[];
  readonly #shortest: number;
  /** For a pair: how far the end of the shortest text may move on. 0: a text may end there. */
  readonly #jumps: Uint8Array;
  /** For a pair: the texts whose first `shortest` characters end with it. */
  readonly #ending = new Map<number, string[]>();

  /** Texts of two characters and more, with small ASCII letters. */
  constructor(texts: readonly string[]) {
    this.#texts = [...new Set(texts)];
    this.#shortest = Math.min(255, ...this.#texts.map((t) => t.length));
    this.#jumps = new Uint8Array(PAIRS).fill(this.#shortest - 1);
    for (const text of this.#texts) this.#add(text);
  }

  #add(text: string): void {
    const last = this.#shortest - 1;
    for (let i = 1; i <= last; i++) {
      const pair = pairAt(text, i);
      this.#jumps[pair] = Math.min(this.#jumps[pair] as number, last - i);
    }
    const pair = pairAt(text, last);
    const list = this.#ending.get(pair);
    if (list === undefined) this.#ending.set(pair, [text]);
    else list.push(text);
  }

  /** Every match in order of its beginning, also those that overlap. */
  all(text: string): Span[] {
    const found: Span[] = [];
    const last = this.#shortest - 1;
    for (let i = last; i < text.length; ) {
      const pair = pairAt(text, i);
      const jump = this.#jumps[pair] as number;
      if (jump > 0) {
        i += jump;
        continue;
      }
      const start = i - last;
      const length = this.#lengthAt(text, start, this.#ending.get(pair));
      if (length > 0) found.push({ start, end: start + length });
      i++;
    }
    return found;
  }

  /** Where the beginning (of at least so many characters, and not the whole) of one of the texts stands at the end of this one. */
  beginningAtEnd(text: string, least: number): number | null {
    let first = text.length;
    for (const one of this.#texts)
      for (let n = Math.min(one.length - 1, text.length); n >= least && text.length - n < first; n--)
        if (commonLength(text, text.length - n, one) === n) first = text.length - n;
    return first === text.length ? null : first;
  }

  #lengthAt(text: string, start: number, candidates: readonly string[] | undefined): number {
    let longest = 0;
    for (const candidate of candidates ?? []) {
      const length = commonLength(text, start, candidate);
      if (length === candidate.length || length >= LONG) longest = Math.max(longest, length);
    }
    return longest;
  }
}

const pairAt = (text: string, i: number): number =>
  ((FOLDED[text.charCodeAt(i - 1) & 255] as number) << 8) | (FOLDED[text.charCodeAt(i) & 255] as number);

/** How many characters of `wanted` stand in the text from `start` on. */
function commonLength(text: string, start: number, wanted: string): number {
  const most = Math.min(wanted.length, text.length - start);
  let n = 0;
  while (n < most && folded(text.charCodeAt(start + n)) === wanted.charCodeAt(n)) n++;
  return n;
}

const folded = (code: number): number => (code >= 65 && code <= 90 ? code + 32 : code);
