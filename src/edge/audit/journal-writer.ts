// The write end of the journal: one file, appended with one write for each turn of the event loop, rotated by size.
import { ftruncateSync, writeSync } from "node:fs";
import { journalFile, journalNumbers } from "./journal-files.ts";
import { OpenJournal } from "./open-journal.ts";
import { FileGone, identityAt, identityOfOpen, refuseMoved } from "./place.ts";
import { WaitingJournals } from "./waiting-journals.ts";

/** How far the journals are written: number of the file, bytes of it that hold whole records. */
export interface JournalPosition {
  readonly file: number;
  readonly end: number;
}

const PROBE = Buffer.alloc(64 * 1024, "\n");

/** Any method may throw what the file system throws (ENOSPC, EIO, EROFS …); the written part is then taken back. */
export class JournalWriter {
  readonly #dir: string;
  readonly #rotateAt: number;
  /** What the database may still need. */
  readonly waiting = new WaitingJournals();
  #open: OpenJournal;
  /** Written to their end, and not known to be on the disk. */
  readonly #leaving = new Set<OpenJournal>();
  /** What the disk said of one of these, until somebody asks. */
  #failure: Error | null = null;
  #file: number;
  #end = 0;
  /** A torn line could not be taken back: this file must not be appended to. */
  #torn = false;

  /** Opens a new file after all that are there: what an earlier process left is only read. `after`: a number known to be used. */
  constructor(dir: string, rotateAt: number, after: number) {
    this.#dir = dir;
    this.#rotateAt = rotateAt;
    const left = journalNumbers(dir);
    this.#file = Math.max(after, 0, ...left) + 1;
    for (const number of left) {
      const identity = identityAt(journalFile(dir, number));
      if (number >= after && identity !== null) this.waiting.add(number, journalFile(dir, number), identity);
    }
    this.#open = this.#begin(this.#file);
  }

  get position(): JournalPosition {
    return { file: this.#file, end: this.#end };
  }

  /** Appends whole lines (UTF-8) of so many records. After it returns they are with the operating system. */
  write(lines: Uint8Array, records: number): void {
    if (this.#torn || this.#end >= this.#rotateAt) this.#next();
    this.#writeAt(lines);
    this.#end += lines.length;
    this.waiting.wrote(records);
  }

  /** Throws while there is no room for 64 KiB more. After a file that was taken away a new one begins. */
  probe(): void {
    if (this.#torn || this.#moved) this.#next();
    this.#writeAt(PROBE);
    ftruncateSync(this.#open.fd, this.#end);
  }

  /** Throws when the file that is written is not where it was. */
  checkPlace(): void {
    refuseMoved(journalFile(this.#dir, this.#file), this.#open.fd);
  }

  get #moved(): boolean {
    try {
      this.checkPlace();
      return false;
    } catch (error) {
      if (error instanceof FileGone) return true;
      throw error;
    }
  }

  /** Brings everything that was written to the disk itself. */
  sync(done: (error: Error | null) => void): void {
    const files = [...this.#leaving, this.#open];
    let left = files.length;
    let failure = this.#failure;
    this.#failure = null;
    for (const file of files)
      file.sync((error) => {
        failure ??= error;
        if (--left === 0) done(failure);
      });
  }

  close(): void {
    for (const file of [...this.#leaving, this.#open]) {
      try {
        file.syncNow();
      } catch {}
    }
    this.#open.close();
  }

  /** Goes on in a new file; the old one comes to the disk meanwhile. */
  #next(): void {
    const next = this.#begin(this.#file + 1);
    const old = this.#open;
    this.#leaving.add(old);
    old.sync((error) => {
      this.#leaving.delete(old);
      this.#failure ??= error;
    });
    old.close();
    this.#open = next;
    this.#file++;
    this.#end = 0;
    this.#torn = false;
  }

  #begin(number: number): OpenJournal {
    const file = journalFile(this.#dir, number);
    const open = new OpenJournal(file);
    this.waiting.add(number, file, identityOfOpen(open.fd));
    return open;
  }

  #writeAt(bytes: Uint8Array): void {
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#open.fd, bytes, done, bytes.length - done, this.#end + done);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
  }

  #takeBack(): void {
    try {
      ftruncateSync(this.#open.fd, this.#end);
    } catch {
      this.#torn = true;
    }
  }
}
