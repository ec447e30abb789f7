// The data folder: names of the log's files, and the lock that lets one process write.
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { explained } from "./schema.ts";

export const databaseFile = (dir: string): string => join(dir, "audit.db");
export const keyFile = (dir: string): string => join(dir, "audit.key");
export const lockFile = (dir: string): string => join(dir, "audit.lock");
export const journalFolder = (dir: string): string => join(dir, "journal");

/**
 * Makes a file for its owner alone before SQLite opens it, which would let others read it (and hold a lock on it); its WAL
 * gets the same mode. One that is there keeps what its owner gave it.
 */
export function makePrivate(file: string): void {
  try {
    const fd = openSync(file, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | constants.O_NOFOLLOW, 0o600);
    closeSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** Another process writes this log. */
export class FolderInUse extends Error {
  override readonly name = "FolderInUse";
}

const heldHere = new Set<string>();

/**
 * Takes the folder (made when missing, 0700) for this process; returns what gives it back. The lock is SQLite's own on a file of
 * its own, so that the kernel frees it when the process dies, however it dies. Throws FolderInUse, which names the holder.
 */
export function lockFolder(dir: string): () => void {
  mkdirSync(journalFolder(dir), { recursive: true, mode: 0o700 });
  const file = lockFile(dir);
  const pidFile = join(dir, "audit.pid");
  if (heldHere.has(file))
    throw new FolderInUse(`the audit log in ${dir} is already open in this process (${process.pid})`);
  makePrivate(file);
  const lock = new Database(file, { timeout: 0 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    if ((error as { code?: string }).code?.startsWith("SQLITE_BUSY")) throw new FolderInUse(inUse(dir, pidFile));
    throw explained(error, file);
  }
  heldHere.add(file);
  notePid(pidFile);
  return () => {
    heldHere.delete(file);
    lock.close();
  };
}

function inUse(dir: string, pidFile: string): string {
  let pid = "unknown";
  try {
    pid = readFileSync(pidFile, "utf8").trim();
  } catch {}
  return `the audit log in ${dir} is in use by another process (pid ${pid}); stop it, or choose another folder with --data`;
}

/** Only a help for people: the lock holds without it, so that a full disk does not keep us from starting. */
function notePid(pidFile: string): void {
  try {
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch {}
}
