// The audit sink of the house: appends to the journal on this thread, and leaves the database to the auditor's thread.
import type { SignedHead } from "../../audit/hash-chain.ts";
import { LineBuffer } from "../../audit/line.ts";
import type { AuditRecord } from "../../audit/record.ts";
import type { AuditSink } from "../../audit/sink.ts";
import type { Clock } from "../../shared/clock.ts";
import type { Log } from "../../shared/log.ts";
import { AuditorThread } from "./auditor-thread.ts";
import { beginJournals } from "./begin-journals.ts";
import { databaseFile, lockFile, lockFolder } from "./folder.ts";
import type { JournalWriter } from "./journal-writer.ts";
import type { AuditorData, FromAuditor, Keep, ToAuditor } from "./messages.ts";
import { Place } from "./place.ts";
import { SpareLines } from "./spare-lines.ts";

export interface AuditSinkOptions {
  /** The data folder; made when missing. */
  readonly dir: string;
  /** True: no traffic while records cannot be written. */
  readonly required: boolean;
  /** `full`: a record is on the disk before it is released; `normal`: within 100 ms. */
  readonly sync: "normal" | "full";
  readonly keep: Keep;
  readonly log: Log;
  readonly clock: Clock;
  /** Called each time the auditor's thread has begun to run. */
  readonly threadRuns?: () => void;
  /** Bytes of a journal at which the next begins. */
  readonly rotateAt?: number;
  /** Bytes that may wait for the database; beyond, no traffic may start. */
  readonly backlog?: number;
}

export interface HouseAuditSink extends AuditSink {
  /** Why records cannot be kept now, whether or not the log is required; null: they can. */
  readonly fault: string | null;
  /** Records that are in the journal and not yet in the database. */
  lag(): number;
  /** Records that were lost because the log could not be written. */
  dropped(): number;
  /** The newest signed head, or null before the first. */
  head(): SignedHead | null;
  /** From now on. */
  change(settings: Pick<AuditSinkOptions, "required" | "sync" | "keep">): void;
}

type Released = (written: boolean) => void;

const MIB = 1024 * 1024;
const SYNC_MS = 100;
const RETRY_MS = 1_000;
/** How long, and of how many bytes, the auditor may not know: few wakings and few commits are cheap. */
const NOTIFY_MS = 150;
const NOTIFY_BYTES = MIB;

/**
 * Opens the log in `dir` for writing. Throws when another process writes it (FolderInUse), or when the folder or the database cannot
 * be used at all (unreadable, made by a newer version).
 */
export async function openAuditSink(options: AuditSinkOptions): Promise<HouseAuditSink> {
  const unlock = lockFolder(options.dir);
  try {
    const journal = beginJournals(options.dir, options.rotateAt ?? 4 * MIB);
    const place = new Place([lockFile(options.dir), databaseFile(options.dir)]);
    return new WorkerSink(options, unlock, journal, place);
  } catch (error) {
    unlock();
    throw error;
  }
}

class WorkerSink implements HouseAuditSink {
  readonly #options: AuditSinkOptions;
  readonly #backlog: number;
  #required: boolean;
  #sync: AuditSinkOptions["sync"];
  #keep: Keep;
  readonly #unlock: () => void;
  readonly #journal: JournalWriter;
  readonly #place: Place;
  readonly #thread: AuditorThread;
  readonly #firstFile: number;

  /** Lines and callbacks of this turn of the event loop. */
  readonly #lines = new LineBuffer();
  #count = 0;
  #released: Released[] = [];
  #turn: NodeJS.Immediate | null = null;

  #waitingRecords = 0;
  /** Sizes of what was written between two notices that the database does not have yet, oldest first: [file, end, bytes]. */
  #unread: [number, number, number][] = [];
  #unreadBytes = 0;
  /** Bytes of these that the auditor was not told of yet. */
  #untoldBytes = 0;
  #notify: NodeJS.Timeout | null = null;
  #writeFault: string | null = null;
  #storeFault: string | null = null;
  readonly #spare = new SpareLines();
  #dropped = 0;
  #warnedDropped = false;

  #dirty = false;
  #syncing = false;
  #unsynced: Released[] = [];
  readonly #syncTimer: NodeJS.Timeout;
  #retryTimer: NodeJS.Timeout | null = null;
  #head: SignedHead | null = null;
  #flushToken = 0;
  readonly #flushes = new Map<number, () => void>();
  #closed: Promise<void> | null = null;

  constructor(options: AuditSinkOptions, unlock: () => void, journal: JournalWriter, place: Place) {
    this.#options = options;
    this.#required = options.required;
    this.#sync = options.sync;
    this.#keep = options.keep;
    this.#backlog = options.backlog ?? 256 * MIB;
    this.#unlock = unlock;
    this.#journal = journal;
    this.#place = place;
    this.#firstFile = journal.position.file;
    this.#thread = new AuditorThread(this.#auditorData(), {
      message: (message) => this.#receive(message),
      online: () => options.threadRuns?.(),
      died: (error) => this.#storeFailed(`the auditor's thread died: ${error.message}`),
      restart: () => ({ data: this.#auditorData(), messages: [this.#wrote(), ...this.#unflushed()] }),
    });
    this.#syncTimer = setInterval(() => {
      this.#checkPlace();
      this.#syncNow();
    }, SYNC_MS);
    this.#syncTimer.unref();
  }

  get unavailable(): string | null {
    return this.#required ? this.fault : null;
  }

  get fault(): string | null {
    if (this.#closed !== null) return "the audit log is closed";
    if (this.#writeFault !== null) return this.#writeFault;
    if (this.#storeFault !== null) return this.#storeFault;
    return this.#unreadBytes > this.#backlog ? "the audit log is behind: too many records wait for the database" : null;
  }

  append(record: AuditRecord, released?: Released): void {
    this.#lines.add(record);
    this.#count++;
    if (released !== undefined) this.#released.push(released);
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      this.#writeTurn();
    });
  }

  lag(): number {
    return this.#waitingRecords;
  }

  dropped(): number {
    return this.#dropped;
  }

  head(): SignedHead | null {
    return this.#head;
  }

  change({ required, sync, keep }: Pick<AuditSinkOptions, "required" | "sync" | "keep">): void {
    this.#required = required;
    this.#sync = sync;
    this.#keep = keep;
    this.#thread.send({ type: "keep", keep });
  }

  flush(): Promise<void> {
    this.#writeTurn();
    this.#tell();
    const token = ++this.#flushToken;
    return new Promise((resolve) => {
      this.#flushes.set(token, resolve);
      this.#thread.send({ type: "flush", token });
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#writeTurn();
    if (this.#spare.count > 0) this.#retryWrite();
    clearInterval(this.#syncTimer);
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    if (this.#spare.count > 0) this.#drop(this.#spare.count);
    this.#tell();
    await this.#thread.end(10_000);
    this.#journal.close();
    for (const resolve of this.#flushes.values()) resolve();
    this.#flushes.clear();
    this.#unlock();
  }

  /** One write for all records of this turn; then their exchanges may end. */
  #writeTurn(): void {
    if (this.#count === 0) return;
    const lines = this.#lines.take();
    const count = this.#count;
    const released = this.#released;
    this.#count = 0;
    this.#released = [];
    if (this.#writeFault !== null || !this.#write(lines, count)) {
      this.#keepSpare(lines, count);
      this.#release(released, !this.#required);
    } else if (this.#sync === "full") {
      for (const callback of released) this.#unsynced.push(callback);
      this.#syncNow();
    } else this.#release(released, true);
  }

  /** A bug in what waits for one record costs that one: those behind it are released all the same. */
  #release(waiting: readonly Released[], written: boolean): void {
    for (const callback of waiting) {
      try {
        callback(written);
      } catch (error) {
        this.#options.log.error({ err: error }, "what waited for its audit record failed");
      }
    }
  }

  #write(lines: Uint8Array, count: number): boolean {
    if (!this.#required && this.#unreadBytes > this.#backlog) return false;
    try {
      this.#journal.write(lines, count);
    } catch (error) {
      this.#writeFailed(error as Error);
      return false;
    }
    this.#untoldBytes += lines.length;
    this.#unreadBytes += lines.length;
    this.#waitingRecords += count;
    this.#dirty = true;
    if (this.#untoldBytes >= NOTIFY_BYTES) this.#tell();
    else this.#notify ??= setTimeout(() => this.#tell(), NOTIFY_MS);
    return true;
  }

  /** Tells the auditor how far it may read. */
  #tell(): void {
    if (this.#notify !== null) clearTimeout(this.#notify);
    this.#notify = null;
    if (this.#untoldBytes === 0) return;
    const { file, end } = this.#journal.position;
    this.#unread.push([file, end, this.#untoldBytes]);
    this.#untoldBytes = 0;
    this.#thread.send(this.#wrote());
  }

  #wrote(): ToAuditor {
    return { type: "wrote", ...this.#journal.position };
  }

  #unflushed(): ToAuditor[] {
    return [...this.#flushes.keys()].map((token) => ({ type: "flush", token }));
  }

  #auditorData(): AuditorData {
    return { dir: this.#options.dir, keep: this.#keep, liveFile: this.#journal.position.file };
  }

  #writeFailed(error: Error): void {
    const code = (error as NodeJS.ErrnoException).code ?? "error";
    if (this.#writeFault === null)
      this.#options.log.error({ code, required: this.#required }, "the audit log cannot be written");
    this.#writeFault = `the audit log cannot be written (${code})`;
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null;
      this.#retryWrite();
    }, RETRY_MS);
  }

  /** What is written to files that nobody can find is lost. */
  #checkPlace(): void {
    if (this.#writeFault !== null) return;
    try {
      this.#place.check();
      this.#journal.checkPlace();
      // What the auditor is done with it may not be able to say before it has recovered.
      if (this.#storeFault === null) this.#journal.waiting.check(true);
    } catch (error) {
      this.#writeFailed(error as Error);
    }
  }

  /** Is there room again? What was spared is written first. */
  #retryWrite(): void {
    try {
      this.#place.check();
      this.#journal.probe();
      this.#thread.send(this.#wrote()); // it misses only a journal that is written no more
      this.#journal.waiting.check(false);
    } catch (error) {
      this.#writeFailed(error as Error);
      return;
    }
    const { count } = this.#spare;
    this.#writeFault = null;
    if (count > 0) {
      if (!this.#write(this.#spare.bytes, count)) return;
      this.#spare.clear();
    }
    this.#warnedDropped = false;
    this.#options.log.warn({ dropped: this.#dropped, late: count }, "the audit log can be written again");
  }

  #keepSpare(lines: Uint8Array, count: number): void {
    if (this.#writeFault === null || !this.#spare.add(lines, count)) this.#drop(count);
  }

  #drop(count: number): void {
    this.#dropped += count;
    if (this.#warnedDropped) return;
    this.#warnedDropped = true;
    this.#options.log.error({ dropped: this.#dropped }, "audit records are being lost");
  }

  #receive(message: FromAuditor): void {
    const { log } = this.#options;
    if (message.type === "taken") this.#taken(message.records, message.file, message.offset);
    else if (message.type === "lost") this.#lost(message.file, message.message);
    else if (message.type === "head") this.#head = message.head;
    else if (message.type === "ready") {
      this.#head = message.head;
      // A thread that died may have taken in more than it could say.
      this.#taken(0, message.file, message.offset);
      this.#storeRecovered();
    } else if (message.type === "flushed") {
      this.#flushes.get(message.token)?.();
      this.#flushes.delete(message.token);
    } else if (message.type === "failed") this.#storeFailed(message.message);
    else if (message.type === "recovered") this.#storeRecovered();
    else log.warn({ audit: message.message }, "a problem with the audit log");
  }

  #lost(file: number, message: string): void {
    const records = this.#journal.waiting.lost(file);
    this.#options.log.error({ audit: message, records }, "audit records were lost");
    this.#dropped += records;
    this.#waitingRecords -= records;
    this.#taken(0, file, 0);
  }

  #taken(records: number, file: number, offset: number): void {
    this.#journal.waiting.taken(file, records);
    if (file < this.#firstFile) return; // left from an earlier run: never counted here
    let first = 0;
    while (first < this.#unread.length) {
      const [f, end, bytes] = this.#unread[first] as [number, number, number];
      if (f > file || (f === file && end > offset)) break;
      this.#unreadBytes -= bytes;
      first++;
    }
    if (first > 0) this.#unread.splice(0, first);
    this.#waitingRecords = this.#unreadBytes === 0 ? 0 : Math.max(0, this.#waitingRecords - records);
  }

  #storeFailed(message: string): void {
    if (this.#storeFault === null) this.#options.log.error({ audit: message }, "the audit database cannot be written");
    this.#storeFault = `the audit database cannot be written (${message})`;
  }

  #storeRecovered(): void {
    if (this.#storeFault !== null) this.#options.log.warn({}, "the audit database can be written again");
    this.#storeFault = null;
  }

  /** Brings the journal to the disk; one at a time, whoever waits for it is released together. */
  #syncNow(): void {
    if (this.#syncing || !this.#dirty) return;
    this.#syncing = true;
    this.#dirty = false;
    const waiting = this.#unsynced;
    this.#unsynced = [];
    this.#journal.sync((error) => {
      this.#syncing = false;
      if (error !== null) this.#writeFailed(error);
      this.#release(waiting, error === null || !this.#required);
      if (this.#unsynced.length > 0) this.#syncNow();
    });
  }
}
