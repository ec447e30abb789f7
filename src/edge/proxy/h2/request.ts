// The head of a request on an HTTP/2 stream: pseudo-fields checked (RFC 9113 section 8.3.1), names compared with each other
// and with CONNECT (invariant 7: the same request gets the same decision on every path). What node:http2 rejects by itself
// (upper-case names, connection fields, a content-length that lies) never comes here.
import { METHODS } from "node:http";
import type { ConnectContext } from "../../../exchange/exchange.ts";
import { firstValue, removeField } from "../../../http/fields.ts";
import type { Authority, RequestHead, Scheme } from "../../../http/messages.ts";
import { authorityText, DEFAULT_PORT, parseAuthority, parseConnectTarget } from "../../../http/target.ts";
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
  const fault = faultOf(section, bounds);
  if (fault !== null) return refused(fault);
  const name = nameOf(section, scheme);
  if (name === null) return refused(new ProxyError("malformed-request", NO_NAME));
  const request = requestOf(section, scheme, connect.authority);
  // CONNECT named the address that the name stands for: the origin gets to see the name, as over HTTP/1.1.
  if (name !== "two" && name.host === connect.alias) request.fields.unshift("Host", authorityText(name, scheme));
  if (name === "two") return { request, error: new ProxyError("malformed-request", TWO_NAMES) };
  return { request, error: misdirection(name, section.pseudo.scheme, scheme, connect) };
}

/** Reads the head of a request on the proxy port itself, where HTTP/1.1 has the absolute form. Not that of a CONNECT. */
export function readProxyRequest(section: Section, bounds: RequestBounds): ReadRequest {
  const fault = faultOf(section, bounds);
  if (fault !== null) return refused(fault);
  const { scheme } = section.pseudo;
  if (scheme !== "http" && scheme !== "https")
    return refused(new ProxyError("malformed-request", "the :scheme is neither http nor https"));
  const name = nameOf(section, scheme);
  if (name === null) return refused(new ProxyError("malformed-request", NO_NAME));
  if (name === "two") return refused(new ProxyError("malformed-request", TWO_NAMES));
  return { request: requestOf(section, scheme, name), error: null };
}

/** Reads where a CONNECT on the proxy port wants to go (RFC 9113 section 8.5). Throws ProxyError when it is not valid. */
export function readConnect(section: Section, bounds: RequestBounds): Authority {
  const { authority = "", path, scheme, protocol } = section.pseudo;
  if (section.size > bounds.headers) throw new ProxyError("fields-too-large");
  if (authority.length > bounds.url) throw new ProxyError("target-too-long");
  // node:http2 rejects these by itself; here so that nothing depends on it.
  if (path !== undefined || scheme !== undefined || protocol !== undefined)
    throw new ProxyError("malformed-request", "CONNECT has no :scheme, :path or :protocol");
  // HTTP/2 has no length for what follows: a declared one is content, as in HTTP/1.1.
  if (contentLength(section, true) !== 0) throw new ProxyError("malformed-request", "CONNECT with content");
  const parsed = parseConnectTarget(authority);
  if (parsed === null) throw new ProxyError("malformed-request", "CONNECT wants host:port");
  return parsed;
}

function faultOf(section: Section, bounds: RequestBounds): ProxyError | null {
  const { method, path = "" } = section.pseudo;
  if (section.size > bounds.headers) return new ProxyError("fields-too-large");
  if (method === "CONNECT") return new ProxyError("method-not-allowed", "CONNECT inside CONNECT");
  if (method === undefined || !KNOWN_METHODS.has(method)) return new ProxyError("not-implemented");
  if (path.length > bounds.url) return new ProxyError("target-too-long");
  return isPath(path, method) ? null : new ProxyError("malformed-request", "the :path is not valid");
}

const NO_NAME = "the :authority or Host is not valid";
const TWO_NAMES = ":authority and Host name different hosts";

/** What :authority and Host name. Null: nothing valid; `two`: different hosts. */
function nameOf({ pseudo, fields }: Section, scheme: Scheme): Authority | "two" | null {
  const names = [pseudo.authority, firstValue(fields, "host")].filter((name) => name !== undefined && name !== null);
  const [first, second] = names.map((name) => parseAuthority(name as string, DEFAULT_PORT[scheme]));
  if (first === undefined || first === null || second === null) return null;
  return second === undefined || same(first, second) ? first : "two";
}

function requestOf({ pseudo, fields }: Section, scheme: Scheme, { host, port }: Authority): RequestHead {
  const { method = "", path = "" } = pseudo;
  removeField(fields, "host");
  return { method, scheme, host, port, path, version: "2", fields };
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
