import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalPath } from "../../src/http/path.ts";
import { cpuTime } from "../support/cpu.ts";

describe("the canonical form of a path", () => {
  test.each([
    ["/", "/"],
    ["/a/b.json", "/a/b.json"],
    ["/a/", "/a/"],
    ["/a?x=/../y", "/a"],
    ["/?q", "/"],
    ["*", "*"],
    ["/%61dmin", "/admin"],
    ["/%7Euser/%2Dx%5F", "/~user/-x_"],
    ["/a%3Ab%40c%2Cd", "/a:b@c,d"],
    ["/caf%c3%a9", "/caf%C3%A9"],
    ["/café", "/caf%C3%A9"],
    ["/a b|c", "/a%20b%7Cc"],
    ["/a%20b%7cc", "/a%20b%7Cc"],
    ["/a/../b", "/b"],
    ["/a/./b", "/a/b"],
    ["/a/..", "/"],
    ["/a/b/..", "/a/"],
    ["/a/.", "/a/"],
    ["/../../a", "/a"],
    ["/..a/...", "/..a/..."],
    ["/.well-known/x", "/.well-known/x"],
    ["/file%2etxt", "/file.txt"],
    ["/a;v=1/b", "/a;v=1/b"],
    ["/a%3bv=1", "/a;v=1"],
    ["/100%25", "/100%25"],
    ["/a%2520b", "/a%2520b"],
    ["/Admin", "/Admin"],
  ])("%s is %s", (raw, path) => {
    expect(canonicalPath(raw)).toEqual({ path, merged: null, dangerous: null });
  });

  test("a path is read the same whether it needs care or not", () => {
    const piece = fc.constantFrom(
      "/",
      "/",
      ".",
      "..",
      "a",
      "Z9",
      "-_~",
      "!$&'()*+,=:@",
      ";",
      "b.c",
      "é",
      "|",
      "%2f",
      "?",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const path = `/${pieces.join("")}`;
        // Spelled like this it is never taken as it stands.
        const careful = canonicalPath(`/%78${path}`);
        expect(canonicalPath(`/x${path}`)).toEqual(careful);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["//a", "//a", "/a"],
    ["/a//b", "/a//b", "/a/b"],
    ["/a///b//", "/a///b//", "/a/b/"],
    ["/web/https://example.com/", "/web/https://example.com/", "/web/https:/example.com/"],
  ])("%s keeps its empty segments, and says how it reads without", (raw, path, merged) => {
    expect(canonicalPath(raw)).toEqual({ path, merged, dangerous: null });
  });

  test.each([
    ["/a%2fb", "an encoded slash"],
    ["/a%2Fb?x", "an encoded slash"],
    ["/a%5cb", "a backslash"],
    ["/a\\b", "a backslash"],
    ["/a%00b", "a control character"],
    ["/a%0ab", "a control character"],
    ["/a\u0001b", "a control character"],
    ["/a\u007f", "a control character"],
    ["/%7f", "a control character"],
    ["/a#b", "a fragment mark"],
    ["/a%23b", "a fragment mark"],
    ["/a%3fb", "an encoded question mark"],
    ["/%2e%2e/b", "an encoded dot segment"],
    ["/a/%2E./b", "an encoded dot segment"],
    ["/a/.%2e", "an encoded dot segment"],
    ["/a/%2e", "an encoded dot segment"],
    ["/a/%2e%2e;x/b", "an encoded dot segment"],
    ["/a/..;/b", "a dot segment with a parameter"],
    ["/a/.;x=1/b", "a dot segment with a parameter"],
    ["/a/..%3b/b", "a dot segment with a parameter"],
    ["/%252e%252e/b", "a double encoding"],
    ["/a%252fb", "a double encoding"],
    ["/a%25252fb", "a double encoding"],
    ["/a%255cb", "a double encoding"],
    ["/%2561dmin", "a double encoding"],
    ["/a%2500", "a double encoding"],
    ["/a%", "an incomplete percent-encoding"],
    ["/a%4", "an incomplete percent-encoding"],
    ["/a%zz", "an incomplete percent-encoding"],
    ["/a%u002e", "an incomplete percent-encoding"],
    ["/%c0%ae%c0%ae/b", "an overlong encoding"],
    ["/%e0%80%af", "an overlong encoding"],
    ["/a//../b", "a dot segment after an empty segment"],
    ["//..", "a dot segment after an empty segment"],
    ["a", "no slash at the beginning"],
    ["", "no slash at the beginning"],
    ["?q", "no slash at the beginning"],
  ])("%s is dangerous: %s", (raw, why) => {
    expect(canonicalPath(raw).dangerous).toBe(why);
  });

  test("a danger in the query is none of the path", () => {
    expect(canonicalPath("/a?x=%2f%00..%5c#").dangerous).toBeNull();
  });

  test("the canonical form is canonical, whatever comes in", () => {
    const piece = fc.constantFrom(
      "/",
      "//",
      ".",
      "..",
      "a",
      "B",
      "%2e",
      "%61",
      "%c3%a9",
      "%25",
      "%",
      ";",
      " ",
      "é",
      "\ud800",
      "?",
      "%2F",
      "|",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const { path, merged } = canonicalPath(`/${pieces.join("")}`);
        expect(path.startsWith("/")).toBe(true);
        expect(canonicalPath(path).path).toBe(path);
        if (merged !== null) expect(merged).not.toContain("//");
      }),
      { numRuns: 2000 },
    );
  });

  test("a spelling does not matter: any pchar encoded in any place gives the same path", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-zA-Z0-9_~!$&'()*+,=:@-]{1,12}$/), fc.integer({ min: 0 }), (text, at) => {
        const i = at % text.length;
        const hex = text.charCodeAt(i).toString(16).padStart(2, "0");
        const other = `/${text.slice(0, i)}%${hex}${text.slice(i + 1)}`;
        expect(canonicalPath(other)).toEqual(canonicalPath(`/${text}`));
      }),
    );
  });

  test("a long path of one kind of character costs no more than its length", () => {
    for (const unit of ["/", "/..", "%2e", ".", "%25", "/a", "//.", ";", "é"]) {
      const path = `/${unit.repeat(16_000)}`;
      expect(cpuTime(() => canonicalPath(path))).toBeLessThan(300);
    }
  });
});
