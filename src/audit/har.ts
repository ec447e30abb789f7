// Exchanges as entries of an HTTP Archive (HAR 1.2). Bodies and fields are there only where a rule had them recorded.
import { isUtf8 } from "node:buffer";
import type { AuditRecord, RecordedBody, Timings } from "./record.ts";

interface NameValue {
  readonly name: string;
  readonly value: string;
}

export const harHead = (version: string): string =>
  `{"log":{"version":"1.2","creator":${JSON.stringify({ name: "sallyport", version })},"entries":[`;
export const HAR_TAIL = "]}}\n";

/** The entry of an exchange; null for other kinds, which HAR has no place for. */
export function harEntry(r: AuditRecord): object | null {
  if (r.kind !== "exchange" || r.method === null || r.host === null) return null;
  const url = urlOf(r);
  const requestType = fieldOf(r.requestFields, "content-type") ?? "";
  return {
    startedDateTime: new Date(r.at).toISOString(),
    time: r.timings.total,
    request: {
      method: r.method,
      url,
      httpVersion: versionOf(r.clientProtocol),
      cookies: [],
      headers: pairs(r.requestFields),
      queryString: queryOf(r.path ?? ""),
      headersSize: -1,
      bodySize: r.sent.bytes,
      ...(r.requestBody === undefined ? {} : { postData: { mimeType: requestType, ...textOf(r.requestBody) } }),
    },
    response: responseOf(r),
    cache: {},
    timings: timingsOf(r.timings),
    ...(r.origin?.address ? { serverIPAddress: r.origin.address } : {}),
    comment: `sallyport ${r.id} ${r.decision}${r.reason === null ? "" : ` ${r.reason}`}`,
    _sallyport: {
      id: r.id,
      client: r.client,
      rule: r.rule,
      sentSha256: r.sent.sha256,
      receivedSha256: r.received.sha256,
      complete: r.sent.complete && r.received.complete,
      ...(r.requestBody === undefined ? {} : { requestBody: r.requestBody }),
    },
  };
}

function responseOf(r: AuditRecord): object {
  const body = r.responseBody;
  return {
    status: r.status ?? 0,
    statusText: "",
    httpVersion: versionOf(r.clientProtocol),
    cookies: [],
    headers: pairs(r.responseFields),
    content: {
      size: r.received.decoded?.bytes ?? r.received.bytes,
      mimeType: fieldOf(r.responseFields, "content-type") ?? "",
      ...(body === undefined ? {} : { text: body.base64, encoding: "base64", ...partOf(body) }),
    },
    redirectURL: fieldOf(r.responseFields, "location") ?? "",
    headersSize: -1,
    bodySize: r.received.bytes,
  };
}

function urlOf(r: AuditRecord): string {
  const host = r.host?.includes(":") ? `[${r.host}]` : r.host;
  const usual = r.port === null || r.port === (r.scheme === "http" ? 80 : 443);
  const path = r.path === null || r.path === "*" ? "/" : r.path;
  return `${r.scheme ?? "https"}://${host}${usual ? "" : `:${r.port}`}${path}`;
}

const versionOf = (protocol: string | null): string => (protocol === null ? "" : `HTTP/${protocol}`);

/** HAR has no encoding for what was posted: what is no text stands beside, as it was recorded. */
function textOf(body: RecordedBody): object {
  const bytes = Buffer.from(body.base64, "base64");
  if (isUtf8(bytes)) return { text: bytes.toString("utf8"), ...partOf(body) };
  return { text: "", comment: "not UTF-8, or cut inside a character: in _sallyport.requestBody" };
}

/** A part must not look like the whole. */
const partOf = (body: RecordedBody): object => (body.whole ? {} : { comment: "only the beginning was recorded" });

function pairs(fields: readonly string[] | undefined): NameValue[] {
  const list: NameValue[] = [];
  for (let i = 0; fields !== undefined && i < fields.length; i += 2)
    list.push({ name: fields[i] as string, value: fields[i + 1] as string });
  return list;
}

const fieldOf = (fields: readonly string[] | undefined, name: string): string | null =>
  pairs(fields).find((f) => f.name.toLowerCase() === name)?.value ?? null;

function queryOf(path: string): NameValue[] {
  const mark = path.indexOf("?");
  if (mark < 0) return [];
  return path
    .slice(mark + 1)
    .split("&")
    .filter((part) => part !== "")
    .map((part) => {
      const equals = part.indexOf("=");
      return equals < 0 ? { name: part, value: "" } : { name: part.slice(0, equals), value: part.slice(equals + 1) };
    });
}

/** HAR wants -1 for a step that did not happen; send, wait and receive must be there. */
function timingsOf(t: Timings): object {
  const before = (t.wait ?? 0) + (t.dns ?? 0) + (t.connect ?? 0) + (t.tls ?? 0) + (t.firstByte ?? 0);
  return {
    blocked: t.wait ?? -1,
    dns: t.dns ?? -1,
    // In HAR, connect includes the TLS handshake.
    connect: t.connect === null ? -1 : t.connect + (t.tls ?? 0),
    ssl: t.tls ?? -1,
    send: 0,
    wait: t.firstByte ?? 0,
    receive: Math.max(0, Math.round((t.total - before) * 100) / 100),
  };
}
