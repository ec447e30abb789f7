// Finds where one of many texts may begin, by its first three bytes: one look for every two bytes of text, none of which waits
// for the one before, so that it costs a nanosecond or so a byte. For texts so short that a `LiteralSet` could hardly jump.

/** Bytes that are compared. */
const LENGTH = 3;
const VALUES = 65536;

export class Beginnings {
  /** 1 for each pair of bytes that stands among the first three of a text. */
  readonly #pairs = new Uint8Array(VALUES);
  /** 1 for what three bytes make, mixed; others may make the same. */
  readonly #mixed = new Uint8Array(VALUES);

  /** The texts must have three bytes at least. */
  constructor(texts: readonly Uint8Array[]) {
    for (const text of texts) {
      this.#pairs[pairAt(text, 0)] = this.#pairs[pairAt(text, 1)] = 1;
      this.#mixed[mixedAt(text, 0)] = 1;
    }
  }

  /** The first offset from `from` on at which a text may begin whose first three bytes end at `to` or before; -1: there is none. */
  next(text: Uint8Array, from: number, to: number): number {
    const pairs = this.#pairs;
    const mixed = this.#mixed;
    for (let at = from; at + 1 < to; at += 2) {
      if (pairs[((text[at] as number) << 8) | (text[at + 1] as number)] === 0) continue;
      if (at > from && mixed[mixedAt(text, at - 1)] === 1) return at - 1;
      if (at + LENGTH <= to && mixed[mixedAt(text, at)] === 1) return at;
    }
    return -1;
  }
}

const pairAt = (text: Uint8Array, at: number): number => ((text[at] as number) << 8) | (text[at + 1] as number);

const mixedAt = (text: Uint8Array, at: number): number =>
  (((text[at] as number) << 8) ^ ((text[at + 1] as number) << 4) ^ (text[at + 2] as number)) & (VALUES - 1);
