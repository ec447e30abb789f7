// Where a request wants to go: the forms of RFC 9112 section 3.2, on the proxy port and inside CONNECT, with the names
// compared (invariant 7: the same request gets the same decision on every path).
import type { ConnectContext } from "../../exchange/exchange.ts";
import type { Authority, RequestHead, Scheme } from "../../http/messages.ts";
import type { Head } from "../../http/parse-head.ts";
import { authorityText, DEFAULT_PORT, parseAbsoluteTarget, parseAuthority } from "../../http/target.ts";
import { ProxyError } from "../../shared/errors.ts";

export interface ReadTarget {
  /** null: nothing that could be decided on was found; `error` says why. */
  readonly request: RequestHead | null;
  /** Set beside `request` for a request that is understood and refused all the same (421). */
  readonly error: ProxyError | null;
  /** The Host that the client sent, where the target won over it. */
  readonly hostReplaced: string | null;
}

const refused = (error: ProxyError): ReadTarget => ({ request: null, error, hostReplaced: null });

/** `host`: by which the client reached us; nothing else of the request is repeated. */
function howTo(host: string | null, secure: boolean): string {
  const scheme = secure ? "https" : "http";
  const reached = host === null ? null : parseAuthority(host, DEFAULT_PORT[scheme]);
  const address = reached === null ? "" : `, such as ${scheme}://${authorityText(reached)}`;
  return `this is a forward proxy: set HTTP_PROXY and HTTPS_PROXY (and http_proxy, https_proxy) to its address${address}, or start the program with \`sallyport run -- COMMAND\``;
}

/** `scheme`: of the connection inside CONNECT, null on the proxy port. `secure`: the proxy port speaks TLS. */
export function readTarget(
  head: Head,
  scheme: Scheme | null,
  connect: ConnectContext | null,
  secure = false,
): ReadTarget {
  return scheme === null || connect === null ? onProxyPort(head, secure) : insideConnect(head, scheme, connect);
}

function onProxyPort(head: Head, secure: boolean): ReadTarget {
  const first = head.target.charCodeAt(0);
  if (first === 47 || head.target === "*")
    return refused(new ProxyError("not-a-proxy-request", howTo(head.host, secure)));
  const target = parseAbsoluteTarget(head.target);
  if (target === null)
    return refused(new ProxyError("malformed-request", "the request target is not a valid http or https URL"));
  const path = asteriskOf(head, target.path);
  let hostReplaced: string | null = null;
  if (head.host !== null && !alike(head.host, target.authority)) {
    const host = parseAuthority(head.host, DEFAULT_PORT[target.scheme]);
    if (host === null) return refused(new ProxyError("malformed-request", "the Host field is not valid"));
    if (host.host !== target.host || host.port !== target.port) hostReplaced = head.host;
  }
  return { request: request(head, target.scheme, target, path), error: null, hostReplaced };
}

/** Most clients write the same in both places. One by one, since `===` is slow for two parts of one text. */
function alike(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a.charCodeAt(i) !== b.charCodeAt(i)) return false;
  return true;
}

/** OPTIONS for an absolute target without a path means the server as a whole (RFC 9112 section 3.2.4). */
function asteriskOf(head: Head, path: string): string {
  if (head.method !== "OPTIONS" || path !== "/") return path;
  const text = head.target;
  const rest = text.indexOf("/", text.indexOf("://") + 3);
  return rest < 0 && !text.includes("?") ? "*" : path;
}

function insideConnect(head: Head, scheme: Scheme, connect: ConnectContext): ReadTarget {
  const authority = connect.authority;
  let path = head.target;
  let agree = true;
  if (path.charCodeAt(0) !== 47 && !(path === "*" && head.method === "OPTIONS")) {
    const target = parseAbsoluteTarget(path);
    if (target === null) return refused(new ProxyError("malformed-request", "the request target is not valid"));
    path = asteriskOf(head, target.path);
    agree = target.scheme === scheme && sameAuthority(target, authority, connect);
  }
  // Beside a full target as well: Host is what the origin gets to see, and what it believes.
  if (head.host !== null) {
    const host = parseAuthority(head.host, DEFAULT_PORT[scheme]);
    if (host === null) return refused(new ProxyError("malformed-request", "the Host field is not valid"));
    agree &&= sameAuthority(host, authority, connect);
  }
  const made = request(head, scheme, authority, path);
  if (connect.sniMismatch) {
    return {
      request: made,
      error: new ProxyError("misdirected", `SNI names another host than CONNECT ${authorityText(authority)}`),
      hostReplaced: null,
    };
  }
  if (!agree) {
    return {
      request: made,
      error: new ProxyError("misdirected", `the request names another host than CONNECT ${authorityText(authority)}`),
      hostReplaced: null,
    };
  }
  return { request: made, error: null, hostReplaced: null };
}

/** CONNECT to an address with a name in SNI: the name stands for the address inside (both were allowed). */
function sameAuthority(named: Authority, authority: Authority, connect: ConnectContext): boolean {
  if (named.port !== authority.port) return false;
  return named.host === authority.host || (connect.alias !== null && named.host === connect.alias);
}

/** The protocols that may be switched to: never HTTP/2 in clear text (RFC 9113 section 3.1), never in HTTP/1.0. Null: none. */
export function upgradeOf(head: Head): string | null {
  if (head.upgrade === null || head.minor === 0) return null;
  const wanted = head.upgrade.split(",").map((protocol) => protocol.trim());
  return wanted.filter((protocol) => protocol !== "" && !/^h2c?$/i.test(protocol)).join(", ") || null;
}

const request = (head: Head, scheme: Scheme, authority: Authority, path: string): RequestHead => ({
  method: head.method,
  scheme,
  host: authority.host,
  port: authority.port,
  path,
  version: head.minor === 0 ? "1.0" : "1.1",
  fields: head.fields,
});
