// The read end of the database: a connection that cannot write, beside a running house.
import { existsSync } from "node:fs";
import Database, { type Database as Db } from "better-sqlite3";
import { conditionOf, type Filter, type Group, type Param } from "../../audit/query.ts";
import type { AuditRecord } from "../../audit/record.ts";
import { EMPTY_SHA256 } from "../../audit/record.ts";
import { ROW_KEYS, type Row, recordOf } from "../../audit/row.ts";
import { databaseFile } from "./folder.ts";
import { SCHEMA_VERSION, versionOf } from "./schema.ts";

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

/** Bytes leave the database as hex: cheaper than a Buffer for each. An id that is no ULID is text already. hex(NULL) is empty. */
const HEX: Readonly<Record<string, string>> = {
  id: "iif(typeof(id) = 'blob', lower(hex(id)), id)",
  parent: "iif(typeof(parent) = 'blob', lower(hex(parent)), parent)",
  sentSha: "lower(hex(sentSha))",
  receivedSha: "lower(hex(receivedSha))",
};
const COLUMNS = `seq, lower(hex(hash)), ${ROW_KEYS.map((key) => HEX[key] ?? key).join(", ")}`;
const CHUNK = 1_000;
const MAX_WORDS = 200_000;

/** Opened by commands; close it. */
export class AuditReader {
  readonly db: Db;
  readonly #words = new Map<number, string>();

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
    } catch (error) {
      this.db.close();
      throw error;
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
      for (const line of lines) yield this.#stored(line);
      if (lines.length < CHUNK) return;
      last = lines.at(-1)?.[0] as number;
    }
  }

  lastSeq(): number {
    return this.db.prepare<[], { seq: number | null }>("SELECT max(seq) AS seq FROM records").get()?.seq ?? 0;
  }

  /** Counts and bytes by one column, most `sort` first. */
  groups(filter: Filter, by: Group, sort: "records" | "denied" | "sent" | "received", limit: number): GroupLine[] {
    const { sql, params } = conditionOf(filter);
    const denied = "sum(decision = (SELECT id FROM words WHERE text = 'deny'))";
    const lines = this.db
      .prepare<unknown[], GroupLine>(
        `SELECT ${by} AS value, count(*) AS records, coalesce(${denied}, 0) AS denied, sum(sentBytes) AS sent,
         sum(receivedBytes) AS received FROM records WHERE ${sql} GROUP BY ${by} ORDER BY ${sort} DESC LIMIT ?`,
      )
      .all(...params, limit);
    return lines.map((line) =>
      by === "status" || line.value === null ? line : { ...line, value: this.#word(line.value as number) },
    );
  }

  /** Records, refusals and bytes of all that match. */
  totals(filter: Filter): { records: number; sent: number; received: number; from: number | null; to: number | null } {
    const { sql, params } = conditionOf(filter);
    return this.db
      .prepare<unknown[], { records: number; sent: number; received: number; from: number | null; to: number | null }>(
        `SELECT count(*) AS records, coalesce(sum(sentBytes), 0) AS sent, coalesce(sum(receivedBytes), 0) AS received,
         min(at) AS "from", max(at) AS "to" FROM records WHERE ${sql}`,
      )
      .get(...params) as never;
  }

  *#select(filter: Filter, after: number, order: "ASC" | "DESC", limit: number): Generator<StoredRow> {
    const { sql, params } = conditionOf(filter);
    const more = after > 0 ? " AND seq > ?" : "";
    const values: Param[] = after > 0 ? [...params, after] : [...params];
    let where = sql + more;
    if (limit < Number.MAX_SAFE_INTEGER) {
      // First the numbers alone, from an index, then only those rows that are shown.
      where = `seq IN (SELECT seq FROM records WHERE ${where} ORDER BY seq ${order} LIMIT ?)`;
      values.push(limit);
    }
    const statement = this.db
      .prepare<unknown[]>(`SELECT ${COLUMNS} FROM records WHERE ${where} ORDER BY seq ${order}`)
      .raw();
    for (const line of statement.iterate(...values)) yield this.#stored(line as unknown[]);
  }

  /** Spelled out, in the order of ROW_KEYS: `verify` does this for every record. */
  #stored(v: unknown[]): StoredRow {
    const row: Row = {
      id: v[2] as string,
      parent: v[3] as string | null,
      at: v[4] as number,
      kind: this.#word(v[5] as number),
      client: this.#wordOrNull(v[6]),
      address: this.#word(v[7] as number),
      decision: this.#word(v[8] as number),
      rule: this.#wordOrNull(v[9]),
      reason: this.#wordOrNull(v[10]),
      method: this.#wordOrNull(v[11]),
      scheme: this.#wordOrNull(v[12]),
      host: this.#wordOrNull(v[13]),
      port: v[14] as number | null,
      path: v[15] as string | null,
      status: v[16] as number | null,
      sentBytes: v[17] as number,
      sentSha: (v[18] as string) || EMPTY_SHA256,
      sentComplete: v[19] as number,
      receivedBytes: v[20] as number,
      receivedSha: (v[21] as string) || EMPTY_SHA256,
      receivedComplete: v[22] as number,
      total: v[23] as number,
      uninspected: v[24] as number,
      clientProtocol: this.#wordOrNull(v[25]),
      originProtocol: this.#wordOrNull(v[26]),
      sni: this.#wordOrNull(v[27]),
      origin: this.#wordOrNull(v[28]),
      more: v[29] as string | null,
    };
    return { seq: v[0] as number, hash: v[1] as string, row };
  }

  #wordOrNull(id: unknown): string | null {
    return id === null ? null : this.#word(id as number);
  }

  #word(id: number): string {
    const known = this.#words.get(id);
    if (known !== undefined) return known;
    const text = this.db.prepare<[number], { text: string }>("SELECT text FROM words WHERE id = ?").get(id)?.text;
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    // A word that was taken away must not read like null.
    const found = text ?? `(word ${id} is missing)`;
    this.#words.set(id, found);
    return found;
  }
}

const toRecord = (s: StoredRow): StoredRecord => ({ seq: s.seq, hash: s.hash, record: recordOf(s.row) });
