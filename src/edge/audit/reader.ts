// The read end of the database: a connection that cannot write, beside a running house.
import { existsSync } from "node:fs";
import Database, { type Database as Db, type Statement } from "better-sqlite3";
import { PackedRecord, Run, WORD_PLACES } from "../../audit/packed.ts";
import { type Condition, conditionOf, type Filter, type FindWords, type Group } from "../../audit/query.ts";
import type { AuditRecord } from "../../audit/record.ts";
import { AT, ROW_KEYS, type Row, recordOf } from "../../audit/row.ts";
import { BLOCK, blockOf, mayHold } from "../../audit/signature.ts";
import { isMoment } from "../../audit/units.ts";
import { databaseFile } from "./folder.ts";
import { lastRecord, type StoredRun } from "./runs.ts";
import { explained, SCHEMA_VERSION, versionOf } from "./schema.ts";

export interface StoredRecord {
  readonly seq: number;
  readonly hash: string;
  readonly record: AuditRecord;
}

export interface StoredRow {
  readonly seq: number;
  readonly hash: string;
  readonly row: Row;
}

/** What could not be read, each named at most once. */
export interface Damage {
  /** Numbers of records that are left out; after the first thousand no more are named. */
  readonly records: ReadonlySet<number>;
  /** Numbers of values that repeat: records are shown with a remark in their place. */
  readonly words: ReadonlySet<number>;
}

/** One line of `--group-by`: counts, and bytes each way. */
export interface GroupLine {
  readonly value: string | number | null;
  readonly records: number;
  readonly denied: number;
  readonly sent: number;
  readonly received: number;
}

/** Filled by `push`: V8 writes JSON of an array that it knows to have no holes several times as fast. */
const EMPTY: Row = [];
for (const _key of ROW_KEYS) EMPTY.push(null);
const MAX_WORDS = 200_000;
const MAX_NAMED = 1_000;

type Order = "ASC" | "DESC";

/** Opened by commands; close it. */
export class AuditReader {
  readonly db: Db;
  readonly #words = new Map<number, string>();
  readonly #damagedRecords = new Set<number>();
  readonly #damagedWords = new Set<number>();
  readonly #wordText: Statement<[number], string>;

  /** Of the log in a folder; or of a connection that is open, and stays so. Throws when there is no database, or one of another version. */
  constructor(from: string | Db) {
    if (typeof from !== "string") {
      this.db = from;
      this.#wordText = wordTexts(from);
      return;
    }
    const dir = from;
    const file = databaseFile(dir);
    if (!existsSync(file))
      throw new Error(`there is no audit log in ${dir} (start the proxy once, or name its folder with --data)`);
    try {
      this.db = new Database(file, { readonly: true, timeout: 5_000 });
    } catch (error) {
      throw explained(error, file);
    }
    try {
      const version = versionOf(this.db);
      if (version === 0 && isEmpty(this.db))
        throw new Error(`the audit database ${file} is empty: no proxy has written to it yet, or somebody emptied it`);
      if (version < SCHEMA_VERSION)
        throw new Error("the audit database is older than this program: start the proxy once to upgrade it");
      this.db.pragma("cache_size = -65536");
      this.db.pragma("mmap_size = 1073741824");
      this.#wordText = wordTexts(this.db);
    } catch (error) {
      this.db.close();
      throw explained(error, file);
    }
  }

  close(): void {
    this.db.close();
  }

  /** What was damaged of that which was asked for until now. */
  get damage(): Damage {
    return { records: this.#damagedRecords, words: this.#damagedWords };
  }

  /** The newest `limit` records that match, newest first; `after`: only those with a higher number. */
  newest(filter: Filter, limit: number, after = 0): StoredRecord[] {
    return [...this.#select(filter, after, "DESC", limit)];
  }

  /** The `limit` records with the most bytes, or that took longest, of all that match; the newest first where they are equal. */
  most(filter: Filter, by: "sent" | "received" | "took", limit: number): StoredRecord[] {
    const place = AT[({ sent: "sentBytes", received: "receivedBytes", took: "total" } as const)[by]];
    const record = new PackedRecord();
    let found: { readonly value: number; readonly stored: StoredRow }[] = [];
    let least = Number.NEGATIVE_INFINITY;
    const cut = (): void => {
      found.sort((a, b) => b.value - a.value || b.stored.seq - a.stored.seq);
      found = found.slice(0, limit);
      if (found.length === limit) least = found.at(-1)?.value ?? least;
    };
    for (const seq of this.#matching(record, filter, 0, "ASC")) {
      const value = record.numbers[place] as number;
      if (value < least) continue;
      found.push({ value, stored: this.#stored(seq, record) });
      if (found.length >= 2 * limit + 1_000) cut();
    }
    cut();
    return found.flatMap(({ stored }) => this.#toRecord(stored) ?? []);
  }

  /** Those that match, oldest first, one at a time. */
  oldest(filter: Filter, limit = Number.MAX_SAFE_INTEGER, after = 0): Generator<StoredRecord> {
    return this.#select(filter, after, "ASC", limit);
  }

  /** Every row after number `after`, as it is stored, for `verify`; `packed` is it until the next one is asked for. */
  *rows(after = 0): Generator<StoredRow & { readonly packed: PackedRecord }> {
    const record = new PackedRecord();
    for (const { seq, packed } of this.#runs(after + 1, Number.MAX_SAFE_INTEGER, "ASC")) {
      const run = new Run(packed);
      for (let i = Math.max(0, after + 1 - seq); i < run.count; i++)
        yield this.#storedOrDamaged(seq + i, record, run, i);
    }
  }

  lastSeq(): number {
    return lastRecord(this.db)?.seq ?? 0;
  }

  /** Counts and bytes by one value, most `sort` first. */
  groups(filter: Filter, by: Group, sort: "records" | "denied" | "sent" | "received", limit: number): GroupLine[] {
    const record = new PackedRecord();
    const denied = this.#findWords([{ text: "deny", glob: false }])[0];
    const place = AT[by];
    // 0 is null.
    const groups = new Map<number, { records: number; denied: number; sent: number; received: number }>();
    for (const _seq of this.#matching(record, filter, 0, "ASC")) {
      const value = record.numbers[place] as number;
      let group = groups.get(value);
      if (group === undefined) {
        group = { records: 0, denied: 0, sent: 0, received: 0 };
        groups.set(value, group);
      }
      group.records++;
      if (record.numbers[AT.decision] === denied) group.denied++;
      group.sent += record.numbers[AT.sentBytes] as number;
      group.received += record.numbers[AT.receivedBytes] as number;
    }
    return [...groups]
      .sort(([a, x], [b, y]) => y[sort] - x[sort] || a - b)
      .slice(0, limit)
      .map(([value, group]) => ({ value: value === 0 ? null : by === "status" ? value : this.#word(value), ...group }));
  }

  /** Records and bytes of all that match, and when the first and the last of them began. */
  totals(filter: Filter): { records: number; sent: number; received: number; from: number | null; to: number | null } {
    const record = new PackedRecord();
    const all = { records: 0, sent: 0, received: 0, from: null as number | null, to: null as number | null };
    for (const _seq of this.#matching(record, filter, 0, "ASC")) {
      const at = record.numbers[AT.at] as number;
      all.records++;
      all.sent += record.numbers[AT.sentBytes] as number;
      all.received += record.numbers[AT.receivedBytes] as number;
      all.from = Math.min(all.from ?? at, at);
      all.to = Math.max(all.to ?? at, at);
    }
    return all;
  }

  *#select(filter: Filter, after: number, order: Order, limit: number): Generator<StoredRecord> {
    const packed = new PackedRecord();
    let left = limit;
    if (left <= 0) return;
    for (const seq of this.#matching(packed, filter, after, order)) {
      const record = this.#toRecord(this.#stored(seq, packed));
      if (record === null) continue;
      yield record;
      if (--left <= 0) return;
    }
  }

  /**
   * Reads all records after number `after` that match, one after the other, into `record`, and yields their numbers. Nobody can tell
   * whether a damaged one matches: it is left out, and noted.
   */
  *#matching(record: PackedRecord, filter: Filter, after: number, order: Order): Generator<number> {
    const condition = conditionOf(filter, this.#findWords);
    const ranges = this.#ranges(filter, condition, after);
    if (order === "DESC") ranges.reverse();
    for (const [first, last] of ranges)
      for (const { seq, packed } of this.#runs(first, last, order)) {
        const run = new Run(packed);
        for (let n = 0; n < run.count; n++) {
          const i = order === "ASC" ? n : run.count - 1 - n;
          if (seq + i < first) continue;
          if (this.#matches(condition, record, run, i, seq + i)) yield seq + i;
        }
      }
  }

  /** All runs that have records from number `first` on, up to those that begin with `last`. */
  #runs(first: number, last: number, order: Order): Iterable<StoredRun> {
    // A run is of one block.
    return this.db
      .prepare<[number, number], StoredRun>(
        `SELECT seq, packed FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq ${order}`,
      )
      .iterate(blockOf(first) * BLOCK, last);
  }

  /** Where records after number `after` may match, ascending: first and last number of each run of blocks. */
  #ranges(filter: Filter, condition: Condition, after: number): [number, number][] {
    if (condition.terms.length === 0 && filter.since === undefined && filter.until === undefined)
      return [[after + 1, Number.MAX_SAFE_INTEGER]];
    const blocks = this.db
      .prepare<number[], [number, Uint8Array]>(
        "SELECT block, signature FROM blocks WHERE block >= ? AND newest >= ? AND oldest < ? ORDER BY block",
      )
      .raw()
      .iterate(blockOf(after + 1), filter.since ?? 0, filter.until ?? Number.MAX_SAFE_INTEGER) as Iterable<
      [number, Uint8Array]
    >;
    const ranges: [number, number][] = [];
    for (const [block, signature] of blocks) {
      if (!mayHold(signature, condition.terms)) continue;
      const first = Math.max(block * BLOCK, after + 1);
      const before = ranges.at(-1);
      if (before !== undefined && before[1] + 1 === first) before[1] = (block + 1) * BLOCK - 1;
      else ranges.push([first, (block + 1) * BLOCK - 1]);
    }
    return ranges;
  }

  readonly #findWords: FindWords = (tests) => {
    const sql = tests.map((test) => (test.glob ? "text GLOB ?" : "text = ?")).join(" OR ");
    return this.db
      .prepare<string[], number>(`SELECT id FROM words WHERE ${sql}`)
      .pluck()
      .all(...tests.map((test) => test.text));
  };

  #stored(seq: number, record: PackedRecord): StoredRow {
    const row = record.row(EMPTY.slice());
    for (const place of WORD_PLACES) if (row[place] !== null) row[place] = this.#word(row[place] as number);
    return { seq, hash: record.hash, row };
  }

  /** A damaged record has a hash that is none, which `verify` names. */
  #storedOrDamaged(seq: number, packed: PackedRecord, run: Run, i: number): StoredRow & { packed: PackedRecord } {
    try {
      return { ...this.#stored(seq, packed.read(run, i)), packed };
    } catch {
      return { seq, hash: "", row: [], packed };
    }
  }

  #word(id: number): string {
    const known = this.#words.get(id);
    if (known !== undefined) return known;
    const text = this.#wordText.get(id) as unknown;
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    // A word that was taken away must not read like null.
    const found = typeof text === "string" ? text : `(word ${id} is ${text === undefined ? "missing" : "damaged"})`;
    if (typeof text !== "string") note(this.#damagedWords, id);
    this.#words.set(id, found);
    return found;
  }

  /** Null, and noted, when the row is not what was written. */
  #toRecord({ seq, hash, row }: StoredRow): StoredRecord | null {
    try {
      return { seq, hash, record: recordOf(row) };
    } catch {
      note(this.#damagedRecords, seq);
      return null;
    }
  }

  /** Reads record `i` of a run, which has the number `seq`, if it matches. */
  #matches(condition: Condition, record: PackedRecord, run: Run, i: number, seq: number): boolean {
    try {
      record.begin(run, i, condition.end);
      if (!condition.matches(record)) return false;
      record.finish();
      if (isMoment(record.numbers[AT.at])) return true;
    } catch {}
    note(this.#damagedRecords, seq);
    return false;
  }
}

const wordTexts = (db: Db): Statement<[number], string> =>
  db.prepare<[number], string>("SELECT text FROM words WHERE id = ?").pluck();

const isEmpty = (db: Db): boolean => db.prepare("SELECT count(*) FROM sqlite_schema").pluck().get() === 0;

function note(damaged: Set<number>, number: number): void {
  if (damaged.size < MAX_NAMED) damaged.add(number);
}
