// The write end of the database: records are chained and inserted in batches, together with how far the journal was read.
import type { KeyObject } from "node:crypto";
import Database, { type Database as Db, type Statement } from "better-sqlite3";
import { type ChainPoint, ChainWriter, type SignedHead, signHead } from "../../audit/hash-chain.ts";
import { LineValues, NULL, NUMBER } from "../../audit/line-values.ts";
import { WORD_PLACES } from "../../audit/packed.ts";
import { AT, parseRow, rowText } from "../../audit/row.ts";
import { blockOf, Signature } from "../../audit/signature.ts";
import { databaseFile, makePrivate } from "./folder.ts";
import { RunWriter } from "./run-writer.ts";
import { chainEnd } from "./runs.ts";
import { explained, INSERT_RUN, prepareSchema } from "./schema.ts";

/** How far the journals have been taken in. */
export interface TakenIn {
  readonly file: number;
  readonly offset: number;
}

const NEWLINE = 10;
const MAX_WORDS = 50_000;

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
  /** Numbers of words, by the bytes that they have in a line. */
  readonly #words = new Map<string, number>();
  readonly #findWord: Statement<[string], { id: number }>;
  readonly #addWord: Statement<[string]>;
  readonly #runs: RunWriter;
  readonly #line = new LineValues();
  readonly #putBlock: Statement;
  readonly #setMeta: Statement<[string, number]>;
  readonly #putHead: Statement;
  /** Where the stored records end. */
  #end: ChainPoint;
  readonly #chain: ChainWriter;
  #filling: Filling;

  constructor(dir: string) {
    makePrivate(databaseFile(dir));
    this.db = new Database(databaseFile(dir), { timeout: 5_000 });
    try {
      this.db.pragma("page_size = 8192"); // of a new database; runs fill larger pages as well, and each page costs
      this.db.pragma("auto_vacuum = INCREMENTAL");
      this.db.pragma("journal_mode = WAL");
      this.db.pragma("synchronous = NORMAL"); // see `settle`
      this.db.pragma("wal_autocheckpoint = 2000");
      this.db.pragma("cache_size = -2048"); // what is appended is not read again
      this.db.pragma("journal_size_limit = 67108864");
      prepareSchema(this.db);
      this.#findWord = this.db.prepare("SELECT id FROM words WHERE text = ?");
      this.#addWord = this.db.prepare("INSERT INTO words (text) VALUES (?)");
      this.#putBlock = this.db.prepare(
        "INSERT OR REPLACE INTO blocks (block, oldest, newest, signature) VALUES (?, ?, ?, ?)",
      );
      this.#setMeta = this.db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");
      this.#putHead = this.db.prepare(
        "INSERT OR REPLACE INTO heads (seq, base, hash, at, signature) VALUES (?, 0, ?, ?, ?)",
      );
      this.#runs = new RunWriter(this.db, INSERT_RUN);
      this.#end = chainEnd(this.db);
      this.#chain = new ChainWriter(this.#end);
      this.#filling = this.#fillingOf(blockOf(this.#end.seq + 1));
    } catch (error) {
      this.db.close();
      throw explained(error, databaseFile(dir));
    }
  }

  get seq(): number {
    return this.#end.seq;
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
   * Chains and stores the records of these lines of the journal (whole ones, with their newlines; empty ones are none), and notes how
   * far it is taken in, in one transaction. `instead`: the line of the record that stands for a line which is no record, without its
   * newline; without it such a line is an error.
   */
  append(lines: Uint8Array, takenIn: TakenIn, instead: (text: string) => string = refuse): void {
    const { db } = this;
    db.exec("BEGIN IMMEDIATE");
    try {
      this.#addLines(lines, instead);
      this.#runs.store();
      if (lines.length > 0) this.#storeBlock();
      this.#setMeta.run("journal-file", takenIn.file);
      this.#setMeta.run("journal-offset", takenIn.offset);
      db.exec("COMMIT");
    } catch (error) {
      if (db.inTransaction) db.exec("ROLLBACK");
      this.#runs.forget();
      this.#words.clear(); // some may have been rolled back
      this.#chain.reset(this.#end);
      this.#filling = this.#fillingOf(blockOf(this.#end.seq + 1));
      throw error;
    }
    this.#end = this.#chain.point;
  }

  /** Like an empty `append`, and on the disk, with all before it, when it returns: the journals before `takenIn` may go. */
  settle(takenIn: TakenIn): void {
    this.db.pragma("synchronous = FULL");
    try {
      this.append(NOTHING, takenIn);
    } finally {
      this.db.pragma("synchronous = NORMAL");
    }
  }

  /** Signs the newest record's hash, stores the head and returns it; null when there is no record yet. */
  sign(at: number, key: KeyObject): SignedHead | null {
    if (this.#end.seq === 0) return null;
    const head = signHead(this.#end, at, key);
    this.#putHead.run(head.seq, Buffer.from(head.hash, "hex"), head.at, Buffer.from(head.signature, "base64"));
    return head;
  }

  /** Words were taken away. */
  forgetWords(): void {
    this.#words.clear();
  }

  close(): void {
    this.db.close();
  }

  #addLines(lines: Uint8Array, instead: (text: string) => string): void {
    const line = this.#line;
    line.use(lines);
    const { bytes } = line;
    for (let at = 0; at < bytes.length; ) {
      if (bytes[at] === NEWLINE) {
        at++;
        continue;
      }
      const end = line.scan(at);
      if (end >= 0) {
        this.#add(line, at, end);
        at = end + 1;
      } else {
        const newline = bytes.indexOf(NEWLINE, at);
        const stop = newline < 0 ? bytes.length : newline;
        this.#addOdd(bytes.toString("utf8", at, stop), instead);
        at = stop + 1;
      }
    }
    line.use(NOTHING);
  }

  /** A line that is not as `rowText` writes it: a record all the same, or what stands for it. */
  #addOdd(text: string, instead: (text: string) => string): void {
    const row = parseRow(text);
    const line = new LineValues();
    // Not every number that JSON reads can be written again.
    if (row === null || !line.take(rowText(row))) {
      if (!line.take(instead(text))) throw new Error("what stands for a line of the journal is no record");
    }
    this.#add(line, 0, line.bytes.length - 1);
  }

  /** Adds the record whose text is these bytes. */
  #add(line: LineValues, from: number, to: number): void {
    const seq = this.#chain.seq + 1;
    const hash = this.#chain.add(line.bytes, from, to);
    for (const place of WORD_PLACES) {
      const kind = line.kinds[place];
      if (kind !== NUMBER && kind !== NULL) line.setWord(place, this.#word(line, place));
    }
    this.#runs.add(seq, line, hash);
    this.#note(seq, line);
  }

  #note(seq: number, line: LineValues): void {
    if (blockOf(seq) !== this.#filling.block) {
      this.#storeBlock();
      this.#filling = emptyBlock(blockOf(seq));
    }
    const filling = this.#filling;
    const at = line.numbers[AT.at] as number;
    if (at < filling.oldest) filling.oldest = at;
    if (at > filling.newest) filling.newest = at;
    filling.signature.add(line);
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

  #word(line: LineValues, place: number): number {
    const raw = line.bytes.toString("latin1", line.from[place], line.to[place]);
    const known = this.#words.get(raw);
    if (known !== undefined) return known;
    const text = line.text(place);
    const id = this.#findWord.get(text)?.id ?? Number(this.#addWord.run(text).lastInsertRowid);
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    this.#words.set(raw, id);
    return id;
  }
}

const NOTHING = new Uint8Array(0);

const refuse = (): never => {
  throw new Error("a line of the journal is not a record");
};

const emptyBlock = (block: number): Filling => ({
  block,
  signature: new Signature(),
  oldest: Number.MAX_SAFE_INTEGER,
  newest: -1,
});
