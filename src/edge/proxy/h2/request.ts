// The head of a request on an HTTP/2 stream: pseudo-fields checked (RFC 9113 section 8.3.1), names compared with each other
// and with CONNECT (invariant 7: the same request gets the same decision on every path). What node:http2 rejects by itself
// (upper-case names, connection fields, a content-length that lies) never comes here.
import { METHODS } from "node:http";
import type { ConnectContext } from "../../../exchange/exchange.ts";
import { firstValue, removeField } from "../../../http/fields.ts";
import type { Authority, RequestHead, Scheme } from "../../../http/messages.ts";
import { authorityText, DEFAULT_PORT, parseAuthority } from "../../../http/target.ts";
import { ProxyError } from "../../../shared/errors.ts";
import type { Section } from "./fields.ts";

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);

export interface ReadRequest {
  /** null: nothing that could be decided on was found; `error` says why. */
  readonly request: RequestHead | null;
  readonly error: ProxyError | null;
}

export interface RequestBounds {
  /** Bytes of the field section, and of the path. */
  readonly headers: number;
  readonly url: number;
}

const refused = (error: ProxyError): ReadRequest => ({ request: null, error });

/** Reads the head of a request inside CONNECT. `scheme`: of the connection. */
export function readRequest(
  section: Section,
  scheme: Scheme,
  connect: ConnectContext,
  bounds: RequestBounds,
): ReadRequest {
  const { method, path = "" } = section.pseudo;
  if (section.size > bounds.headers) return refused(new ProxyError("fields-too-large"));
  if (method === "CONNECT") return refused(new ProxyError("method-not-allowed", "CONNECT inside CONNECT"));
  if (method === undefined || !KNOWN_METHODS.has(method)) return refused(new ProxyError("not-implemented"));
  if (path.length > bounds.url) return refused(new ProxyError("target-too-long"));
  if (!isPath(path, method)) return refused(new ProxyError("malformed-request", "the :path is not valid"));
  return named(section, method, path, scheme, connect);
}

function named(section: Section, method: string, path: string, scheme: Scheme, connect: ConnectContext): ReadRequest {
  const { authority } = connect;
  const { pseudo, fields } = section;
  const host = firstValue(fields, "host");
  removeField(fields, "host");
  const request: RequestHead = {
    method,
    scheme,
    host: authority.host,
    port: authority.port,
    path,
    version: "2",
    fields,
  };
  const names = [pseudo.authority, host].filter((name) => name !== undefined && name !== null);
  const parsed = names.map((name) => parseAuthority(name as string, DEFAULT_PORT[scheme]));
  const [first, second] = parsed;
  if (first === undefined || parsed.includes(null))
    return refused(new ProxyError("malformed-request", "the :authority or Host is not valid"));
  if (second !== undefined && !same(first as Authority, second as Authority))
    return { request, error: new ProxyError("malformed-request", ":authority and Host name different hosts") };
  return { request, error: misdirection(first as Authority, pseudo.scheme, scheme, connect) };
}

function misdirection(
  name: Authority,
  said: string | undefined,
  scheme: Scheme,
  connect: ConnectContext,
): ProxyError | null {
  const { authority } = connect;
  if (said !== scheme) return new ProxyError("misdirected", `the :scheme is not ${scheme}`);
  if (connect.sniMismatch)
    return new ProxyError("misdirected", `SNI names another host than CONNECT ${authorityText(authority)}`);
  const right =
    name.port === authority.port &&
    (name.host === authority.host || (connect.alias !== null && name.host === connect.alias));
  return right
    ? null
    : new ProxyError("misdirected", `the request names another host than CONNECT ${authorityText(authority)}`);
}

const same = (a: Authority, b: Authority): boolean => a.host === b.host && a.port === b.port;

/** Origin-form, or `*` for OPTIONS; printable ASCII without a fragment. */
const isPath = (path: string, method: string): boolean =>
  path === "*" ? method === "OPTIONS" : /^\/[!-~]*$/.test(path) && !path.includes("#");

/** Content that a request announced: 0 none, -1 unknown. Null: the Content-Length is not a length. */
export function contentLength(section: Section, endsWithHead: boolean): number | null {
  const value = firstValue(section.fields, "content-length");
  if (value === null) return endsWithHead ? 0 : -1;
  return /^\d{1,15}$/.test(value) ? Number(value) : null;
}
