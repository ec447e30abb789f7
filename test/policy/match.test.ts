import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compilePath, coversHost, matchesHost } from "../../src/policy/match.ts";
import { parsePattern } from "../../src/policy/patterns.ts";
import { cpuTime } from "../support/cpu.ts";

const PATHS: [pattern: string, path: string, matches: boolean][] = [
  ["/a", "/a", true],
  ["/a", "/a/", false],
  ["/a", "/A", false],
  ["/a/*", "/a/b", true],
  ["/a/*", "/a/.b", true],
  ["/a/*", "/a/", false],
  ["/a/*", "/a/b/c", false],
  ["/a/**", "/a", true],
  ["/a/**", "/a/", true],
  ["/a/**", "/a/b/c", true],
  ["/a/**", "/ab", false],
  ["/**", "/", true],
  ["/**", "/x/y", true],
  ["/**/x", "/x", true],
  ["/**/x", "/a/b/x", true],
  ["/**/x", "/a/bx", false],
  ["/a/**/b/**/c", "/a/1/b/2/b/3/c", true],
  ["/a/**/b/**/c", "/a/1/c", false],
  ["/repos/*/*/issues", "/repos/a/b/issues", true],
  ["/repos/*/*/issues", "/repos/a/b/issues/1", false],
  ["/v*/x", "/v1/x", true],
  ["/v*/x", "/v/x", true],
  ["/*.json", "/.json", true],
  ["/*.json", "/ajson", false],
  ["/*a*", "/bab", true],
  ["/!a*", "/!ab", true],
  ["/!a*", "/b", false],
  ["/+(a)*", "/+(a)b", true],
  ["/+(a)*", "/aab", false],
  ["/$a*", "/$ab", true],
];

const HOSTS: [pattern: string, host: string, matches: boolean][] = [
  ["*.x.com", "x.com", false],
  ["*.x.com", "a.x.com", true],
  ["*.x.com", "a.b.x.com", true],
  ["*.x.com", "evilx.com", false],
  ["*.x.com", "x.com.evil.com", false],
  ["x.com", "x.com", true],
  ["x.com", "a.x.com", false],
  ["*", "10.0.0.1", true],
];

/** The plain meaning: `*` any run of characters in a segment, `**` any number of segments. */
function naive(pattern: string[], path: string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return path.length === 0;
  if (first === "**") return naive(rest, path) || (path.length > 0 && naive(pattern, path.slice(1)));
  if (path.length === 0) return false;
  return wild(first, path[0] as string) && naive(rest, path.slice(1));
}
function wild(pattern: string, text: string): boolean {
  if (pattern === "*") return text !== "";
  const parts = pattern.split("*");
  return new RegExp(`^${parts.map((p) => p.replace(/[^\w]/g, "\\$&")).join(".*")}$`).test(text);
}

describe("compilePath", () => {
  it.each(PATHS)("%s and %s: %s", (pattern, path, matches) => {
    expect(compilePath(pattern)(path)).toBe(matches);
  });

  it("means what the plain meaning says, whatever the characters", () => {
    const segment = fc.stringMatching(/^[ab!.+(){}$@]{0,3}$/);
    // A canonical path has no dot segments.
    const inPath = segment.filter((text) => text !== "." && text !== "..");
    const glob = fc.oneof(
      fc.constant("*"),
      fc.constant("**"),
      segment,
      fc.tuple(segment, segment).map((s) => s.join("*")),
    );
    fc.assert(
      fc.property(
        fc.array(glob, { minLength: 1, maxLength: 5 }),
        fc.array(inPath, { minLength: 1, maxLength: 6 }),
        (g, p) => {
          fc.pre(g.every((s) => s === "**" || !s.includes("**")));
          expect(compilePath(`/${g.join("/")}`)(`/${p.join("/")}`)).toBe(naive(g, p));
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("does not slow down on paths that are made for it", () => {
    const match = compilePath("/**/a*/**/b*/**/c*/x");
    const spent = cpuTime(() => {
      expect(match(`/${"a/b/c/".repeat(2700)}`)).toBe(false);
      expect(match(`/${"a".repeat(16_000)}`)).toBe(false);
    });
    expect(spent).toBeLessThan(600);
  });
});

describe("hosts", () => {
  it.each(HOSTS)("%s and %s: %s", (pattern, host, matches) => {
    expect(matchesHost(parsePattern(pattern).host, host)).toBe(matches);
  });
  it("knows what covers what", () => {
    const covers = (a: string, b: string) => coversHost(parsePattern(a).host, parsePattern(b).host);
    expect(covers("*.x.com", "*.a.x.com")).toBe(true);
    expect(covers("*.x.com", "x.com")).toBe(false);
    expect(covers("*.a.x.com", "*.x.com")).toBe(false);
    expect(covers("*", "*.x.com")).toBe(true);
  });
});
