// Records as CSV (RFC 4180), safe to open in a spreadsheet.
import type { AuditRecord } from "./record.ts";

const COLUMNS: readonly [string, (r: AuditRecord) => string | number | boolean | null][] = [
  ["time", (r) => new Date(r.at).toISOString()],
  ["id", (r) => r.id],
  ["parent", (r) => r.parent],
  ["kind", (r) => r.kind],
  ["client", (r) => r.client],
  ["address", (r) => r.address],
  ["decision", (r) => r.decision],
  ["rule", (r) => r.rule],
  ["reason", (r) => r.reason],
  ["method", (r) => r.method],
  ["scheme", (r) => r.scheme],
  ["host", (r) => r.host],
  ["port", (r) => r.port],
  ["path", (r) => r.path],
  ["status", (r) => r.status],
  ["sent_bytes", (r) => r.sent.bytes],
  ["sent_sha256", (r) => r.sent.sha256],
  ["sent_complete", (r) => r.sent.complete],
  ["received_bytes", (r) => r.received.bytes],
  ["received_sha256", (r) => r.received.sha256],
  ["received_complete", (r) => r.received.complete],
  ["total_ms", (r) => r.timings.total],
  ["origin_address", (r) => r.origin?.address ?? null],
  ["uninspected", (r) => r.uninspected],
  ["notes", (r) => r.notes.join(" ")],
  ["error", (r) => r.error],
];

export const CSV_HEAD = COLUMNS.map(([name]) => name).join(",");

export const csvLine = (record: AuditRecord): string => COLUMNS.map(([, value]) => cell(value(record))).join(",");

/** What a terminal would obey: controls, invisible format characters (bidirectional overrides among them), separators. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const shown = (char: string): string => `\\u{${(char.codePointAt(0) as number).toString(16)}}`;

/** Quoted where needed; a text that a spreadsheet would take for a formula gets an apostrophe before it. */
function cell(value: string | number | boolean | null): string {
  if (value === null) return "";
  if (typeof value !== "string") return String(value);
  const safe = value.replace(UNSAFE, shown);
  const text = /^\s*[=+\-@]/.test(safe) ? `'${safe}` : safe;
  return /[",\r\n]/.test(text) || text !== value ? `"${text.replaceAll('"', '""')}"` : text;
}
