// What the auditor's thread does: takes the journals in, signs heads, applies the retention, and keeps trying when the disk fails.

import type { KeyObject } from "node:crypto";
import { statSync, unlinkSync } from "node:fs";
import type { AuditRecord } from "../../audit/record.ts";
import { EMPTY_SHA256, NO_BODY } from "../../audit/record.ts";
import { rowOf, rowText } from "../../audit/row.ts";
import { newId } from "../../shared/ids.ts";
import { journalFolder } from "./folder.ts";
import { journalFile, journalNumbers } from "./journal-files.ts";
import { readJournal } from "./journal-reader.ts";
import type { AuditorData, FromAuditor, Keep, ToAuditor } from "./messages.ts";
import { applyKeep, NotPruned } from "./prune.ts";
import { signingKey } from "./signing-key.ts";
import { AuditStore } from "./store.ts";
import { WordSweep } from "./word-sweep.ts";

const SIGN_EVERY_RECORDS = 1_000;
const SIGN_EVERY_MS = 10_000;
const KEEP_EVERY_MS = 60_000;
/** Words without a record are looked for this often at most, in steps of so many records, once a second. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_RECORDS = 20_000;
const RETRY_MS = 1_000;

type Post = (message: FromAuditor) => void;

/** One per thread. It calls `closed` once, when everything is in the database after `close`, or cannot be. */
export class Intake {
  readonly #dir: string;
  readonly #post: Post;
  readonly #closed: () => void;
  #keep: Keep;
  #store: AuditStore | null = null;
  #key: KeyObject | null = null;
  #file = 0;
  #offset = 0;
  /** The journal that is next and was not there. */
  #absent: number | null = null;
  /** How far the main thread says that it has written. */
  #liveFile: number;
  #liveEnd = 0;
  #unsigned = 0;
  #lastSigned = 0;
  #lastKept = 0;
  #sweep: WordSweep | null = null;
  #lastSwept = 0;
  /** Records were pruned since words were last looked for. */
  #pruned = false;
  /** Why records could not be pruned the last time, which was told. */
  #notPruned: string | null = null;
  #failed = false;
  #closing = false;
  #flushes: number[] = [];
  #turn: NodeJS.Immediate | null = null;
  #retry: NodeJS.Timeout | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(data: AuditorData, post: Post, closed: () => void) {
    this.#dir = data.dir;
    this.#keep = data.keep;
    this.#liveFile = data.liveFile;
    this.#post = post;
    this.#closed = closed;
    this.#timer = setInterval(() => this.#schedule(), RETRY_MS);
    this.#schedule();
  }

  receive(message: ToAuditor): void {
    if (message.type === "wrote") {
      this.#liveFile = message.file;
      this.#liveEnd = message.end;
    } else if (message.type === "flush") this.#flushes.push(message.token);
    else if (message.type === "keep") {
      this.#keep = message.keep;
      this.#lastKept = 0;
    } else this.#closing = true;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#turn !== null || this.#retry !== null) return;
    this.#turn = setImmediate(() => {
      this.#turn = null;
      this.#step();
    });
  }

  /** One batch, then the other threads' messages, then the next. */
  #step(): void {
    try {
      this.#open();
      const more = this.#takeIn();
      if (this.#failed) {
        this.#failed = false;
        this.#post({ type: "recovered" });
      }
      if (more) {
        this.#housekeeping();
        this.#schedule();
        return;
      }
      for (const token of this.#flushes.splice(0)) this.#post({ type: "flushed", token });
      this.#housekeeping();
      if (this.#closing) this.#finish(true);
    } catch (error) {
      this.#failure(error as Error);
    }
  }

  #open(): void {
    if (this.#store !== null) return;
    this.#key = signingKey(this.#dir);
    const store = new AuditStore(this.#dir);
    this.#store = store;
    // By another command, or in an earlier life.
    this.#pruned = store.wasPruned;
    const { file, offset } = store.takenIn;
    this.#file = file;
    this.#offset = offset;
    // These were taken in, and only not deleted yet.
    for (const number of journalNumbers(this.#dir)) if (number < file) this.#remove(number);
    this.#lastSigned = Date.now();
    this.#post({ type: "ready", head: store.sign(Date.now(), this.#key), file, offset });
  }

  /** Takes one batch in. True: there is more. */
  #takeIn(): boolean {
    const store = this.#store as AuditStore;
    const live = this.#file >= this.#liveFile;
    const to = live ? this.#liveEnd : Number.MAX_SAFE_INTEGER;
    if (this.#offset >= to) return false;
    const read = readJournal(this.#dir, this.#file, this.#offset, to);
    if (read !== null && read.next > this.#offset) {
      const before = store.seq;
      store.append(read.bytes, { file: this.#file, offset: read.next }, (text) => this.#unreadable(text));
      const records = store.seq - before;
      this.#offset = read.next;
      this.#unsigned += records;
      this.#post({ type: "taken", records, file: this.#file, offset: this.#offset });
      return true;
    }
    if (live) return false;
    if (read === null) this.#passAbsent();
    else this.#finishFile();
    return true;
  }

  /**
   * We delete a journal after it is noted as done: one that is next and not there was taken from us. It may come back (a folder that
   * was moved, a look at the wrong moment), so that first this is a failure; if it is still away after that, a record stands for it.
   */
  #passAbsent(): void {
    // All of them are away, and may come back with their folder.
    statSync(journalFolder(this.#dir));
    const first = this.#file;
    const next = journalNumbers(this.#dir).find((n) => n >= first) ?? this.#liveFile;
    if (next === first) return; // it is there again
    // Where a new database begins.
    if (first === 0) this.#goOn(next);
    else if (this.#absent !== first) {
      this.#absent = first;
      throw new Error(`journal ${first} is not there, and was not read to its end`);
    } else this.#noteLost(first, next);
  }

  /** A record in the place of those in the journals from number `first` on, before `next`. */
  #noteLost(first: number, next: number): void {
    const store = this.#store as AuditStore;
    const which = next - first === 1 ? `journal ${first} is` : `journals ${first} to ${next - 1} are`;
    const from = this.#offset === 0 ? "" : ` from byte ${this.#offset} on`;
    const message = `${which} gone${from}: what was there was never read`;
    const line = Buffer.from(`${rowText(rowOf(standIn("journal-missing", message)))}\n`);
    store.append(line, { file: next, offset: 0 });
    this.#unsigned++;
    this.#file = next;
    this.#offset = 0;
    this.#post({ type: "lost", file: next, message });
  }

  /** A journal that is read to its end (but for a torn tail) is noted as done, then deleted. */
  #finishFile(): void {
    const done = this.#file;
    this.#goOn(done + 1);
    this.#remove(done);
  }

  /** The journals before this one are done with. Said before they are deleted: who looks after them must not miss them. */
  #goOn(file: number): void {
    this.#store?.settle({ file, offset: 0 });
    this.#file = file;
    this.#offset = 0;
    this.#post({ type: "taken", records: 0, file, offset: 0 });
  }

  #remove(number: number): void {
    try {
      unlinkSync(journalFile(this.#dir, number));
    } catch {
      // It is gone already; or a read-only folder: it is deleted when the next journal is done, or at the next start.
    }
  }

  /** The line of the record that stands for one that cannot be read. */
  #unreadable(text: string): string {
    this.#post({
      type: "warning",
      message: `a line of journal ${this.#file} is not a record (${text.length} characters)`,
    });
    const error = `a line of the journal could not be read (${text.length} characters)`;
    return rowText(rowOf(standIn("journal-line-unreadable", error)));
  }

  #housekeeping(): void {
    const store = this.#store as AuditStore;
    const now = Date.now();
    const due =
      this.#unsigned >= SIGN_EVERY_RECORDS || Math.abs(now - this.#lastSigned) >= SIGN_EVERY_MS || this.#closing;
    if (this.#unsigned > 0 && due) this.#sign(store, now);
    if (this.#closing) return;
    this.#sweepWords(store, now);
    if (Math.abs(now - this.#lastKept) < KEEP_EVERY_MS) return;
    this.#lastKept = now;
    const removed = this.#prune(store, now);
    if (removed > 0) this.#pruned = true;
    if (removed >= 50_000) this.#lastKept = 0;
  }

  /** Returns how many records went. That none may go keeps nobody from writing: it is told once, and looked at again later. */
  #prune(store: AuditStore, now: number): number {
    try {
      const removed = applyKeep(store.db, this.#keep, now, this.#key as KeyObject, 50_000);
      this.#notPruned = null;
      return removed;
    } catch (error) {
      if (!(error instanceof NotPruned)) throw error;
      if (this.#notPruned !== error.message) this.#post({ type: "warning", message: error.message });
      this.#notPruned = error.message;
      return 0;
    }
  }

  /** A step of the look for words without a record, where one is due. */
  #sweepWords(store: AuditStore, now: number): void {
    if (this.#sweep === null && !this.#pruned) return;
    if (Math.abs(now - this.#lastSwept) < (this.#sweep === null ? SWEEP_EVERY_MS : RETRY_MS)) return;
    this.#lastSwept = now;
    if (this.#sweep === null) {
      this.#pruned = false;
      this.#sweep = new WordSweep(store.db);
    }
    if (!this.#sweep.step(SWEEP_RECORDS)) return;
    this.#sweep = null;
    store.forgetWords();
  }

  #sign(store: AuditStore, now: number): void {
    const head = store.sign(now, this.#key as KeyObject);
    this.#unsigned = 0;
    this.#lastSigned = now;
    if (head !== null) this.#post({ type: "head", head });
  }

  #failure(error: Error): void {
    this.#post({ type: "failed", message: `${(error as { code?: string }).code ?? "error"}: ${error.message}` });
    this.#failed = true;
    this.#sweep = null;
    try {
      this.#store?.close();
    } catch {}
    this.#store = null;
    if (this.#closing) {
      this.#finish(false);
      return;
    }
    this.#retry ??= setTimeout(() => {
      this.#retry = null;
      this.#schedule();
    }, RETRY_MS);
  }

  /** What is not in the database stays in the journal for the next start. */
  #finish(whole: boolean): void {
    clearInterval(this.#timer);
    if (whole) this.#store?.close();
    this.#store = null;
    this.#closed();
  }
}

/** Stands in the chain for what the disk or a hand has spoiled. */
function standIn(note: string, error: string): AuditRecord {
  const now = Date.now();
  return {
    id: newId(now),
    parent: null,
    at: now,
    kind: "connection",
    client: null,
    address: "",
    decision: "deny",
    rule: null,
    reason: "internal",
    method: null,
    scheme: null,
    host: null,
    port: null,
    path: null,
    status: null,
    sent: { ...NO_BODY, sha256: EMPTY_SHA256, complete: false },
    received: { ...NO_BODY, sha256: EMPTY_SHA256, complete: false },
    timings: { wait: null, dns: null, connect: null, tls: null, firstByte: null, total: 0 },
    origin: null,
    clientProtocol: null,
    originProtocol: null,
    sni: null,
    uninspected: false,
    notes: [note],
    error,
  };
}
