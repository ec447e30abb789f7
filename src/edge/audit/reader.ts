// The read end of the database: a connection that cannot write, beside a running house.
import { existsSync } from "node:fs";
import Database, { type Database as Db, type Statement } from "better-sqlite3";
import { COLUMN_KEYS, packedValue, unpack } from "../../audit/packed.ts";
import {
  type Condition,
  conditionOf,
  type Filter,
  type FindWords,
  type Group,
  PACKED_FILTERS,
  type Param,
} from "../../audit/query.ts";
import type { AuditRecord } from "../../audit/record.ts";
import { AT, ROW_KEYS, type Row, recordOf, type Value } from "../../audit/row.ts";
import { BLOCK, blockOf, mayHold } from "../../audit/signature.ts";
import { databaseFile } from "./folder.ts";
import { explained, SCHEMA_VERSION, versionOf, WORD_COLUMNS } from "./schema.ts";

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

/** One line of `--group-by`: counts, and bytes each way. */
export interface GroupLine {
  readonly value: string | number | null;
  readonly records: number;
  readonly denied: number;
  readonly sent: number;
  readonly received: number;
}

const COLUMNS = `seq, packed, ${COLUMN_KEYS.join(", ")}`;
const COLUMN_PLACES = COLUMN_KEYS.map((key) => AT[key]);
/** Filled by `push`: V8 writes JSON of an array that it knows to have no holes several times as fast. */
const EMPTY: Row = [];
for (const _key of ROW_KEYS) EMPTY.push(null);
const WORD_PLACES = WORD_COLUMNS.map((key) => AT[key]);
const CHUNK = 1_000;
const MAX_WORDS = 200_000;
/** Milliseconds since 1970 that a Date can hold. */
const MAX_TIME = 8.64e15;

/** Opened by commands; close it. */
export class AuditReader {
  readonly db: Db;
  readonly #words = new Map<number, string>();
  readonly #wordText: Statement<[number], string>;

  /** Throws when there is no database, or one of another version. */
  constructor(dir: string) {
    const file = databaseFile(dir);
    if (!existsSync(file))
      throw new Error(`there is no audit log in ${dir} (start the proxy once, or name its folder with --data)`);
    this.db = new Database(file, { readonly: true, timeout: 5_000 });
    try {
      if (versionOf(this.db) < SCHEMA_VERSION)
        throw new Error("the audit database is older than this program: start the proxy once to upgrade it");
      this.db.pragma("cache_size = -65536");
      this.db.pragma("mmap_size = 1073741824");
      this.#wordText = this.db.prepare<[number], string>("SELECT text FROM words WHERE id = ?").pluck();
      for (const key of PACKED_FILTERS)
        this.db.function(key, { deterministic: true, directOnly: true }, (packed: unknown) =>
          packedValue(packed as Buffer, key),
        );
    } catch (error) {
      this.db.close();
      throw explained(error, file);
    }
  }

  close(): void {
    this.db.close();
  }

  /** The newest `limit` records that match, newest first; `after`: only those with a higher number. */
  newest(filter: Filter, limit: number, after = 0): StoredRecord[] {
    const found: StoredRecord[] = [];
    for (const stored of this.#select(filter, after, "DESC", limit)) found.push(toRecord(stored));
    return found;
  }

  /** The `limit` records with the most bytes, or that took longest, of all that match; the newest first where they are equal. */
  most(filter: Filter, by: "sent" | "received" | "took", limit: number): StoredRecord[] {
    const { from, params } = this.#all(filter);
    const column = { sent: "sentBytes", received: "receivedBytes", took: "total" }[by];
    return this.db
      .prepare<unknown[]>(`SELECT ${COLUMNS} FROM ${from} ORDER BY ${column} DESC, seq DESC LIMIT ?`)
      .raw()
      .all(...params, limit)
      .map((line) => toRecord(this.#stored(line as unknown[])));
  }

  /** Those that match, oldest first, one at a time. */
  *oldest(filter: Filter, limit = Number.MAX_SAFE_INTEGER, after = 0): Generator<StoredRecord> {
    for (const stored of this.#select(filter, after, "ASC", limit)) yield toRecord(stored);
  }

  /** Every row after number `after`, as it is stored; fetched by the thousand, for `verify`. */
  *rows(after = 0): Generator<StoredRow> {
    const statement = this.db
      .prepare<[number, number]>(`SELECT ${COLUMNS} FROM records WHERE seq > ? ORDER BY seq LIMIT ?`)
      .raw();
    for (let last = after; ; ) {
      const lines = statement.all(last, CHUNK) as unknown[][];
      for (const line of lines) yield this.#storedOrDamaged(line);
      if (lines.length < CHUNK) return;
      last = lines.at(-1)?.[0] as number;
    }
  }

  lastSeq(): number {
    return this.db.prepare<[], { seq: number | null }>("SELECT max(seq) AS seq FROM records").get()?.seq ?? 0;
  }

  /** Counts and bytes by one column, most `sort` first. */
  groups(filter: Filter, by: Group, sort: "records" | "denied" | "sent" | "received", limit: number): GroupLine[] {
    const { from, params } = this.#all(filter);
    const denied = "sum(decision = (SELECT id FROM words WHERE text = 'deny'))";
    const lines = this.db
      .prepare<unknown[], GroupLine>(
        `SELECT ${by} AS value, count(*) AS records, coalesce(${denied}, 0) AS denied, sum(sentBytes) AS sent,
         sum(receivedBytes) AS received FROM ${from} GROUP BY ${by} ORDER BY ${sort} DESC LIMIT ?`,
      )
      .all(...params, limit);
    return lines.map((line) =>
      by === "status" || line.value === null ? line : { ...line, value: this.#word(line.value as number) },
    );
  }

  /** Records, refusals and bytes of all that match. */
  totals(filter: Filter): { records: number; sent: number; received: number; from: number | null; to: number | null } {
    const { from, params } = this.#all(filter);
    return this.db
      .prepare<unknown[], { records: number; sent: number; received: number; from: number | null; to: number | null }>(
        `SELECT count(*) AS records, coalesce(sum(sentBytes), 0) AS sent, coalesce(sum(receivedBytes), 0) AS received,
         min(at) AS "from", max(at) AS "to" FROM ${from}`,
      )
      .get(...params) as never;
  }

  /** What stands behind FROM for all records that match. */
  #all(filter: Filter): { from: string; params: Param[] } {
    const condition = conditionOf(filter, this.#findWords);
    const ranges = JSON.stringify(this.#ranges(filter, condition, 0));
    return {
      from: `(SELECT value ->> 0 AS low, value ->> 1 AS high FROM json_each(?)) CROSS JOIN records ON seq BETWEEN low AND high
         WHERE ${condition.sql}`,
      params: [ranges, ...condition.params],
    };
  }

  *#select(filter: Filter, after: number, order: "ASC" | "DESC", limit: number): Generator<StoredRow> {
    const condition = conditionOf(filter, this.#findWords);
    const ranges = this.#ranges(filter, condition, after);
    if (order === "DESC") ranges.reverse();
    const statement = this.db
      .prepare<unknown[]>(
        `SELECT ${COLUMNS} FROM records WHERE seq BETWEEN ? AND ? AND ${condition.sql} ORDER BY seq ${order} LIMIT ?`,
      )
      .raw();
    let left = limit;
    for (const [first, last] of ranges) {
      for (const line of statement.iterate(first, last, ...condition.params, left)) {
        left--;
        yield this.#stored(line as unknown[]);
      }
      if (left <= 0) return;
    }
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

  #stored(line: unknown[]): StoredRow {
    const row = EMPTY.slice();
    for (let i = 0; i < COLUMN_PLACES.length; i++) row[COLUMN_PLACES[i] as number] = line[i + 2] as Value;
    const hash = unpacked(line[0] as number, line[1] as Buffer, row);
    for (const place of WORD_PLACES) row[place] = this.#wordOrNull(row[place]);
    return { seq: line[0] as number, hash, row };
  }

  /** A damaged record has a hash that is none, which `verify` names. */
  #storedOrDamaged(line: unknown[]): StoredRow {
    try {
      return this.#stored(line);
    } catch {
      return { seq: line[0] as number, hash: "", row: [] };
    }
  }

  #wordOrNull(id: unknown): string | null {
    return id === null ? null : this.#word(id as number);
  }

  #word(id: number): string {
    const known = this.#words.get(id);
    if (known !== undefined) return known;
    const text = this.#wordText.get(id);
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    // A word that was taken away must not read like null.
    const found = text ?? `(word ${id} is missing)`;
    this.#words.set(id, found);
    return found;
  }
}

/** Throws when the row is not what was written; the error names the record. */
function toRecord({ seq, hash, row }: StoredRow): StoredRecord {
  try {
    const record = recordOf(row);
    if (!(Math.abs(record.at) <= MAX_TIME)) throw new RangeError("the time of the record is none");
    return { seq, hash, record };
  } catch (cause) {
    throw damaged(seq, cause);
  }
}

/** As `unpack`; the error names the record. */
function unpacked(seq: number, packed: Buffer, row: Row): string {
  try {
    return unpack(packed, row);
  } catch (cause) {
    throw damaged(seq, cause);
  }
}

const damaged = (seq: number, cause: unknown): Error =>
  new Error(`record ${seq} of the audit log is damaged: \`sallyport audit verify\` says what can be trusted`, {
    cause,
  });
