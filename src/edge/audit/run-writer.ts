// Puts packed records into the database, run by run.
import type { Database, Statement } from "better-sqlite3";
import type { LineValues } from "../../audit/line-values.ts";
import { Packer } from "../../audit/packer.ts";
import { blockOf } from "../../audit/signature.ts";

/** A run ends when it has so many records, or bytes: enough that a statement for each costs little, few enough to read for one record. */
const MOST_RECORDS = 128;
const MOST_BYTES = 32 * 1024;

/** Collects records that follow each other by number. */
export class RunWriter {
  readonly #insert: Statement;
  readonly #packer = new Packer();
  /** The number of the first record. */
  #first = 0;

  /** `insert`: the statement for one run. */
  constructor(db: Database, insert: string) {
    this.#insert = db.prepare(insert);
  }

  /** Adds record `seq`; see `Packer.add`. */
  add(seq: number, line: LineValues, hash: Uint8Array): void {
    this.#begin(seq);
    this.#packer.add(line, hash);
    this.#end(seq);
  }

  /** Adds what is left of record `seq`; see `Packer.addDamaged`. */
  addDamaged(seq: number, bytes: Uint8Array): void {
    this.#begin(seq);
    this.#packer.addDamaged(bytes);
    this.#end(seq);
  }

  /** Stores what was collected. */
  store(): void {
    if (this.#packer.count > 0) this.#insert.run(this.#first, this.#packer.take());
  }

  #begin(seq: number): void {
    if (seq !== this.#first + this.#packer.count) this.store();
    if (this.#packer.count === 0) this.#first = seq;
  }

  #end(seq: number): void {
    const { count, length } = this.#packer;
    if (count >= MOST_RECORDS || length >= MOST_BYTES || blockOf(seq + 1) !== blockOf(seq)) this.store();
  }

  /** The transaction was rolled back. */
  forget(): void {
    this.#packer.take();
  }
}
