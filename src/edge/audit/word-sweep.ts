// Takes away the words that no record needs any more: names outlive the records that were pruned, and would fill the disk in time.
import type { Database, Statement } from "better-sqlite3";
import { COLUMN_KEYS, unpack } from "../../audit/packed.ts";
import { AT, ROW_KEYS, type Row, type RowKey } from "../../audit/row.ts";
import { WORD_COLUMNS } from "./schema.ts";

const COLUMNS = WORD_COLUMNS.filter((key) => (COLUMN_KEYS as readonly RowKey[]).includes(key));
const PACKED_PLACES = WORD_COLUMNS.filter((key) => !COLUMNS.includes(key)).map((key) => AT[key]);

/**
 * One pass over all records, in steps between which new ones may be stored. Only for the writer of the database, which must
 * forget the numbers of words that it knows when the pass is over.
 */
export class WordSweep {
  readonly #db: Database;
  readonly #page: Statement<[number, number], [number, Buffer, ...(number | null)[]]>;
  /** Words that are newer than the pass stay. */
  readonly #newest: number;
  /** A bit for each word. */
  readonly #used: Uint8Array;
  #seen = 0;
  readonly #row: Row = new Array(ROW_KEYS.length).fill(null);

  constructor(db: Database) {
    this.#db = db;
    this.#page = db
      .prepare<[number, number], [number, Buffer, ...(number | null)[]]>(
        `SELECT seq, packed, ${COLUMNS.join(", ")} FROM records WHERE seq > ? ORDER BY seq LIMIT ?`,
      )
      .raw();
    this.#newest = db.prepare<[], number | null>("SELECT max(id) FROM words").pluck().get() ?? 0;
    this.#used = new Uint8Array((this.#newest >>> 3) + 1);
  }

  /** Looks at up to `most` records. True: all were seen, and the words that none has are gone. */
  step(most: number): boolean {
    const rows = this.#page.all(this.#seen, most);
    for (const [seq, packed, ...words] of rows) {
      this.#seen = seq;
      for (const word of words) this.#mark(word);
      this.#markPacked(packed);
    }
    if (rows.length === most) return false;
    this.#remove();
    return true;
  }

  /** What a damaged record needs nobody can tell. */
  #markPacked(packed: Buffer): void {
    try {
      unpack(packed, this.#row);
    } catch {
      return;
    }
    for (const place of PACKED_PLACES) this.#mark(this.#row[place] as number | null);
  }

  #mark(word: number | null): void {
    if (word === null || word > this.#newest) return;
    this.#used[word >>> 3] = (this.#used[word >>> 3] as number) | (1 << (word & 7));
  }

  #remove(): void {
    const remove = this.#db.prepare<[number]>("DELETE FROM words WHERE id = ?");
    this.#db
      .transaction(() => {
        for (let word = 1; word <= this.#newest; word++)
          if (((this.#used[word >>> 3] as number) & (1 << (word & 7))) === 0) remove.run(word);
      })
      .immediate();
    this.#db.pragma("incremental_vacuum");
  }
}
