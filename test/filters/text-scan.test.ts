import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteWindow } from "../../src/filters/byte-window.ts";
import type { TextMatcher, TextRule } from "../../src/filters/content-plan.ts";
import { patternMatcher } from "../../src/filters/pattern.ts";
import { textMatcher } from "../../src/filters/text.ts";
import { TextScan } from "../../src/filters/text-scan.ts";

const rule = (matcher: TextMatcher): TextRule => ({
  action: "redact",
  title: "",
  label: "",
  status: null,
  message: null,
  replacement: "",
  secret: false,
  matcher,
});

/** All matches, with the text given in pieces and forgotten as early as may be. */
function matches(rules: TextRule[], pieces: Buffer[]): string[] {
  const window = new ByteWindow();
  const scan = new TextScan(rules, window);
  const found: [number, number, number][] = [];
  const on = (r: TextRule, start: number, end: number) => {
    found.push([start, rules.indexOf(r), end]);
    return false;
  };
  for (const piece of pieces) {
    window.append(piece);
    scan.search(window.end, "more", on);
    window.dropTo(scan.needed);
  }
  scan.search(window.end, "end", on);
  return found.map(([s, r, e]) => `${s}-${e} by ${r}`).sort();
}

const MATCHERS = [
  textMatcher("ab", false),
  textMatcher("aba", false),
  textMatcher("AB", true),
  textMatcher("é", false),
  patternMatcher("\\bab?\\b", false),
  patternMatcher("a{1,4}", false),
  patternMatcher("b.a", false),
  patternMatcher("[^a-z]{2}", false),
  patternMatcher("^a|b$", false),
  patternMatcher("(?m)^b{1,3}$", false),
  patternMatcher("(?:ab|aba|abab)b?", false),
];

describe("however the text is cut", () => {
  it("the same matches are found", () => {
    const bytes = fc
      .array(fc.constantFrom("a", "b", "é", "€", "😀", " ", "\n", "\xff", "\x80", "\xe2"), { maxLength: 60 })
      .map((parts) =>
        Buffer.concat(parts.map((p) => Buffer.from(p, /[\x80-\xff]/.test(p) && p !== "é" ? "latin1" : "utf8"))),
      );
    fc.assert(
      fc.property(
        bytes,
        fc.array(fc.nat(60), { maxLength: 10 }),
        fc.constantFrom(...MATCHERS),
        (text, places, matcher) => {
          const sorted = [...new Set(places.map((p) => Math.min(p, text.length)))].sort((a, b) => a - b);
          const pieces = [0, ...sorted].map((p, i) => text.subarray(p, sorted[i] ?? text.length));
          const rules = [rule(matcher)];
          const whole = matches(rules, [text]);
          expect(matches(rules, pieces)).toEqual(whole);
          expect(
            matches(
              rules,
              [...text].map((b) => Buffer.of(b)),
            ),
          ).toEqual(whole);
        },
      ),
      { numRuns: 1500 },
    );
  });

  it("several rules do not disturb each other", () => {
    const rules = MATCHERS.map(rule);
    const text = Buffer.from("ab aba abab é\nb\nbbb a");
    expect(
      matches(
        rules,
        [...text].map((b) => Buffer.of(b)),
      ),
    ).toEqual(matches(rules, [text]));
  });
});
