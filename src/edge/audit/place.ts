// Do the names in the data folder still lead to the files that are written? Who moves or removes an open file takes it from
// everybody but the process that writes it, and no write fails.
import { fstatSync, type Stats, statSync } from "node:fs";
import { basename } from "node:path";

/** A file of the log is not where it was. */
export class FileGone extends Error {
  override readonly name = "FileGone";
  readonly code: string;
  constructor(file: string) {
    super(`${file} was moved, replaced or removed`);
    this.code = `${basename(file)} was moved, replaced or removed: put it back, or start again`;
  }
}

const identityOf = ({ dev, ino }: Stats): string => `${dev} ${ino}`;

/** What the open file is, whatever its name. */
export const identityOfOpen = (fd: number): string => identityOf(fstatSync(fd));

/** What the file of that name is; null: there is none. */
export function identityAt(file: string): string | null {
  try {
    return identityOf(statSync(file));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

/** Throws FileGone when the open file `fd` is not the one of that name, and what `stat` throws. */
export function refuseMoved(file: string, fd: number): void {
  if (identityAt(file) !== identityOfOpen(fd)) throw new FileGone(file);
}

/** Files that are there now and must stay. */
export class Place {
  readonly #files: readonly (readonly [file: string, identity: string])[];

  /** Throws FileGone when one of them is not there. */
  constructor(files: readonly string[]) {
    this.#files = files.map((file) => {
      const identity = identityAt(file);
      if (identity === null) throw new FileGone(file);
      return [file, identity] as const;
    });
  }

  /** Throws FileGone for the first that is not where it was, and what `stat` throws. */
  check(): void {
    for (const [file, identity] of this.#files) if (identityAt(file) !== identity) throw new FileGone(file);
  }
}
