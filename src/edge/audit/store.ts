// The write end of the database: records are chained and inserted in batches, together with how far the journal was read.
import type { KeyObject } from "node:crypto";
import Database, { type Database as Db, type Statement } from "better-sqlite3";
import { chainHash, GENESIS, type SignedHead, signHead } from "../../audit/hash-chain.ts";
import type { AuditRecord } from "../../audit/record.ts";
import { EMPTY_SHA256 } from "../../audit/record.ts";
import { digestsOf, ROW_KEYS, type Row, rowOf } from "../../audit/row.ts";
import { databaseFile } from "./folder.ts";
import { digestStart, prepareSchema, WORD_COLUMNS } from "./schema.ts";

/** How far the journals have been taken in. */
export interface TakenIn {
  readonly file: number;
  readonly offset: number;
}

const MAX_WORDS = 50_000;
const WORDS: ReadonlySet<string> = new Set(WORD_COLUMNS);

const blob = (hex: string): Buffer => Buffer.from(hex, "hex");
const idBlob = (id: string | null): Buffer | string | null => (id === null ? null : id.startsWith(":") ? id : blob(id));
const shaBlob = (sha: string): Buffer | null => (sha === EMPTY_SHA256 ? null : blob(sha));

/** The only writer of records. Every method may throw a SqliteError; a failed batch leaves nothing behind. */
export class AuditStore {
  readonly db: Db;
  readonly #words = new Map<string, number>();
  readonly #findWord: Statement<[string], { id: number }>;
  readonly #addWord: Statement<[string]>;
  readonly #insert: Statement;
  readonly #digest: Statement<[number, number]>;
  readonly #setMeta: Statement<[string, number]>;
  #seq: number;
  #hash: string;

  constructor(dir: string) {
    this.db = new Database(databaseFile(dir), { timeout: 5_000 });
    try {
      this.db.pragma("auto_vacuum = INCREMENTAL");
      this.db.pragma("journal_mode = WAL");
      // A commit is on the disk before the journal that it came from is deleted.
      this.db.pragma("synchronous = FULL");
      this.db.pragma("cache_size = -32768");
      this.db.pragma("journal_size_limit = 67108864");
      prepareSchema(this.db);
      this.#findWord = this.db.prepare("SELECT id FROM words WHERE text = ?");
      this.#addWord = this.db.prepare("INSERT INTO words (text) VALUES (?)");
      this.#digest = this.db.prepare("INSERT OR IGNORE INTO digests (start, seq) VALUES (?, ?)");
      this.#setMeta = this.db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");
      const marks = Array.from({ length: ROW_KEYS.length + 2 }, () => "?").join(", ");
      this.#insert = this.db.prepare(`INSERT INTO records (seq, ${ROW_KEYS.join(", ")}, hash) VALUES (${marks})`);
      const end = chainEnd(this.db);
      this.#seq = end.seq;
      this.#hash = end.hash;
    } catch (error) {
      this.db.close();
      throw error;
    }
  }

  get seq(): number {
    return this.#seq;
  }

  get takenIn(): TakenIn {
    const get = this.db.prepare<[string], { value: number }>("SELECT value FROM meta WHERE name = ?");
    return { file: get.get("journal-file")?.value ?? 0, offset: get.get("journal-offset")?.value ?? 0 };
  }

  /** Chains and stores the records, and notes how far the journal is taken in, in one transaction. */
  append(records: readonly AuditRecord[], takenIn: TakenIn): void {
    const { db } = this;
    let seq = this.#seq;
    let hash = this.#hash;
    db.exec("BEGIN IMMEDIATE");
    try {
      for (const record of records) {
        seq++;
        const row = rowOf(record);
        hash = chainHash(hash, seq, row);
        this.#insert.run(this.#values(seq, row, hash));
        for (const digest of digestsOf(record)) this.#digest.run(digestStart(digest), seq);
      }
      this.#setMeta.run("journal-file", takenIn.file);
      this.#setMeta.run("journal-offset", takenIn.offset);
      db.exec("COMMIT");
    } catch (error) {
      this.#words.clear(); // some may have been rolled back
      if (db.inTransaction) db.exec("ROLLBACK");
      throw error;
    }
    this.#seq = seq;
    this.#hash = hash;
  }

  /** Signs the newest record's hash, stores the head and returns it; null when there is no record yet. */
  sign(at: number, key: KeyObject): SignedHead | null {
    if (this.#seq === 0) return null;
    const head = signHead({ seq: this.#seq, hash: this.#hash }, at, key);
    this.db
      .prepare("INSERT OR REPLACE INTO heads (seq, base, hash, at, signature) VALUES (?, 0, ?, ?, ?)")
      .run(head.seq, blob(head.hash), head.at, Buffer.from(head.signature, "base64"));
    return head;
  }

  /** Words may have gone while the database was pruned. */
  forgetWords(): void {
    this.#words.clear();
  }

  /** Refreshes what the planner knows of the indexes; a sample, so that it takes milliseconds. */
  optimize(): void {
    this.db.pragma("analysis_limit = 400");
    this.db.pragma("optimize = 0x10002");
  }

  close(): void {
    this.db.close();
  }

  #values(seq: number, row: Row, hash: string): unknown[] {
    const values: unknown[] = [seq];
    for (const key of ROW_KEYS) {
      const value = row[key];
      if (WORDS.has(key)) values.push(value === null ? null : this.#word(value as string));
      else if (key === "id" || key === "parent") values.push(idBlob(value as string | null));
      else if (key === "sentSha" || key === "receivedSha") values.push(shaBlob(value as string));
      else values.push(value);
    }
    values.push(blob(hash));
    return values;
  }

  #word(text: string): number {
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    const id = this.#findWord.get(text)?.id ?? Number(this.#addWord.run(text).lastInsertRowid);
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    this.#words.set(text, id);
    return id;
  }
}

/** Where the chain ends: at the last record, else at the head that stands for all that were pruned, else at the beginning. */
export function chainEnd(db: Db): { seq: number; hash: string } {
  const newest =
    "SELECT seq, hash FROM (SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1) UNION ALL " +
    "SELECT seq, hash FROM (SELECT seq, hash FROM heads WHERE base = 1 ORDER BY seq DESC LIMIT 1) ORDER BY seq DESC LIMIT 1";
  const row = db.prepare<[], { seq: number; hash: Buffer }>(newest).get();
  return row === undefined ? { seq: 0, hash: GENESIS } : { seq: row.seq, hash: row.hash.toString("hex") };
}
