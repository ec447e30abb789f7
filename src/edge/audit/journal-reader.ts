// The read end of the journal: whole lines only. A tail without a newline was never released, and is not read.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { journalFile } from "./journal-files.ts";

const CHUNK = 1024 * 1024;
const NEWLINE = 10;

export interface JournalLines {
  /** Whole lines with their newlines; see `linesOf`. Borrowed until the next journal is read. */
  readonly bytes: Buffer;
  /** The position behind the last of the lines. */
  readonly next: number;
}

/**
 * Whole lines of a journal from byte `from`, about 1 MiB of them or one that is longer, not beyond byte `to`. None: nothing whole is
 * there; null: the file is gone.
 */
export function readJournal(dir: string, file: number, from: number, to: number): JournalLines | null {
  let fd: number;
  try {
    fd = openSync(journalFile(dir, file), "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    return readLines(fd, from, Math.min(to, fstatSync(fd).size));
  } finally {
    closeSync(fd);
  }
}

function readLines(fd: number, from: number, to: number): JournalLines {
  // A single record may be longer than a chunk (recorded bodies): then the chunk grows.
  for (let size = CHUNK; ; size *= 4) {
    const want = Math.min(size, to - from);
    if (want <= 0) return nothing(from);
    const bytes = readFully(fd, from, want);
    const last = bytes.lastIndexOf(NEWLINE);
    if (last >= 0) return { bytes: bytes.subarray(0, last + 1), next: from + last + 1 };
    if (bytes.length < size) return nothing(from);
  }
}

/** Used again for each read that it is large enough for: a fresh one costs as much as reading. */
let chunk: Buffer | null = null;

function readFully(fd: number, from: number, want: number): Buffer {
  if (want <= CHUNK) chunk ??= Buffer.allocUnsafeSlow(CHUNK);
  const bytes = chunk === null || want > CHUNK ? Buffer.allocUnsafeSlow(want) : chunk;
  let got = 0;
  while (got < want) {
    const n = readSync(fd, bytes, got, want - got, from + got);
    if (n === 0) break;
    got += n;
  }
  return bytes.subarray(0, got);
}

const nothing = (next: number): JournalLines => ({ bytes: Buffer.alloc(0), next });

/** The lines, one at a time, so that no more than one need be in memory as text; empty ones are no lines. */
export function* linesOf({ bytes }: JournalLines): Generator<string> {
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(NEWLINE, at);
    if (end > at) yield bytes.toString("utf8", at, end);
    at = end + 1;
  }
}

/** Bytes of whole records and of a torn tail that wait in a journal from byte `from` on. */
export function journalRest(dir: string, file: number, from: number): { whole: number; torn: number } {
  let whole = 0;
  let at = from;
  for (;;) {
    const read = readJournal(dir, file, at, Number.MAX_SAFE_INTEGER);
    if (read === null) return { whole, torn: 0 };
    if (read.next === at) break;
    for (const _line of linesOf(read)) whole++;
    at = read.next;
  }
  const fd = openSync(journalFile(dir, file), "r");
  try {
    return { whole, torn: Math.max(0, fstatSync(fd).size - at) };
  } finally {
    closeSync(fd);
  }
}
