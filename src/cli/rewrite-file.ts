// Somebody else's file, written anew: whole or not at all, with the mode and owner that it had, and with a copy of what it was.
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { CommandError, errorText, safeText } from "./output.ts";

/**
 * Replaces the content of `file` (no symbolic link) and returns the name of the copy, which stands beside it. Throws a CommandError, and
 * leaves the file as it is, when it may not be written or does not hold `before` any more.
 */
export function rewriteFile(file: string, before: Buffer, after: string): string {
  const was = statSync(file);
  if ((was.mode & 0o222) === 0) throw new CommandError(`${safeText(file)} is read-only: chmod u+w lets it be changed`);
  const backup = `${file}.${new Date().toISOString().replace(/[:.]/g, "-")}.bak`;
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString("hex")}`;
  try {
    writeNew(temporary, Buffer.from(after), was);
    writeNew(backup, before, was);
    if (!readFileSync(file).equals(before)) {
      rmSync(backup);
      throw new CommandError(
        `${safeText(file)} was changed meanwhile by somebody else: nothing was written; try again`,
      );
    }
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error instanceof CommandError ? error : new CommandError(errorText(error as Error));
  }
  return backup;
}

/** A new file with the mode and owner of another. */
function writeNew(file: string, bytes: Buffer, { mode, uid, gid }: Stats): void {
  const fd = openSync(file, "wx", 0o600);
  try {
    const own = statSync(file);
    if (own.uid !== uid || own.gid !== gid) chown(fd, file, uid, gid);
    fchmodSync(fd, mode & 0o7777);
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    fsyncSync(fd);
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

function chown(fd: number, file: string, uid: number, gid: number): void {
  try {
    fchownSync(fd, uid, gid);
  } catch (error) {
    const whose = `user ${uid}, group ${gid}`;
    throw new CommandError(
      `${safeText(file)} cannot be given to ${whose}, as the file is: run it as that user`,
      undefined,
      {
        cause: error,
      },
    );
  }
}
