// The write end of the journal: one file, appended with one write for each turn of the event loop, rotated by size.
import { closeSync, fdatasync, fdatasyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { journalFile, journalNumbers } from "./journal-files.ts";
import { FileGone, refuseMoved } from "./place.ts";

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
  #fd = -1;
  #file: number;
  #end = 0;
  /** A torn line could not be taken back: this file must not be appended to. */
  #torn = false;

  /** Opens a new file after all that are there: what an earlier process left is only read. `after`: a number known to be used. */
  constructor(dir: string, rotateAt: number, after: number) {
    this.#dir = dir;
    this.#rotateAt = rotateAt;
    this.#file = Math.max(after, 0, ...journalNumbers(dir));
    this.#open();
  }

  get position(): JournalPosition {
    return { file: this.#file, end: this.#end };
  }

  /** Appends whole lines (UTF-8). After it returns they are with the operating system. */
  write(lines: Uint8Array): void {
    if (this.#torn || this.#end >= this.#rotateAt) this.#open();
    this.#writeAt(lines);
    this.#end += lines.length;
  }

  /** Throws while there is no room for 64 KiB more. After a file that was taken away a new one begins. */
  probe(): void {
    if (this.#torn || this.#fd < 0 || this.#moved) this.#open();
    this.#writeAt(PROBE);
    ftruncateSync(this.#fd, this.#end);
  }

  /** Throws when the file is not where it was. */
  checkPlace(): void {
    if (this.#fd >= 0) refuseMoved(journalFile(this.#dir, this.#file), this.#fd);
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

  /** Brings what was written to the disk itself. */
  sync(done: (error: Error | null) => void): void {
    fdatasync(this.#fd, done);
  }

  close(): void {
    if (this.#fd < 0) return;
    try {
      fdatasyncSync(this.#fd);
    } catch {}
    closeSync(this.#fd);
    this.#fd = -1;
  }

  #open(): void {
    const fd = openSync(journalFile(this.#dir, this.#file + 1), "wx", 0o600);
    this.close();
    this.#fd = fd;
    this.#file++;
    this.#end = 0;
    this.#torn = false;
  }

  #writeAt(bytes: Uint8Array): void {
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#fd, bytes, done, bytes.length - done, this.#end + done);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
  }

  #takeBack(): void {
    try {
      ftruncateSync(this.#fd, this.#end);
    } catch {
      this.#torn = true;
    }
  }
}
