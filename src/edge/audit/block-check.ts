// Does the index of blocks say what is in the records? Filters pass over a block that does not, so that whoever changes the index
// hides records without touching them.
import type { Database } from "better-sqlite3";
import type { PackedRecord } from "../../audit/packed.ts";
import { AT } from "../../audit/row.ts";
import { blockOf, Signature } from "../../audit/signature.ts";

interface StoredBlock {
  readonly oldest: unknown;
  readonly newest: unknown;
  readonly signature: unknown;
}

/** Is given all records in their order. */
export class BlockCheck {
  /** The first record of the first block that hides some of its records; null: none. */
  wrong: { readonly first: number; readonly last: number } | null = null;
  readonly #db: Database;
  #signature = new Signature();
  #oldest = Number.POSITIVE_INFINITY;
  #newest = Number.NEGATIVE_INFINITY;
  /** The first and the last record of the block that grows; 0: none. */
  #first = 0;
  #last = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Takes record `seq`, which is whole. */
  add(seq: number, record: PackedRecord): void {
    if (this.#first === 0 || blockOf(seq) !== blockOf(this.#first)) {
      this.end();
      this.#first = seq;
      this.#signature = new Signature();
      this.#oldest = Number.POSITIVE_INFINITY;
      this.#newest = Number.NEGATIVE_INFINITY;
    }
    this.#last = seq;
    const at = record.numbers[AT.at] as number;
    this.#oldest = Math.min(this.#oldest, at);
    this.#newest = Math.max(this.#newest, at);
    // Words are numbers here, as they were when the block was stored.
    this.#signature.addPacked(record);
  }

  /** There are no more. */
  end(): void {
    if (this.#first === 0 || this.wrong !== null) return;
    const stored = this.#db
      .prepare<[number], StoredBlock>("SELECT oldest, newest, signature FROM blocks WHERE block = ?")
      .get(blockOf(this.#first));
    if (stored === undefined || !this.#isIn(stored)) this.wrong = { first: this.#first, last: this.#last };
  }

  /** A block whose first records were pruned may say more. */
  #isIn({ oldest, newest, signature }: StoredBlock): boolean {
    const { bits } = this.#signature;
    return (
      // Texts and bytes stand behind all numbers in SQLite, and some are 0 here.
      typeof oldest === "number" &&
      typeof newest === "number" &&
      oldest <= this.#oldest &&
      newest >= this.#newest &&
      signature instanceof Uint8Array &&
      signature.length === bits.length &&
      bits.every((byte, i) => (byte & ~(signature[i] as number)) === 0)
    );
  }
}
