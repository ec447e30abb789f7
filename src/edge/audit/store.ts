// The write end of the database: records are chained and inserted in batches, together with how far the journal was read.
import type { KeyObject } from "node:crypto";
import Database, { type Database as Db, type Statement } from "better-sqlite3";
import { chainHash, GENESIS, type SignedHead, signHead } from "../../audit/hash-chain.ts";
import { COLUMN_KEYS, hashOf, Packer } from "../../audit/packed.ts";
import { AT, type Entry, type Row } from "../../audit/row.ts";
import { blockOf, Signature } from "../../audit/signature.ts";
import { databaseFile, makePrivate } from "./folder.ts";
import { explained, insertRecords, prepareSchema, WORD_COLUMNS } from "./schema.ts";

/** How far the journals have been taken in. */
export interface TakenIn {
  readonly file: number;
  readonly offset: number;
}

const MAX_WORDS = 50_000;
const WORD_PLACES = WORD_COLUMNS.map((key) => AT[key]);
const COLUMN_PLACES = COLUMN_KEYS.map((key) => AT[key]);
/** Records that one statement inserts: running one costs as much as binding all that a record has. */
const TOGETHER = 10;
/** What is bound for each: its number, its columns, what is packed. */
const BOUND = COLUMN_KEYS.length + 2;

/** A block that is being filled: what `blocks` says of it. Times in milliseconds since 1970. */
interface Filling {
  readonly block: number;
  readonly signature: Signature;
  oldest: number;
  newest: number;
}

/** The only writer of records. Every method may throw a SqliteError; a failed batch leaves nothing behind. */
export class AuditStore {
  readonly db: Db;
  readonly #words = new Map<string, number>();
  readonly #findWord: Statement<[string], { id: number }>;
  readonly #addWord: Statement<[string]>;
  readonly #insertOne: Statement;
  readonly #insertTogether: Statement;
  /** Records that are to be inserted, as they are bound. */
  readonly #waiting: unknown[] = new Array(TOGETHER * BOUND).fill(null);
  #waitingCount = 0;
  readonly #packer = new Packer();
  readonly #putBlock: Statement;
  readonly #setMeta: Statement<[string, number]>;
  #seq: number;
  #hash: string;
  #filling: Filling;

  constructor(dir: string) {
    makePrivate(databaseFile(dir));
    this.db = new Database(databaseFile(dir), { timeout: 5_000 });
    try {
      this.db.pragma("auto_vacuum = INCREMENTAL");
      this.db.pragma("journal_mode = WAL");
      this.db.pragma("synchronous = NORMAL"); // see `settle`
      this.db.pragma("wal_autocheckpoint = 4000");
      this.db.pragma("cache_size = -2048"); // what is appended is not read again
      this.db.pragma("journal_size_limit = 67108864");
      prepareSchema(this.db);
      this.#findWord = this.db.prepare("SELECT id FROM words WHERE text = ?");
      this.#addWord = this.db.prepare("INSERT INTO words (text) VALUES (?)");
      this.#putBlock = this.db.prepare(
        "INSERT OR REPLACE INTO blocks (block, oldest, newest, signature) VALUES (?, ?, ?, ?)",
      );
      this.#setMeta = this.db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");
      this.#insertOne = this.db.prepare(insertRecords(1));
      this.#insertTogether = this.db.prepare(insertRecords(TOGETHER));
      const end = chainEnd(this.db);
      this.#seq = end.seq;
      this.#hash = end.hash;
      this.#filling = this.#fillingOf(blockOf(end.seq + 1));
    } catch (error) {
      this.db.close();
      throw explained(error, databaseFile(dir));
    }
  }

  get seq(): number {
    return this.#seq;
  }

  /** A head stands for records that are gone. */
  get wasPruned(): boolean {
    return this.db.prepare("SELECT 1 FROM heads WHERE base = 1 LIMIT 1").get() !== undefined;
  }

  get takenIn(): TakenIn {
    const get = this.db.prepare<[string], { value: number }>("SELECT value FROM meta WHERE name = ?");
    return { file: get.get("journal-file")?.value ?? 0, offset: get.get("journal-offset")?.value ?? 0 };
  }

  /**
   * Chains and stores the records, and notes how far the journal is taken in, in one transaction. They are taken one by one, so that
   * few need be in memory, and their rows are used up.
   */
  append(entries: Iterable<Entry>, takenIn: TakenIn): void {
    const { db } = this;
    let seq = this.#seq;
    let hash = this.#hash;
    db.exec("BEGIN IMMEDIATE");
    try {
      for (const { row, text } of entries) {
        seq++;
        hash = chainHash(hash, seq, text);
        for (const place of WORD_PLACES) if (row[place] !== null) row[place] = this.#word(row[place] as string);
        this.#insert(seq, row, hash);
        this.#note(seq, row);
      }
      this.#insertRest();
      if (seq !== this.#seq) this.#storeBlock();
      this.#setMeta.run("journal-file", takenIn.file);
      this.#setMeta.run("journal-offset", takenIn.offset);
      db.exec("COMMIT");
    } catch (error) {
      if (db.inTransaction) db.exec("ROLLBACK");
      this.#forgetWaiting();
      this.#words.clear(); // some may have been rolled back
      this.#filling = this.#fillingOf(blockOf(this.#seq + 1));
      throw error;
    }
    this.#seq = seq;
    this.#hash = hash;
  }

  /** Like an empty `append`, and on the disk, with all before it, when it returns: the journals before `takenIn` may go. */
  settle(takenIn: TakenIn): void {
    this.db.pragma("synchronous = FULL");
    try {
      this.append([], takenIn);
    } finally {
      this.db.pragma("synchronous = NORMAL");
    }
  }

  /** Signs the newest record's hash, stores the head and returns it; null when there is no record yet. */
  sign(at: number, key: KeyObject): SignedHead | null {
    if (this.#seq === 0) return null;
    const head = signHead({ seq: this.#seq, hash: this.#hash }, at, key);
    this.db
      .prepare("INSERT OR REPLACE INTO heads (seq, base, hash, at, signature) VALUES (?, 0, ?, ?, ?)")
      .run(head.seq, Buffer.from(head.hash, "hex"), head.at, Buffer.from(head.signature, "base64"));
    return head;
  }

  /** Words were taken away. */
  forgetWords(): void {
    this.#words.clear();
  }

  close(): void {
    this.db.close();
  }

  #insert(seq: number, row: Row, hash: string): void {
    const waiting = this.#waiting;
    let at = this.#waitingCount * BOUND;
    waiting[at++] = seq;
    for (const place of COLUMN_PLACES) waiting[at++] = row[place];
    waiting[at] = this.#packer.pack(row, hash);
    if (++this.#waitingCount < TOGETHER) return;
    this.#insertTogether.run(waiting);
    this.#forgetWaiting();
  }

  #insertRest(): void {
    for (let i = 0; i < this.#waitingCount; i++) this.#insertOne.run(this.#waiting.slice(i * BOUND, (i + 1) * BOUND));
    this.#forgetWaiting();
  }

  #forgetWaiting(): void {
    this.#waitingCount = 0;
    this.#packer.reset();
  }

  #note(seq: number, row: Row): void {
    if (blockOf(seq) !== this.#filling.block) {
      this.#storeBlock();
      this.#filling = emptyBlock(blockOf(seq));
    }
    const filling = this.#filling;
    const at = row[AT.at] as number;
    if (at < filling.oldest) filling.oldest = at;
    if (at > filling.newest) filling.newest = at;
    filling.signature.add(row);
  }

  #storeBlock(): void {
    const { block, oldest, newest, signature } = this.#filling;
    if (newest >= 0) this.#putBlock.run(block, oldest, newest, signature.bits);
  }

  #fillingOf(block: number): Filling {
    const row = this.db
      .prepare<[number], { oldest: number; newest: number; signature: Buffer }>("SELECT * FROM blocks WHERE block = ?")
      .get(block);
    if (row === undefined) return emptyBlock(block);
    return { block, oldest: row.oldest, newest: row.newest, signature: new Signature(row.signature) };
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

const emptyBlock = (block: number): Filling => ({
  block,
  signature: new Signature(),
  oldest: Number.MAX_SAFE_INTEGER,
  newest: -1,
});

/** Where the chain ends: at the last record, else at the head that stands for all that were pruned, else at the beginning. */
export function chainEnd(db: Db): { seq: number; hash: string } {
  const base = db
    .prepare<[], { seq: number; hash: Buffer }>("SELECT seq, hash FROM heads WHERE base = 1 ORDER BY seq DESC LIMIT 1")
    .get();
  const last = db
    .prepare<[], { seq: number; packed: Buffer }>("SELECT seq, packed FROM records ORDER BY seq DESC LIMIT 1")
    .get();
  if (last !== undefined && last.seq > (base?.seq ?? 0)) return { seq: last.seq, hash: hashOf(last.packed) };
  return base === undefined ? { seq: 0, hash: GENESIS } : { seq: base.seq, hash: base.hash.toString("hex") };
}
