// Where a request goes: canonical hosts, authorities, and the forms of the request-target (RFC 9112 section 3.2).
// The one reader of names: what is decided, dialled, signed and recorded comes from here.
import { toASCII } from "tr46";
import { endsInNumber, ipv4Text, ipv6Text, parseIpv4, parseIpv6, parseOddIpv4 } from "./ip-address.ts";
import type { Authority, Destination, Scheme } from "./messages.ts";

/** The port that a scheme means when none is written. */
export const DEFAULT_PORT: Readonly<Record<Scheme, number>> = { http: 80, https: 443 };

/**
 * The canonical form of a host as `Destination` has it: ASCII lower case after UTS-46 (non-transitional), without the
 * trailing dot; every spelling of an IPv4 address as a dotted quad; IPv6 (given without brackets) in its shortest text.
 * Null for what is not a host: zone ids, `%`, control characters, white space, empty or long labels.
 */
export function canonicalHost(text: string): string | null {
  return isPlainName(text) || parseIpv4(text) !== null ? text : carefulHost(text);
}

/** True for what is already canonical: lower case, no trailing dot, no digits in front of the last label, no punycode. */
function isPlainName(text: string): boolean {
  const length = text.length;
  if (length === 0 || length > 253) return false;
  let start = 0;
  for (let i = 0; i < length; i++) {
    const c = text.charCodeAt(i);
    if ((c >= 97 && c <= 122) || c === 95) continue;
    if (c === 46) {
      if (i === start || i - start > 63) return false;
      start = i + 1;
    } else if (c === 45) {
      // Two hyphens in a row may be punycode, which wants a check.
      if (text.charCodeAt(i + 1) === 45) return false;
    } else if (c < 48 || c > 57) return false;
  }
  const first = text.charCodeAt(start);
  return length > start && length - start <= 63 && (first < 48 || first > 57);
}

function carefulHost(text: string): string | null {
  // 1,000: a bound on the work of UTS-46; no host that could be valid is longer in characters.
  if (text === "" || text.length > 1000 || /[\s%@#\\/?]/.test(text)) return null;
  if (text.includes(":")) {
    const groups = parseIpv6(text);
    return groups === null ? null : ipv6Text(groups);
  }
  const ascii = toAscii(text);
  if (ascii === null) return null;
  const name = ascii.endsWith(".") ? ascii.slice(0, -1) : ascii;
  if (endsInNumber(name)) {
    const address = parseOddIpv4(name);
    return address === null ? null : ipv4Text(address);
  }
  return isName(name) ? name : null;
}

/** UTS-46, non-transitional; what is ASCII without punycode only needs its case folded. */
function toAscii(text: string): string | null {
  const lower = text.toLowerCase();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the range is ASCII itself
  const plain = /^[\x00-\x7f]*$/.test(text) && !lower.includes("xn--");
  return plain ? lower : toASCII(text, { checkBidi: true, checkJoiners: true });
}

/** Letters, digits, hyphen and underscore in labels of at most 63; 253 in all (RFC 1035 section 2.3.4). */
function isName(name: string): boolean {
  return name.length <= 253 && /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/.test(name);
}

/**
 * A host and a port: `host:port`, `[ipv6]:port`, or without a port where `defaultPort` says what that means.
 * Null: no authority (userinfo, brackets around a name, IPv6 without brackets, a port that is not plain 1 to 65535).
 */
export function parseAuthority(text: string, defaultPort: number | null): Authority | null {
  const bracketed = text.charCodeAt(0) === 91;
  const close = bracketed ? text.indexOf("]") : -1;
  if (bracketed && close < 0) return null;
  const hostEnd = bracketed ? close + 1 : text.indexOf(":");
  const hasPort = hostEnd >= 0 && hostEnd < text.length;
  if (hasPort && text.charCodeAt(hostEnd) !== 58) return null;
  const port = hasPort ? parsePort(text.slice(hostEnd + 1)) : defaultPort;
  if (port === null) return null;
  const raw = bracketed ? text.slice(1, close) : hasPort ? text.slice(0, hostEnd) : text;
  if (raw.includes(":") !== bracketed) return null;
  const host = canonicalHost(raw);
  return host === null ? null : { host, port };
}

/** 1 to 65535, in digits without a leading zero. */
function parsePort(text: string): number | null {
  const { length } = text;
  if (length === 0 || length > 5 || text.charCodeAt(0) === 48) return null;
  let port = 0;
  for (let i = 0; i < length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return null;
    port = port * 10 + digit;
  }
  return port <= 65535 ? port : null;
}

/** The authority-form of CONNECT (RFC 9112 section 3.2.3): the port is required. */
export const parseConnectTarget = (text: string): Authority | null => parseAuthority(text, null);

export interface AbsoluteTarget extends Destination {
  /** Host and port as sent. */
  readonly authority: string;
  /** Path and query as sent; never empty. */
  readonly path: string;
}

/**
 * The absolute-form (RFC 9112 section 3.2.2) of http and https. An empty path becomes "/" (OPTIONS without a path means
 * "*", which is the caller's to see). Null: another scheme, userinfo, a fragment, a backslash, white space or controls.
 */
export function parseAbsoluteTarget(text: string): AbsoluteTarget | null {
  const scheme = schemeOf(text);
  if (scheme === null) return null;
  const start = scheme.length + 3;
  let end = -1;
  for (let i = start; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (isForbidden(c)) return null;
    if (end < 0 && (c === 47 || c === 63)) end = i;
  }
  if (end < 0) end = text.length;
  const sent = text.slice(start, end);
  const authority = parseAuthority(sent, DEFAULT_PORT[scheme]);
  if (authority === null) return null;
  const rest = text.slice(end);
  const path = rest.charCodeAt(0) === 47 ? rest : `/${rest}`;
  return { scheme, host: authority.host, port: authority.port, authority: sent, path };
}

function schemeOf(text: string): Scheme | null {
  if (text.startsWith("http://")) return "http";
  if (text.startsWith("https://")) return "https";
  const match = /^(https?):\/\//i.exec(text);
  return match === null ? null : ((match[1] as string).toLowerCase() as Scheme);
}

/** `#`, `\`, space or a control character: no URI has them, and other readers treat them in ways of their own. */
const isForbidden = (c: number): boolean => c <= 32 || c === 35 || c === 92 || c === 127;

/** `host:port` with brackets around IPv6. With a scheme, its default port is left out. */
export function authorityText(authority: Authority, scheme?: Scheme): string {
  const host = authority.host.includes(":") ? `[${authority.host}]` : authority.host;
  return scheme !== undefined && DEFAULT_PORT[scheme] === authority.port ? host : `${host}:${authority.port}`;
}

/** `scheme://host`, with the port where it is not the scheme's own. */
export const originText = (destination: Destination): string =>
  `${destination.scheme}://${authorityText(destination, destination.scheme)}`;
