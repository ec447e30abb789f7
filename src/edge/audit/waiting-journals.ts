// The journals that the database may still need. Each is deleted only after the auditor said that it is done with it: one that goes
// before that takes records with it.
import { FileGone, identityAt } from "./place.ts";

interface Waiting {
  readonly number: number;
  readonly file: string;
  readonly identity: string;
  /** Those in it that the database does not have; of a journal from an earlier run nobody knows. */
  records: number;
}

/** Ascending by number; the last is the one that is written. */
export class WaitingJournals {
  readonly #journals: Waiting[] = [];
  /** The journal that was not there at the last look. */
  #suspect: string | null = null;

  /** The number of the first. */
  get first(): number {
    return (this.#journals[0] as Waiting).number;
  }

  add(number: number, file: string, identity: string): void {
    this.#journals.push({ number, file, identity, records: 0 });
  }

  /** So many records were written to the last. */
  wrote(records: number): void {
    (this.#journals.at(-1) as Waiting).records += records;
  }

  /** All before journal `number` are done with, and so many more records of it are in the database. */
  taken(number: number, records: number): void {
    this.#forget(number);
    const first = this.#journals[0];
    if (first?.number === number) first.records = Math.max(0, first.records - records);
  }

  /** Those before journal `number` were not there to be read. Returns how many records were in them. */
  lost(number: number): number {
    return this.#forget(number).reduce((sum, { records }) => sum + records, 0);
  }

  /**
   * Throws FileGone when one is not where it was, and what `stat` throws. `twice`: only when that was so at the look before too. The
   * auditor says that it is done with a journal before it deletes it, and yet we may look before we have heard it.
   */
  check(twice: boolean): void {
    const gone = this.#journals.find(({ file, identity }) => identityAt(file) !== identity)?.file ?? null;
    const before = this.#suspect;
    this.#suspect = gone;
    if (gone !== null && (gone === before || !twice)) throw new FileGone(gone);
  }

  #forget(before: number): Waiting[] {
    const rest = this.#journals.findIndex(({ number }) => number >= before);
    return this.#journals.splice(0, rest < 0 ? this.#journals.length : rest);
  }
}
