// How records look: a line of a table, JSON, CSV, or one in full.

import { CSV_HEAD, csvLine } from "../../audit/csv.ts";
import type { AuditRecord } from "../../audit/record.ts";
import { sizeText, tookText } from "../../audit/units.ts";
import type { StoredRecord } from "../../edge/audit/reader.ts";
import { type Column, colours, jsonText, print, safeText, table } from "../output.ts";

export const FORMATS = ["table", "jsonl", "csv"] as const;
export type Format = (typeof FORMATS)[number];

const COLUMNS: readonly Column[] = [
  { title: "TIME" },
  { title: "CLIENT" },
  { title: "REQUEST" },
  { title: "STATUS", align: "right" },
  { title: "RULE" },
  { title: "SENT", align: "right" },
  { title: "RECEIVED", align: "right" },
  { title: "TOOK", align: "right" },
  { title: "" },
];

/** A record as JSON: itself, with its place in the chain. */
export const jsonOf = (s: StoredRecord): object => ({ seq: s.seq, ...s.record, hash: s.hash });

export const jsonLine = (s: StoredRecord): string => jsonText(jsonOf(s));

/** Prints records; `head`: with the title line. */
export function printRecords(found: readonly StoredRecord[], format: Format, now: number, head = true): void {
  if (format === "jsonl") for (const s of found) print(jsonLine(s));
  else if (format === "csv") {
    if (head) print(CSV_HEAD);
    for (const s of found) print(csvLine(s.record));
  } else if (found.length > 0) {
    const lines = table(
      COLUMNS,
      found.map((s) => cells(s.record, now)),
    );
    print(head ? lines : lines.slice(lines.indexOf("\n") + 1));
  }
}

function cells(r: AuditRecord, now: number): string[] {
  const mark = r.decision === "deny" ? colours.red : r.decision === "would-deny" ? colours.yellow : colours.reset;
  return [
    timeText(r.at, now),
    safeText(r.client ?? "-"),
    shorten(safeText(requestText(r)), 100),
    mark(r.status === null ? "-" : String(r.status)),
    safeText(r.rule ?? "-"),
    sizeText(r.sent.bytes) + (r.sent.complete ? "" : "…"),
    sizeText(r.received.bytes) + (r.received.complete ? "" : "…"),
    tookText(r.timings.total),
    colours.dim([r.decision === "would-deny" ? "would-deny" : "", r.reason ?? ""].filter((t) => t !== "").join(" ")),
  ];
}

/** The time of day for the last 24 hours, with the date for older ones; local time. */
export function timeText(at: number, now: number): string {
  const d = new Date(at);
  const two = (n: number) => String(n).padStart(2, "0");
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const recent = Math.abs(now - at) < 86_400_000;
  return recent ? time : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${time}`;
}

function requestText(r: AuditRecord): string {
  const host = r.host === null ? "?" : r.host.includes(":") ? `[${r.host}]` : r.host;
  if (r.kind === "connect") return `CONNECT ${host}:${r.port}`;
  if (r.kind === "connection") return `(connection${r.host === null ? "" : ` to ${host}:${r.port}`})`;
  const usual = r.port === (r.scheme === "http" ? 80 : 443);
  const url = `${r.scheme}://${host}${usual ? "" : `:${r.port}`}${r.path ?? ""}`;
  return r.kind === "upgrade" ? `(upgraded) ${url}` : `${r.method} ${url}`;
}

const shorten = (text: string, most: number): string => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

/** One record in full, for people. */
export function printRecord(s: StoredRecord): void {
  const lines: [string, string][] = [["seq", String(s.seq)]];
  flatten("", { ...s.record, at: new Date(s.record.at).toISOString() }, lines);
  lines.push(["hash", s.hash]);
  const width = Math.max(...lines.map(([name]) => name.length));
  for (const [name, value] of lines) print(`${colours.dim(name.padEnd(width))}  ${safeText(value)}`);
}

function flatten(prefix: string, value: object, lines: [string, string][]): void {
  for (const [key, v] of Object.entries(value)) {
    if (v === null || v === undefined || (Array.isArray(v) && v.length === 0)) continue;
    const name = prefix === "" ? key : `${prefix}.${key}`;
    if (Array.isArray(v)) lines.push([name, v.join(", ")]);
    else if (typeof v === "object") flatten(name, v, lines);
    else lines.push([name, String(v)]);
  }
}
