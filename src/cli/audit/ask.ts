// `audit query`, `tail`, `show` and `export`: records out of the log.
import { closeSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { CSV_HEAD, csvLine } from "../../audit/csv.ts";
import { HAR_TAIL, harEntry, harHead } from "../../audit/har.ts";
import type { Filter } from "../../audit/query.ts";
import { sizeText } from "../../audit/units.ts";
import type { AuditReader, GroupLine } from "../../edge/audit/reader.ts";
import { CommandError, EXIT, jsonText, notice, print, printJson, safeText, table } from "../output.ts";
import { type FilterFlags, filterOf, groupOf, limitOf, type PlaceFlags, sortOf, withRecords } from "./flags.ts";
import { type Format, jsonLine, jsonOf, printRecord, printRecords } from "./records.ts";

export interface QueryFlags extends FilterFlags {
  readonly format: Format;
  readonly limit: string;
  readonly groupBy?: string;
  readonly sort?: string;
}

/** Records that match, newest last, or the most by `--sort`; or counts and bytes by group. */
export const query = (flags: QueryFlags): Promise<void> =>
  withRecords(flags, (reader) => {
    const filter = filterOf(flags, Date.now());
    const limit = limitOf(flags.limit);
    if (flags.groupBy !== undefined) {
      printGroups(reader, filter, flags, limit);
      return;
    }
    const sort = sortOf(flags.sort, RECORD_SORTS, "records");
    const found = sort === "time" ? reader.newest(filter, limit).reverse() : reader.most(filter, sort, limit);
    if (flags.json === true) printJson(found.map(jsonOf));
    else printRecords(found, flags.format, Date.now());
    if (found.length === 0) notice("no record matches");
    if (found.length === limit)
      notice(`the ${sort === "time" ? "newest" : "first"} ${limit} that match; --limit shows more`);
  });

const RECORD_SORTS = ["time", "sent", "received", "took"] as const;
const GROUP_SORTS = ["records", "denied", "sent", "received"] as const;

function printGroups(reader: AuditReader, filter: Filter, flags: QueryFlags, limit: number): void {
  const by = groupOf(flags.groupBy as string);
  const sort = sortOf(flags.sort, GROUP_SORTS, "groups");
  const lines = reader.groups(filter, by, sort, limit);
  if (flags.json === true) printJson(lines.map((l) => ({ ...l, [by]: l.value, value: undefined })));
  else if (flags.format === "jsonl") for (const l of lines) print(jsonText({ [by]: l.value, ...l, value: undefined }));
  else if (flags.format === "csv") {
    print(`${by},records,denied,sent_bytes,received_bytes`);
    for (const l of lines) print([csvText(l.value), l.records, l.denied, l.sent, l.received].join(","));
  } else print(groupTable(by, lines));
}

const csvText = (value: string | number | null): string =>
  value === null
    ? ""
    : `"${String(value)
        .replace(/^(?=[=+\-@])/, "'")
        .replaceAll('"', '""')}"`;

export const groupTable = (by: string, lines: readonly GroupLine[]): string =>
  table(
    [
      { title: by.toUpperCase() },
      { title: "RECORDS", align: "right" },
      { title: "DENIED", align: "right" },
      { title: "SENT", align: "right" },
      { title: "RECEIVED", align: "right" },
    ],
    lines.map((l) => [
      safeText(String(l.value ?? "-")),
      String(l.records),
      String(l.denied),
      sizeText(l.sent),
      sizeText(l.received),
    ]),
  );

const TAIL_MS = 250;

export interface TailFlags extends FilterFlags {
  readonly format: Format;
  readonly limit: string;
}

/** The last few that match, then every new one, until it is interrupted. */
export const tail = (flags: TailFlags): Promise<void> =>
  withRecords(flags, async (reader) => {
    const filter = filterOf(flags, Date.now());
    const format = flags.json === true ? "jsonl" : flags.format;
    const seen = reader.lastSeq();
    const before = reader.newest(filter, limitOf(flags.limit)).reverse();
    printRecords(before, format, Date.now());
    let last = Math.max(seen, before.at(-1)?.seq ?? 0);
    const stopped = new Promise<"stop">((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve("stop"));
    });
    for (;;) {
      const tick = new Promise<"tick">((resolve) => setTimeout(resolve, TAIL_MS, "tick"));
      if ((await Promise.race([tick, stopped])) === "stop") return;
      last = printSince(reader, filter, last, format);
    }
  });

const TAIL_MOST = 10_000;

/** Prints what came after number `last`. Returns the number up to which nothing has to be looked at again. */
function printSince(reader: AuditReader, filter: Filter, last: number, format: Format): number {
  const newest = reader.lastSeq();
  if (newest === last) return last;
  // More may have come since: what is found says how far this was.
  const found = [...reader.oldest(filter, TAIL_MOST, last)];
  printRecords(found, format, Date.now(), false);
  const end = found.at(-1)?.seq ?? 0;
  return found.length === TAIL_MOST ? end : Math.max(newest, end);
}

/** One record in full; exit code 1 when there is none of that id. */
export const show = (id: string, flags: PlaceFlags): Promise<void> =>
  withRecords(flags, (reader) => {
    const found = reader.newest({ id }, 1)[0];
    if (found === undefined) {
      notice(`there is no record ${safeText(id)} (it may have been pruned, or belong to another log)`);
      process.exitCode = EXIT.no;
    } else if (flags.json === true) printJson(jsonOf(found));
    else printRecord(found);
  });

export interface ExportFlags extends FilterFlags {
  readonly format: "jsonl" | "csv" | "har";
  readonly out?: string;
}

/** All that match, oldest first, streamed to a file (made new, 0600; whole or not there) or to standard output. */
export const exportLog = (flags: ExportFlags): Promise<void> =>
  withRecords(flags, (reader) => {
    const filter = filterOf(flags, Date.now());
    const { out, format } = flags;
    if (out === undefined)
      return void toStandardOutput(() => writeAll(reader, filter, format, (t) => writeFully(1, t)));
    const fd = openOut(out);
    try {
      const count = writeAll(reader, filter, format, (text) => writeFully(fd, text));
      notice(`${count} records written to ${safeText(out)}`);
    } catch (error) {
      // A part could pass for the whole.
      unlinkSync(out);
      throw new CommandError(`--out ${out}: ${(error as Error).message}`);
    } finally {
      closeSync(fd);
    }
  });

/** Whoever reads may have had enough (`| head`): that is no failure. */
function toStandardOutput(write: () => void): void {
  try {
    write();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPIPE") throw error;
  }
}

function openOut(file: string): number {
  try {
    return openSync(file, "wx", 0o600);
  } catch (error) {
    const exists = (error as NodeJS.ErrnoException).code === "EEXIST";
    throw new CommandError(`--out ${file}: ${exists ? "the file is there already" : (error as Error).message}`);
  }
}

function writeAll(
  reader: AuditReader,
  filter: Filter,
  format: ExportFlags["format"],
  write: (text: string) => void,
): number {
  let count = 0;
  if (format === "csv") write(`${CSV_HEAD}\r\n`);
  if (format === "har") write(harHead(version()));
  for (const stored of reader.oldest(filter)) {
    if (format === "jsonl") write(`${jsonLine(stored)}\n`);
    else if (format === "csv") write(`${csvLine(stored.record)}\r\n`);
    else {
      const entry = harEntry(stored.record);
      if (entry === null) continue;
      write(`${count === 0 ? "" : ","}\n${jsonText(entry)}`);
    }
    count++;
  }
  if (format === "har") write(HAR_TAIL);
  return count;
}

function writeFully(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      // A pipe that is full for now; a synchronous wait keeps the memory bounded.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function version(): string {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
