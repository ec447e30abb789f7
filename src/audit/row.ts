// A record as the journal and the database keep it: one flat list, with exact inverse. Its JSON text is what the chain covers.
import type { AuditRecord, BodyRecord, OriginRecord, RecordedBody, RecordKind } from "./record.ts";
import { EMPTY_SHA256 } from "./record.ts";

export type Value = string | number | null;
/** The values of `ROW_KEYS`. Times are hundredths of ms, flags 0 or 1, `more` and `origin` JSON text, null the digest of nothing. */
export type Row = Value[];

/** The names of a row's values in their order, and what each may be: s text, n number, ? with null. What queries test is in front. */
const COLUMNS = {
  at: "n",
  kind: "s",
  client: "s?",
  host: "s?",
  method: "s?",
  status: "n?",
  decision: "s",
  rule: "s?",
  reason: "s?",
  uninspected: "n",
  path: "s?",
  id: "s",
  sentBytes: "n",
  receivedBytes: "n",
  address: "s",
  sentSha: "s?",
  receivedSha: "s?",
  parent: "s?",
  scheme: "s?",
  port: "n?",
  sentComplete: "n",
  receivedComplete: "n",
  total: "n",
  clientProtocol: "s?",
  originProtocol: "s?",
  sni: "s?",
  origin: "s?",
  more: "s?",
} as const;

export type RowKey = keyof typeof COLUMNS;
export const ROW_KEYS = Object.keys(COLUMNS) as RowKey[];
/** Of each value: is it a number, may it be null? */
export const NUMERIC = Object.values(COLUMNS).map((type) => type.startsWith("n"));
export const NULLABLE = Object.values(COLUMNS).map((type) => type.endsWith("?"));

/** The place of each value in a row. */
export const AT = Object.fromEntries(ROW_KEYS.map((key, i) => [key, i])) as Readonly<Record<RowKey, number>>;

/** Values that repeat. The database keeps each text once, and its number in the records: a word. */
export const WORD_KEYS = [
  "kind",
  "client",
  "address",
  "decision",
  "rule",
  "reason",
  "method",
  "scheme",
  "host",
  "clientProtocol",
  "originProtocol",
  "sni",
  "origin",
] as const satisfies readonly RowKey[];

/** JSON without spaces, so that no two rows share a text; a half of a surrogate pair, which UTF-8 cannot hold, is U+FFFD. */
export const rowText = (row: Row): string => jsonText(row);

/** The JSON of a row, or of one value of it, as `rowText` has it. */
export function jsonText(value: Row | Value): string {
  const text = JSON.stringify(value);
  // JSON.stringify escapes the halves alone; a backslash that was in the text is doubled.
  return text.includes("\\ud")
    ? text.replace(/\\\\|\\ud[0-9a-f]{3}/g, (found) => (found === "\\\\" ? found : "\ufffd"))
    : text;
}

/** The row of a journal line; null when it is not one. */
export function parseRow(text: string): Row | null {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(row) || row.length !== ROW_KEYS.length) return null;
  for (let i = 0; i < ROW_KEYS.length; i++) {
    const value: unknown = row[i];
    if (value === null) {
      if (!NULLABLE[i]) return null;
    } else if (NUMERIC[i] ? typeof value !== "number" : typeof value !== "string") return null;
  }
  return row as Row;
}

const hundredths = (ms: number | null): number | null => (ms === null ? null : Math.round(ms * 100));
const millis = (n: unknown): number | null => (typeof n === "number" ? n / 100 : null);
const shaValue = (sha256: string): string | null => (sha256 === EMPTY_SHA256 ? null : sha256);

/** The row of a record. */
export function rowOf(r: AuditRecord): Row {
  const { sent, received } = r;
  return [
    Math.trunc(r.at),
    r.kind,
    r.client,
    r.host,
    r.method,
    r.status,
    r.decision,
    r.rule,
    r.reason,
    r.uninspected ? 1 : 0,
    r.path,
    r.id,
    sent.bytes,
    received.bytes,
    r.address,
    shaValue(sent.sha256),
    shaValue(received.sha256),
    r.parent,
    r.scheme,
    r.port,
    sent.complete ? 1 : 0,
    received.complete ? 1 : 0,
    Math.round(r.timings.total * 100),
    r.clientProtocol,
    r.originProtocol,
    r.sni,
    r.origin === null ? null : originText(r.origin),
    moreText(r),
  ];
}

export const originText = (o: OriginRecord): string =>
  JSON.stringify([o.address, o.port, o.tls, o.fingerprint, o.resolvedBy, o.to, o.via]);

function originOf(text: string): OriginRecord {
  const [address, port, tls, fingerprint, resolvedBy, to, via] = JSON.parse(text);
  return { address, port, tls, fingerprint, resolvedBy, to, via };
}

/** What is rarely there, by position; the empty end is left off. */
export function moreText(r: AuditRecord): string | null {
  const t = r.timings;
  const all: unknown[] = [
    hundredths(t.wait),
    hundredths(t.dns),
    hundredths(t.connect),
    hundredths(t.tls),
    hundredths(t.firstByte),
    r.notes.length > 0 ? r.notes : null,
    r.error,
    decodedOf(r.sent),
    decodedOf(r.received),
    r.sent.parts ?? null,
    r.received.parts ?? null,
    r.requestFields ?? null,
    r.responseFields ?? null,
    capturedOf(r.requestBody),
    capturedOf(r.responseBody),
    r.sent.messages ?? null,
    r.received.messages ?? null,
  ];
  let end = all.length;
  while (end > 0 && all[end - 1] === null) end--;
  if (end === 0) return null;
  all.length = end;
  return JSON.stringify(all);
}

const decodedOf = (b: BodyRecord) => (b.decoded === undefined ? null : [b.decoded.bytes, b.decoded.sha256]);
const capturedOf = (b: RecordedBody | undefined) => (b === undefined ? null : [b.base64, b.whole ? 1 : 0]);

/** The record of a row; the exact inverse of `rowOf`. Throws when the row's texts are not what `rowOf` writes. */
export function recordOf(row: Row): AuditRecord {
  const more = row[AT.more] as string | null;
  const m: unknown[] = more === null ? [] : JSON.parse(more);
  const at = (i: number): unknown => m[i] ?? null;
  const text = (key: RowKey) => row[AT[key]] as string | null;
  const number = (key: RowKey) => row[AT[key]] as number;
  const requestFields = at(11) as string[] | null;
  const responseFields = at(12) as string[] | null;
  const requestBody = at(13) as [string, number] | null;
  const responseBody = at(14) as [string, number] | null;
  const origin = text("origin");
  return {
    id: text("id") as string,
    parent: text("parent"),
    at: number("at"),
    kind: text("kind") as RecordKind,
    client: text("client"),
    address: text("address") as string,
    decision: text("decision") as AuditRecord["decision"],
    rule: text("rule"),
    reason: text("reason") as AuditRecord["reason"],
    method: text("method"),
    scheme: text("scheme") as AuditRecord["scheme"],
    host: text("host"),
    port: row[AT.port] as number | null,
    path: text("path"),
    status: row[AT.status] as number | null,
    sent: {
      ...bodyOf(number("sentBytes"), text("sentSha"), number("sentComplete"), at(7), at(9)),
      ...messagesOf(at(15)),
    },
    received: {
      ...bodyOf(number("receivedBytes"), text("receivedSha"), number("receivedComplete"), at(8), at(10)),
      ...messagesOf(at(16)),
    },
    timings: {
      wait: millis(at(0)),
      dns: millis(at(1)),
      connect: millis(at(2)),
      tls: millis(at(3)),
      firstByte: millis(at(4)),
      total: number("total") / 100,
    },
    origin: origin === null ? null : originOf(origin),
    clientProtocol: text("clientProtocol"),
    originProtocol: text("originProtocol"),
    sni: text("sni"),
    uninspected: row[AT.uninspected] === 1,
    notes: (at(5) as string[] | null) ?? [],
    error: at(6) as string | null,
    ...(requestFields === null ? {} : { requestFields }),
    ...(responseFields === null ? {} : { responseFields }),
    ...(requestBody === null ? {} : { requestBody: { base64: requestBody[0], whole: requestBody[1] === 1 } }),
    ...(responseBody === null ? {} : { responseBody: { base64: responseBody[0], whole: responseBody[1] === 1 } }),
  };
}

function bodyOf(bytes: number, sha: string | null, complete: number, decoded: unknown, parts: unknown): BodyRecord {
  const d = decoded as [number, string] | null;
  return {
    bytes,
    sha256: sha ?? EMPTY_SHA256,
    complete: complete === 1,
    ...(d === null ? {} : { decoded: { bytes: d[0], sha256: d[1] } }),
    ...(parts === null ? {} : { parts: parts as string[] }),
  };
}

const messagesOf = (count: unknown) => (count === null ? {} : { messages: count as number });

/** Every digest that `find-body` and `--digest` look for. */
export function digestsOf(r: AuditRecord): string[] {
  const found = new Set<string>();
  for (const body of [r.sent, r.received]) {
    if (body.bytes > 0) found.add(body.sha256);
    if (body.decoded !== undefined && body.decoded.bytes > 0) found.add(body.decoded.sha256);
    for (const part of body.parts ?? []) found.add(part);
  }
  return [...found];
}
