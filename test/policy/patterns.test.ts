import { describe, expect, it } from "vitest";
import { PatternError, parsePattern } from "../../src/policy/patterns.ts";

const any = { methods: null, scheme: null, port: null, path: null };
const exact = (host: string) => ({ kind: "exact", host });

const GOOD: [string, string, object][] = [
  ["a host alone", "example.com", { ...any, host: exact("example.com") }],
  ["hosts are lower case", "EXAMPLE.com", { ...any, host: exact("example.com") }],
  ["without the trailing dot", "example.com.", { ...any, host: exact("example.com") }],
  ["IDN as punycode", "bücher.de", { ...any, host: exact("xn--bcher-kva.de") }],
  ["sharp s, non-transitional", "faß.de", { ...any, host: exact("xn--fa-hia.de") }],
  ["odd IPv4 spellings", "0x7f000001", { ...any, host: exact("127.0.0.1") }],
  ["IPv6 in brackets", "[2001:DB8::0:1]:8443", { ...any, host: exact("2001:db8::1"), port: 8443 }],
  ["a wildcard", "*.example.com", { ...any, host: { kind: "suffix", suffix: "example.com" } }],
  [
    "a wildcard with a port",
    "https://*.example.com:8443",
    { ...any, scheme: "https", port: 8443, host: { kind: "suffix", suffix: "example.com" } },
  ],
  ["everything", "*", { ...any, host: { kind: "any" } }],
  [
    "methods",
    "GET,HEAD https://a.example",
    { ...any, methods: ["GET", "HEAD"], scheme: "https", host: exact("a.example") },
  ],
  ["a path", "a.example/repos/*/x", { ...any, host: exact("a.example"), path: "/repos/*/x" }],
  [
    "a path with what is not special",
    "a.example/{a,b}/[c]/!d/+(e)",
    { ...any, host: exact("a.example"), path: "/%7Ba,b%7D/%5Bc%5D/!d/+(e)" },
  ],
  ["a path in canonical form", "a.example/%61/../b", { ...any, host: exact("a.example"), path: "/b" }],
  ["the path of an address", "10.0.0.1/8", { ...any, host: exact("10.0.0.1"), path: "/8" }],
  ["a path in Unicode", "a.example/ü", { ...any, host: exact("a.example"), path: "/%C3%BC" }],
];

const BAD: [string, string, RegExp][] = [
  ["nothing", "", /pattern is/],
  ["three words", "GET a b", /pattern is/],
  ["a lower-case method", "get a.example", /case-sensitive: did you mean GET/],
  ["a star for methods", "* a.example", /leave the \* out/],
  ["CONNECT", "CONNECT a.example", /host and port/],
  ["a broken method", "GE(T a.example", /not a method/],
  ["wss", "wss://a.example", /write https:\/\//],
  ["ftp", "ftp://a.example", /http or https/],
  ["a star in the middle", "a.*.example", /only at the beginning/],
  ["a star before letters", "*a.example", /\*\.a\.example/],
  ["any port", "a.example:*", /never any/],
  ["port 0", "a.example:0", /not a host and port/],
  ["port 65536", "*.a.example:65536", /not a port/],
  ["braces in a host", "{a,b}.example", /not a host/],
  ["negation in a host", "!a.example", /not a host/],
  ["user info", "user@a.example", /not a host/],
  ["a zone", "[fe80::1%25eth0]", /not a host/],
  ["IPv6 without brackets", "::1", /not a host/],
  ["names below an address", "*.0.0.1", /addresses have no names/],
  ["a range", "10.0.0.0/8", /path \/8 of one address: ranges are opened by network\.allow/],
  ["a range with a scheme", "https://192.168.0.0/16", /path \/16 of one address/],
  ["a range of IPv6", "2001:db8::/32", /path \/32 of one address/],
  ["a range of IPv6 in brackets", "[2001:db8::]/32", /path \/32 of one address/],
  ["a query", "a.example/x?y", /query or fragment/],
  ["an encoded slash", "a.example/a%2fb", /encoded slash/],
  ["two stars inside a segment", "a.example/a**b", /whole segments/],
  ["a segment that is slow to match", "a.example/*a*b", /at most one \*/],
];

describe("parsePattern", () => {
  it.each(GOOD)("reads %s", (_, text, expected) => {
    expect(parsePattern(text)).toEqual({ text, ...expected });
  });
  it.each(BAD)("refuses %s", (_, text, message) => {
    expect(() => parsePattern(text)).toThrow(PatternError);
    expect(() => parsePattern(text)).toThrow(message);
  });
});
