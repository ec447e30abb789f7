// The places that an operator may send requests to: another origin (`to`), a next proxy (`via`), a redirect.
import { parseAbsoluteTarget } from "../http/target.ts";
import type { RedirectDocument, RerouteDocument, ViaDocument } from "./document.ts";
import type { DocumentPath, Findings } from "./problems.ts";
import type { NextProxy, RedirectPlan, Reroute } from "./types.ts";

const NOWHERE = { scheme: "https", host: "invalid", port: 443 } as const;

/** Another origin. */
export function readReroute(document: RerouteDocument, at: DocumentPath, findings: Findings): Reroute {
  const hostField = document.host ?? "set";
  if (!document.url.includes("://")) {
    findings.problem(at, "a pool of origins is not supported in this version: give one origin, as https://host");
    return Object.freeze({ ...NOWHERE, hostField });
  }
  const target = parseAbsoluteTarget(document.url);
  if (target === null || target.path !== "/") {
    findings.problem(at, "another origin is written scheme://host[:port], http or https, without path or user");
    return Object.freeze({ ...NOWHERE, hostField });
  }
  return Object.freeze({ scheme: target.scheme, host: target.host, port: target.port, hostField });
}

/** The next proxy, with the value of Proxy-Authorization made ready (RFC 7617). */
export function readVia(document: ViaDocument, at: DocumentPath, findings: Findings): NextProxy {
  const resolve = document.resolve ?? "both";
  const nowhere = Object.freeze({ ...NOWHERE, authorization: null, resolve });
  if (/^socks/i.test(document.url)) {
    findings.problem(at, "a SOCKS proxy is not supported in this version: give an http:// or https:// one");
    return nowhere;
  }
  const { url, user } = splitUser(document.url);
  const target = user === "broken" ? null : parseAbsoluteTarget(url);
  if (target === null || target.path !== "/") {
    findings.problem(at, "a next proxy is written http://host:port or https://host:port, without a path");
    return nowhere;
  }
  const own = document.username === undefined ? null : { name: document.username, password: document.password ?? "" };
  if (user !== null && own !== null) findings.problem(at, "the user stands in the URL and beside it: leave one out");
  if (own === null && document.password !== undefined) findings.problem(at, "a password wants a username");
  const authorization = basic(own ?? (user === "broken" ? null : user), at, findings);
  return Object.freeze({ scheme: target.scheme, host: target.host, port: target.port, authorization, resolve });
}

interface User {
  readonly name: string;
  readonly password: string;
}

/** Takes `user:password@` out of a URL; each is percent-decoded exactly once. */
function splitUser(url: string): { url: string; user: User | null | "broken" } {
  const match = /^([a-z]+:\/\/)([^/@]*)@([^@]*)$/i.exec(url);
  if (match === null) return { url, user: null };
  const [, scheme = "", info = "", rest = ""] = match;
  const colon = info.indexOf(":");
  try {
    const name = decodeURIComponent(colon < 0 ? info : info.slice(0, colon));
    const password = colon < 0 ? "" : decodeURIComponent(info.slice(colon + 1));
    return { url: scheme + rest, user: { name, password } };
  } catch {
    return { url: scheme + rest, user: "broken" };
  }
}

function basic(user: User | null, at: DocumentPath, findings: Findings): string | null {
  if (user === null) return null;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 7617 section 2 forbids control characters
  if (user.name.includes(":") || /[\x00-\x1f\x7f]/.test(user.name + user.password)) {
    findings.problem(at, "a username has no colon, and neither it nor the password a control character (RFC 7617)");
  }
  return `Basic ${Buffer.from(`${user.name}:${user.password}`, "utf8").toString("base64")}`;
}

/** Where the client is told to go. */
export function readRedirect(document: RedirectDocument, at: DocumentPath, findings: Findings): RedirectPlan {
  const target = parseAbsoluteTarget(document.to);
  if (target === null || document.to.includes("?") || !/^[\x21-\x7e]+$/.test(document.to)) {
    findings.problem([...at, "to"], "a redirect goes to scheme://host[:port][/prefix], http or https, without a query");
  }
  // The request's own path, which begins with a slash, is appended.
  return Object.freeze({ status: document.status ?? 308, to: document.to.replace(/\/+$/, "") });
}
