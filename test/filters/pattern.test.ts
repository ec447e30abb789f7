import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { characterStart, patternMatcher } from "../../src/filters/pattern.ts";
import { cpuTime } from "../support/cpu.ts";

describe("the longest match in bytes", () => {
  const cases: [string, boolean, number][] = [
    ["\\b\\d{3}-\\d{2}-\\d{4}\\b", false, 11],
    ["abc", false, 3],
    ["a|bcd", false, 3],
    ["é", false, 2],
    [".{3}", false, 12],
    ["[a-z]{2,5}x?", false, 6],
    ["(ab|cde){0,3}z", false, 10],
    ["k{3}", true, 9],
    ["ab", true, 2],
    ["x(?:ab){2,1000}", false, 2001],
    ["\\pL", false, 4],
    ["a+", false, Number.POSITIVE_INFINITY],
    ["a*b", false, Number.POSITIVE_INFINITY],
    ["(a?)*b", false, Number.POSITIVE_INFINITY],
    ["ab{3,}", false, Number.POSITIVE_INFINITY],
    ["x(?:yz*){2}", false, Number.POSITIVE_INFINITY],
  ];
  it.each(cases)("%s (ignore case: %s): %d", (source, ignoreCase, longest) => {
    expect(patternMatcher(source, ignoreCase).longest).toBe(longest);
  });

  it("is never less than what really matches", () => {
    const piece = fc.constantFrom("a", "[k-s]", "é", ".", "\\d", "(?:ab|c)", "\\pL", "S");
    const count = fc.constantFrom("", "?", "{0,3}", "{2}", "{1,4}");
    const source = fc
      .array(fc.tuple(piece, count), { minLength: 1, maxLength: 6 })
      .map((p) => p.map((q) => q.join("")).join(""));
    const text = fc.string({
      unit: fc.constantFrom("a", "b", "c", "k", "é", "K", "ſ", "1", "𝒳", "S", "s"),
      maxLength: 40,
    });
    fc.assert(
      fc.property(source, fc.boolean(), text, (s, ignoreCase, t) => {
        const matcher = patternMatcher(`q?${s}z?a?c`, ignoreCase);
        const bytes = Buffer.from(`${t}c`);
        const match = matcher.find(bytes, 0, bytes.length);
        if (match !== null) expect(match.end - match.start).toBeLessThanOrEqual(matcher.longest);
      }),
      { numRuns: 200 },
    );
  });
});

describe("what is refused", () => {
  const cases: [string, RegExp][] = [
    ["", /empty text/],
    ["a?", /empty text/],
    ["^|b", /empty text/],
    ["(?=a)b", /neither look-around nor back-references/],
    ["(a)\\1", /neither look-around nor back-references/],
    ["a{1001}", /repeat/],
    ["(", /missing/],
  ];
  it.each(cases)("%j", (source, why) => {
    expect(() => patternMatcher(source, false)).toThrow(why);
  });
});

it("takes linear time where a backtracking engine would not", () => {
  const matcher = patternMatcher("(?:a{1,30}){1,30}b", false);
  const text = Buffer.alloc(20000, "a");
  expect(cpuTime(() => expect(matcher.find(text, 0, text.length)).toBe(null))).toBeLessThan(5000);
});

describe("context", () => {
  it.each([
    ["\\bb", "ab b", 1, 3],
    ["^b", "ab", 1, null],
    ["(?m)^b", "a\nb", 1, 2],
    ["\\Bb", "éab b", 1, 3],
  ] as const)("%s in %j from %d", (source, text, from, start) => {
    const bytes = Buffer.from(text);
    expect(patternMatcher(source, false).find(bytes, from, bytes.length)?.start ?? null).toBe(start);
  });
});

it("knows where characters begin, also in bytes that are none", () => {
  const bytes = Buffer.from([0x61, 0xe2, 0x82, 0xac, 0x80, 0x80, 0x80, 0x80, 0x62]);
  expect([...bytes.keys()].map((i) => characterStart(bytes, i))).toEqual([0, 1, 1, 1, 1, 5, 6, 7, 8]);
});

describe("the time for one match is bounded whatever the text is", () => {
  it.each([
    ["(?:a{1,10}){1,10}b", "a", "Xab"],
    ["(?:a|b|ab){1,100}c", "ab", "Xac"],
    ["[ab]{1,400}c", "ab", "Xac"],
    ["\\b\\d{3}-\\d{2}-\\d{4}\\b", "123-45-678 ", " 123-45-6789"],
  ])("%s", (source, filler, end) => {
    const matcher = patternMatcher(source, false);
    const text = Buffer.concat([Buffer.from("b c "), Buffer.alloc(65536, filler), Buffer.from(end)]);
    const first = matcher.find(text, 0, text.length);
    expect(cpuTime(() => expect(matcher.find(text, 0, text.length)).toEqual(first))).toBeLessThan(600);
    expect(first).not.toBe(null);
  });

  it("and finding by strides finds what finding at once does", () => {
    const matcher = patternMatcher("\\b(?:ab|ba{1,3})c?\\b", false);
    const words = fc.array(fc.constantFrom("ab", "ba", "baac", "abc", "é", "x", "abab", " ", "\n"), { maxLength: 400 });
    fc.assert(
      fc.property(words, fc.nat(500), (parts, pad) => {
        const text = `${"x ".repeat(pad)}${parts.join("")}`;
        const bytes = Buffer.from(text);
        const expected = /\b(?:ab|ba{1,3})c?\b/.exec(text);
        const match = matcher.find(bytes, 0, bytes.length);
        const start = expected === null ? undefined : Buffer.byteLength(text.slice(0, expected.index));
        expect(match?.start).toBe(start);
        expect(match === null ? "" : bytes.toString("utf8", match.start, match.end)).toBe(expected?.[0] ?? "");
      }),
      { numRuns: 300 },
    );
  });
});
