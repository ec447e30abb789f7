// One journal that is open for writing. It is brought to the disk without anybody waiting for it, and closed only when nothing does
// that any more: a number that was closed may by then be another file's.
import { closeSync, fdatasync, fdatasyncSync, openSync } from "node:fs";

type Done = (error: Error | null) => void;

export class OpenJournal {
  readonly fd: number;
  #syncs = 0;
  #done = false;

  /** Makes the file. Throws where it is there already, and what `open` throws. */
  constructor(file: string) {
    this.fd = openSync(file, "wx", 0o600);
  }

  /** Brings what was written to the disk itself. */
  sync(done: Done): void {
    this.#syncs++;
    fdatasync(this.fd, (error) => {
      this.#syncs--;
      this.#closeIfDone();
      done(error);
    });
  }

  /** The same, now. Throws what the disk says. */
  syncNow(): void {
    fdatasyncSync(this.fd);
  }

  /** Nothing more is written: it is closed when what is under way is over. */
  close(): void {
    this.#done = true;
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#done && this.#syncs === 0) closeSync(this.fd);
  }
}
