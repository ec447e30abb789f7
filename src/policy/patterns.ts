// The pattern of a rule: `[METHOD[,METHOD]] [scheme://]host[:port][/path]`, read once when the policy is loaded.
import type { Scheme } from "../http/messages.ts";
import { canonicalPath } from "../http/path.ts";
import { canonicalHost, parseAuthority } from "../http/target.ts";
import { parseNetworkEntry } from "./addresses.ts";

/** Which hosts: one, everything below a name, or all. */
export type HostPattern =
  | { readonly kind: "exact"; readonly host: string }
  | { readonly kind: "suffix"; readonly suffix: string }
  | { readonly kind: "any" };

export interface Pattern {
  /** As the operator wrote it. */
  readonly text: string;
  /** null: every method. Case matters. */
  readonly methods: readonly string[] | null;
  /** null: https and http. */
  readonly scheme: Scheme | null;
  readonly host: HostPattern;
  /** null: the scheme's own. */
  readonly port: number | null;
  /** null: all paths. Segments of the canonical path, with `*` and `**`. */
  readonly path: string | null;
}

/** What is wrong with a pattern, in a sentence. */
export class PatternError extends Error {
  override readonly name = "PatternError";
}

const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Reads a pattern. Throws PatternError. */
export function parsePattern(text: string): Pattern {
  const words = text.trim().split(/\s+/);
  if (words.length > 2 || words[0] === "") {
    throw new PatternError(`a pattern is [METHOD[,METHOD]] [scheme://]host[:port][/path], not ${quote(text)}`);
  }
  const target = words[words.length - 1] as string;
  const methods = words.length === 2 ? parseMethods(words[0] as string) : null;
  return { text, methods, ...parseTarget(target) };
}

function parseMethods(text: string): string[] {
  const methods = text.split(",");
  for (const method of methods) {
    if (method === "*") throw new PatternError("every method is meant when none is written: leave the * out");
    if (!METHOD.test(method)) throw new PatternError(`${quote(method)} is not a method`);
    if (method === "CONNECT") throw new PatternError("CONNECT is decided by host and port: write no method");
    if (/[a-z]/.test(method)) {
      throw new PatternError(`methods are case-sensitive: did you mean ${method.toUpperCase()}?`);
    }
  }
  return [...new Set(methods)];
}

function parseTarget(text: string): Omit<Pattern, "text" | "methods"> {
  const { scheme, rest } = parseScheme(text);
  const slash = rest.indexOf("/");
  const authority = slash < 0 ? rest : rest.slice(0, slash);
  if (slash >= 0 && "range" in parseNetworkEntry(rest.replace(/[[\]]/g, ""))) {
    throw new PatternError(
      `${quote(rest)} would be the path ${rest.slice(slash)} of one address: ranges are opened by network.allow, and rules name hosts`,
    );
  }
  const path = slash < 0 ? null : parsePath(rest.slice(slash));
  return { scheme, ...parseHostPort(authority), path };
}

function parseScheme(text: string): { scheme: Scheme | null; rest: string } {
  const at = text.indexOf("://");
  if (at < 0) return { scheme: null, rest: text };
  const scheme = text.slice(0, at).toLowerCase();
  if (scheme === "https" || scheme === "http") return { scheme, rest: text.slice(at + 3) };
  const meant = scheme === "wss" ? "https" : scheme === "ws" ? "http" : null;
  if (meant !== null) throw new PatternError(`an upgraded connection begins as a request: write ${meant}://`);
  throw new PatternError(`the scheme is http or https, or none for both, not ${quote(scheme)}`);
}

function parseHostPort(text: string): { host: HostPattern; port: number | null } {
  const port = /:([^:\]]*)$/.exec(text);
  if (port?.[1] === "*") throw new PatternError("a port is a number; without one the scheme's own is meant, never any");
  if (text.startsWith("*")) {
    const bare = port === null ? text : text.slice(0, port.index);
    // The port is checked with a name that is known to be good.
    const checked = parseAuthority(`x${port?.[0] ?? ""}`, 0);
    if (checked === null) throw new PatternError(`${quote(port?.[1] ?? "")} is not a port`);
    return { host: wildcardHost(bare), port: checked.port === 0 ? null : checked.port };
  }
  if (text.includes("*")) throw new PatternError("in a host, * stands only at the beginning, as in *.example.com");
  const authority = parseAuthority(text, 0);
  if (authority === null) throw new PatternError(`${quote(text)} is not a host${port === null ? "" : " and port"}`);
  return { host: { kind: "exact", host: authority.host }, port: authority.port === 0 ? null : authority.port };
}

function wildcardHost(text: string): HostPattern {
  if (text === "*") return { kind: "any" };
  if (!text.startsWith("*.")) throw new PatternError(`write *.${text.slice(1)} for everything below a name`);
  const suffix = canonicalHost(text.slice(2));
  if (suffix === null) throw new PatternError(`${quote(text.slice(2))} is not a host`);
  if (/^[\d.]+$/.test(suffix) || suffix.includes(":")) {
    throw new PatternError("addresses have no names below them: use network.allow for ranges");
  }
  return { kind: "suffix", suffix };
}

/** The pattern's path in canonical form, so that it is compared with like. */
function parsePath(text: string): string {
  if (/[?#]/.test(text))
    throw new PatternError("rules speak of the path: a query or fragment cannot be part of a pattern");
  const { path, dangerous } = canonicalPath(text);
  if (dangerous !== null) throw new PatternError(`the path has ${dangerous}, and such requests are always refused`);
  for (const segment of path.split("/")) checkSegment(segment);
  return path;
}

/** A wildcard inside a segment must stay linear to match: one, and perhaps another at the end. */
function checkSegment(segment: string): void {
  if (segment === "**") return;
  if (segment.includes("**")) throw new PatternError("** stands for whole segments: write it between slashes");
  const inner = segment.endsWith("*") ? segment.slice(0, -1) : segment;
  if (inner.split("*").length > 2) {
    throw new PatternError("a segment has at most one * and another at its end: write several patterns");
  }
}

const quote = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);

/** The host of a pattern as text. */
export const hostText = (host: HostPattern): string =>
  host.kind === "any" ? "*" : host.kind === "suffix" ? `*.${host.suffix}` : host.host;
