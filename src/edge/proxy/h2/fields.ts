// Fields between HTTP/2 (RFC 9113 section 8) and the flat lists of the line: pseudo-fields split off, cookie crumbs joined,
// what belongs to a connection left out, names in lower case. No sockets in here.
import type { OutgoingHttpHeaders } from "node:http2";
import type { OpenRequest } from "../../../exchange/sides.ts";
import { type Fields, firstValue } from "../../../http/fields.ts";
import type { ResponseHead } from "../../../http/messages.ts";
import { authorityText } from "../../../http/target.ts";

/** Fields that no HTTP/2 message may have (RFC 9113 section 8.2.2), and those that we write ourselves. */
const CONNECTION: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "te",
]);
/** What may not stand in trailers (RFC 9110 section 6.5.1), as in the chunked coding. */
const NOT_IN_TRAILERS =
  /^(?:host|content-(?:length|encoding|type|range)|transfer-encoding|connection|keep-alive|proxy-.*|te|trailer|upgrade|authorization|cookie|set-cookie|cache-control|expect|max-forwards|range|if-.*|www-authenticate|age|expires|date|location|retry-after|vary|warning)$/;

/** A received field section: pseudo-fields by name without the colon, the others in order. */
export interface Section {
  readonly pseudo: Readonly<Record<string, string | undefined>>;
  readonly fields: Fields;
  /** Bytes of names and values. */
  readonly size: number;
}

/** Splits a raw list as node:http2 gives it (`name, value, …`). Cookie crumbs are joined (RFC 9113 section 8.2.3). */
export function readSection(raw: readonly string[]): Section {
  const pseudo: Record<string, string | undefined> = Object.create(null);
  const fields: Fields = [];
  let size = 0;
  let cookie = -1;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string;
    const value = raw[i + 1] as string;
    size += name.length + value.length + 4;
    if (name.charCodeAt(0) === 58) {
      pseudo[name.slice(1)] = value;
    } else if (name === "cookie") {
      if (cookie < 0) {
        cookie = fields.length + 1;
        fields.push(name, value);
      } else fields[cookie] += `; ${value}`;
    } else fields.push(name, value);
  }
  return { pseudo, fields, size };
}

/** Trailers that may go on, and how many may not. */
export function readTrailers(raw: readonly string[]): { trailers: Fields | null; dropped: number } {
  const trailers: Fields = [];
  let dropped = 0;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string;
    if (name.charCodeAt(0) === 58 || NOT_IN_TRAILERS.test(name)) dropped++;
    else trailers.push(name, raw[i + 1] as string);
  }
  return { trailers: trailers.length === 0 ? null : trailers, dropped };
}

/** The head of a response for a client. `length`: as `ClientSide.head` has it; `bodiless`: HEAD, 204, 205, 304. */
export function responseHeaders(response: ResponseHead, length: number | null, bodiless: boolean): OutgoingHttpHeaders {
  const headers = noHeaders();
  headers[":status"] = response.status;
  const declared = copyFields(headers, response.fields, null);
  if (bodiless) {
    const none = response.status === 204 || (response.status === 205 && declared !== "0");
    if (!none && declared !== null) headers["content-length"] = declared;
  } else if (length !== null && (length > 0 || declared !== null)) headers["content-length"] = String(length);
  return headers;
}

/** The head of a request for an origin. */
export function requestHeaders(request: OpenRequest): OutgoingHttpHeaders {
  const x = request.exchange;
  const f = x.forward;
  const host = x.hostText ?? firstValue(f.fields, "host") ?? authorityText(f, f.scheme);
  const headers = noHeaders();
  headers[":method"] = f.method;
  headers[":scheme"] = f.scheme;
  headers[":authority"] = host;
  headers[":path"] = f.path;
  const declared = copyFields(headers, f.fields, "host");
  if (request.length !== null && (request.length > 0 || declared !== null))
    headers["content-length"] = String(request.length);
  if (wantsTrailers(x.received.fields)) headers.te = "trailers";
  if (request.expectContinue) headers.expect = "100-continue";
  return headers;
}

/** A trailer section, or an informational one. */
export function plainHeaders(fields: Fields): OutgoingHttpHeaders {
  const headers = noHeaders();
  copyFields(headers, fields, null);
  return headers;
}

/** Without a prototype: `constructor` and `__proto__` are names of fields like any other. */
const noHeaders = (): OutgoingHttpHeaders => Object.create(null);

/** `TE: trailers` is for each hop to say; a client that said it can be served (RFC 9110 section 10.1.4). */
const wantsTrailers = (fields: Fields): boolean => {
  const te = firstValue(fields, "te");
  return te !== null && /(?:^|,)\s*trailers\s*(?:,|$)/i.test(te);
};

/** Copies what may pass; returns the Content-Length that was among them, or null. */
function copyFields(headers: OutgoingHttpHeaders, fields: Fields, without: string | null): string | null {
  let declared: string | null = null;
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] as string).toLowerCase();
    const value = fields[i + 1] as string;
    if (name === "content-length") declared = value;
    else if (!CONNECTION.has(name) && name !== without) add(headers, name, value);
  }
  return declared;
}

/** node:http2 takes several values for some names only: elsewhere lines are combined (RFC 9110 section 5.3). */
function add(headers: OutgoingHttpHeaders, name: string, value: string): void {
  const old = headers[name];
  if (old === undefined) headers[name] = value;
  else if (SINGLE.has(name)) headers[name] = `${old as string}, ${value}`;
  else if (Array.isArray(old)) old.push(value);
  else headers[name] = [old as string, value];
}
const SINGLE: ReadonlySet<string> = new Set([
  "access-control-allow-credentials",
  "access-control-max-age",
  "access-control-request-method",
  "age",
  "authorization",
  "content-encoding",
  "content-language",
  "content-location",
  "content-md5",
  "content-range",
  "content-type",
  "date",
  "dnt",
  "etag",
  "expires",
  "from",
  "host",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "last-modified",
  "location",
  "max-forwards",
  "proxy-authorization",
  "range",
  "referer",
  "retry-after",
  "tk",
  "upgrade-insecure-requests",
  "user-agent",
  "x-content-type-options",
]);
