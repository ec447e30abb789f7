// Takes away the words that no record needs any more: names outlive the records that were pruned, and would fill the disk in time.
import type { Database, Statement } from "better-sqlite3";
import { PackedRecord, Run, WORD_PLACES } from "../../audit/packed.ts";
import type { StoredRun } from "./runs.ts";

/**
 * One pass over all records, in steps between which new ones may be stored. Only for the writer of the database, which must
 * forget the numbers of words that it knows when the pass is over.
 */
export class WordSweep {
  readonly #db: Database;
  readonly #next: Statement<[number], StoredRun>;
  /** Words that are newer than the pass stay. */
  readonly #newest: number;
  /** A bit for each word. */
  readonly #used: Uint8Array;
  #seen = 0;
  readonly #record = new PackedRecord();

  constructor(db: Database) {
    this.#db = db;
    this.#next = db.prepare("SELECT seq, packed FROM records WHERE seq > ? ORDER BY seq LIMIT 1");
    this.#newest = db.prepare<[], number | null>("SELECT max(id) FROM words").pluck().get() ?? 0;
    this.#used = new Uint8Array((this.#newest >>> 3) + 1);
  }

  /** Looks at `most` records, or a few more. True: all were seen, and the words that none has are gone. */
  step(most: number): boolean {
    for (let looked = 0; looked < most; ) {
      const next = this.#next.get(this.#seen);
      if (next === undefined) {
        this.#remove();
        return true;
      }
      this.#seen = next.seq;
      const run = new Run(next.packed);
      for (let i = 0; i < run.count; i++) this.#markAll(run, i);
      looked += run.count;
    }
    return false;
  }

  /** What a damaged record needs nobody can tell. */
  #markAll(run: Run, i: number): void {
    try {
      this.#record.read(run, i);
    } catch {
      return;
    }
    for (const place of WORD_PLACES) this.#mark(this.#record.numbers[place] as number);
  }

  #mark(word: number): void {
    if (!(word > 0 && word <= this.#newest)) return;
    this.#used[word >>> 3] = (this.#used[word >>> 3] as number) | (1 << (word & 7));
  }

  #remove(): void {
    const remove = this.#db.prepare<[number]>("DELETE FROM words WHERE id = ?");
    this.#db
      .transaction(() => {
        // The newest stays: its number would be given again, and readers that know it would take the next word for it.
        for (let word = 1; word < this.#newest; word++)
          if (((this.#used[word >>> 3] as number) & (1 << (word & 7))) === 0) remove.run(word);
      })
      .immediate();
    this.#db.pragma("incremental_vacuum");
  }
}
