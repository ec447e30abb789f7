// A record as the database keeps it: flat, with exact inverse. The hash chain covers a row, so it covers all that a query shows.
import type { AuditRecord, BodyRecord, OriginRecord, RecordedBody, RecordKind } from "./record.ts";
import { hexToId, idToHex } from "./ulid.ts";

type Maybe<T> = T | null;

/** Words are spelled out here and interned in the database; `more` and `origin` are JSON text; times are hundredths of ms. */
export interface Row {
  id: string;
  parent: Maybe<string>;
  at: number;
  kind: string;
  client: Maybe<string>;
  address: string;
  decision: string;
  rule: Maybe<string>;
  reason: Maybe<string>;
  method: Maybe<string>;
  scheme: Maybe<string>;
  host: Maybe<string>;
  port: Maybe<number>;
  path: Maybe<string>;
  status: Maybe<number>;
  sentBytes: number;
  sentSha: string;
  sentComplete: number;
  receivedBytes: number;
  receivedSha: string;
  receivedComplete: number;
  total: number;
  uninspected: number;
  clientProtocol: Maybe<string>;
  originProtocol: Maybe<string>;
  sni: Maybe<string>;
  origin: Maybe<string>;
  more: Maybe<string>;
}

/** The names of a row's values, in the order in which they are hashed and stored. */
export const ROW_KEYS = [
  "id",
  "parent",
  "at",
  "kind",
  "client",
  "address",
  "decision",
  "rule",
  "reason",
  "method",
  "scheme",
  "host",
  "port",
  "path",
  "status",
  "sentBytes",
  "sentSha",
  "sentComplete",
  "receivedBytes",
  "receivedSha",
  "receivedComplete",
  "total",
  "uninspected",
  "clientProtocol",
  "originProtocol",
  "sni",
  "origin",
  "more",
] as const satisfies readonly (keyof Row)[];

const hundredths = (ms: number | null): number | null => (ms === null ? null : Math.round(ms * 100));
const millis = (n: unknown): number | null => (typeof n === "number" ? n / 100 : null);

/** The row of a record. */
export function rowOf(r: AuditRecord): Row {
  return {
    id: idToHex(r.id),
    parent: r.parent === null ? null : idToHex(r.parent),
    at: Math.trunc(r.at),
    kind: r.kind,
    client: r.client,
    address: r.address,
    decision: r.decision,
    rule: r.rule,
    reason: r.reason,
    method: r.method,
    scheme: r.scheme,
    host: r.host,
    port: r.port,
    path: r.path,
    status: r.status,
    sentBytes: r.sent.bytes,
    sentSha: r.sent.sha256,
    sentComplete: r.sent.complete ? 1 : 0,
    receivedBytes: r.received.bytes,
    receivedSha: r.received.sha256,
    receivedComplete: r.received.complete ? 1 : 0,
    total: hundredths(r.timings.total) as number,
    uninspected: r.uninspected ? 1 : 0,
    clientProtocol: r.clientProtocol,
    originProtocol: r.originProtocol,
    sni: r.sni,
    origin: r.origin === null ? null : originText(r.origin),
    more: moreText(r),
  };
}

const originText = (o: OriginRecord): string =>
  JSON.stringify([o.address, o.port, o.tls, o.fingerprint, o.resolvedBy, o.to, o.via]);

function originOf(text: string): OriginRecord {
  const [address, port, tls, fingerprint, resolvedBy, to, via] = JSON.parse(text);
  return { address, port, tls, fingerprint, resolvedBy, to, via };
}

/** What is rarely there, by position; the empty end is left off. */
function moreText(r: AuditRecord): string | null {
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
  const m: unknown[] = row.more === null ? [] : JSON.parse(row.more);
  const at = (i: number): unknown => m[i] ?? null;
  const requestFields = at(11) as string[] | null;
  const responseFields = at(12) as string[] | null;
  const requestBody = at(13) as [string, number] | null;
  const responseBody = at(14) as [string, number] | null;
  return {
    id: hexToId(row.id),
    parent: row.parent === null ? null : hexToId(row.parent),
    at: row.at,
    kind: row.kind as RecordKind,
    client: row.client,
    address: row.address,
    decision: row.decision as AuditRecord["decision"],
    rule: row.rule,
    reason: row.reason as AuditRecord["reason"],
    method: row.method,
    scheme: row.scheme as AuditRecord["scheme"],
    host: row.host,
    port: row.port,
    path: row.path,
    status: row.status,
    sent: bodyOf(row.sentBytes, row.sentSha, row.sentComplete, at(7), at(9), at(15)),
    received: bodyOf(row.receivedBytes, row.receivedSha, row.receivedComplete, at(8), at(10), at(16)),
    timings: {
      wait: millis(at(0)),
      dns: millis(at(1)),
      connect: millis(at(2)),
      tls: millis(at(3)),
      firstByte: millis(at(4)),
      total: row.total / 100,
    },
    origin: row.origin === null ? null : originOf(row.origin),
    clientProtocol: row.clientProtocol,
    originProtocol: row.originProtocol,
    sni: row.sni,
    uninspected: row.uninspected === 1,
    notes: (at(5) as string[] | null) ?? [],
    error: at(6) as string | null,
    ...(requestFields === null ? {} : { requestFields }),
    ...(responseFields === null ? {} : { responseFields }),
    ...(requestBody === null ? {} : { requestBody: { base64: requestBody[0], whole: requestBody[1] === 1 } }),
    ...(responseBody === null ? {} : { responseBody: { base64: responseBody[0], whole: responseBody[1] === 1 } }),
  };
}

function bodyOf(
  bytes: number,
  sha256: string,
  complete: number,
  decoded: unknown,
  parts: unknown,
  messages: unknown,
): BodyRecord {
  const d = decoded as [number, string] | null;
  return {
    bytes,
    sha256,
    complete: complete === 1,
    ...(d === null ? {} : { decoded: { bytes: d[0], sha256: d[1] } }),
    ...(parts === null ? {} : { parts: parts as string[] }),
    ...(messages === null ? {} : { messages: messages as number }),
  };
}

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
