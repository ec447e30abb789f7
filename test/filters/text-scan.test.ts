import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteWindow } from "../../src/filters/byte-window.ts";
import type { TextMatcher, TextRule } from "../../src/filters/content-plan.ts";
import { patternMatcher } from "../../src/filters/pattern.ts";
import { secretMatchers } from "../../src/filters/secrets.ts";
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

const SECRET = "p@ss/w+rd é= key";
const TOKEN = `dop_v1_${"0123456789abcdef".repeat(4)}`;
const SENDGRID = `SG.${"aB3-".repeat(5)}xy.${"Zz9_".repeat(10)}abc`;
const BOT = `123456789:AA${"aB3x-Zq9".repeat(4)}x`;
const KEY = `-----BEGIN RSA PRIVATE KEY-----\n${"MIIB".repeat(10)}`;
const SECRETS = secretMatchers([{ value: SECRET }, { value: "p@ss/w+rd é= key, and more" }], 4096);
const ESCAPES: ((text: string) => string)[] = [
  (text) => text,
  (text) => encodeURIComponent(text),
  (text) => encodeURIComponent(encodeURIComponent(text)),
  (text) => [...text].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
  (text) => [...text].map((c) => (c < "\x80" ? `%5cu00${c.charCodeAt(0).toString(16).padStart(2, "0")}` : c)).join(""),
  (text) => [...text].map((c) => `&amp;#${c.charCodeAt(0)};`).join(""),
  (text) => text.replace(/.{5}/g, "$&\r\n   "),
  (text) => text.replace(/.{7}/g, "$&=\n"),
  (text) => Buffer.from(text).toString("base64").replace(/.{9}/g, "$&\n"),
  (text) => JSON.stringify(text),
];
const KINDS = ["known-secret", "token", "private-key"] as const;
const TOKENS = [SECRET, TOKEN, SENDGRID, BOT, KEY];

/** Where something of the kind is found. What stands there as it is may be found twice, where there are escapes near. */
function secretsIn(kind: string, pieces: Buffer[]): string[] {
  const rules = SECRETS.filter((m) => m.kind === kind).map(({ matcher }) => rule(matcher));
  return [...new Set(matches(rules, pieces).map((match) => match.replace(/ by.*/, "")))];
}
const bytesOf = (text: Buffer): Buffer[] => [...text].map((byte) => Buffer.of(byte));

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

  it("a token is found by what stands before it, also where that is not read again", () => {
    const html = (text: string): string => [...text].map((c) => `&amp;#${c.charCodeAt(0)};`).join("");
    const behind = [...SECRET].map((c) => `%5cu00${c.charCodeAt(0).toString(16).padStart(2, "0")}`).join("");
    const bytes = Buffer.from(`${html(KEY)}${html(BOT)}${behind}`);
    expect(secretsIn("token", [bytes])).toHaveLength(1);
    expect(secretsIn("token", [bytes])).toEqual(secretsIn("token", bytesOf(bytes)));
  });

  it("the same secrets, tokens and keys are found, in escapes and however they are wrapped", () => {
    const part = fc.oneof(
      fc.tuple(fc.constantFrom(...TOKENS), fc.constantFrom(...ESCAPES)).map(([t, write]) => write(t)),
      fc
        .tuple(fc.constantFrom(...TOKENS), fc.constantFrom(...ESCAPES), fc.nat(60))
        .map(([t, write, cut]) => write(t).slice(0, cut)),
      fc.constantFrom(
        "%",
        "%4",
        "%25",
        "\\",
        "\\\\",
        "\\u00",
        "=",
        "&",
        "&amp",
        "\n",
        "  ",
        "x",
        "k",
        "-",
        "SG",
        ":A",
        "12345",
      ),
    );
    const text = fc.array(part, { maxLength: 6 }).map((parts) => Buffer.from(parts.join("")));
    fc.assert(
      fc.property(text, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }), (bytes, places) => {
        const sorted = places.map((p) => Math.round(p * bytes.length)).sort((a, b) => a - b);
        const pieces = [0, ...sorted].map((p, i) => bytes.subarray(p, sorted[i] ?? bytes.length));
        for (const kind of KINDS) {
          const shown = [kind, bytes.toString(), pieces.map(String)];
          expect([...shown, secretsIn(kind, pieces)]).toEqual([...shown, secretsIn(kind, [bytes])]);
          expect([...shown, secretsIn(kind, bytesOf(bytes))]).toEqual([...shown, secretsIn(kind, [bytes])]);
        }
      }),
      { numRuns: 400 },
    );
  });

  it("the same, with each byte by itself and behind much else", () => {
    const before = Buffer.from(`${'{"a": 1, "b": [2, 3]}\\n'.repeat(20)}%20`);
    for (const token of TOKENS)
      for (const write of ESCAPES) {
        const text = Buffer.concat([before, Buffer.from(write(token)), Buffer.from(" ".repeat(60))]);
        const found = KINDS.map((kind) => secretsIn(kind, [text]));
        const shown = text.toString("utf8", before.length);
        // Tokens in base64 are not looked for.
        if (write(token).includes(token) || /[%\\&]/.test(shown))
          expect([shown, found.flat().length > 0]).toEqual([shown, true]);
        expect([shown, KINDS.map((kind) => secretsIn(kind, bytesOf(text)))]).toEqual([shown, found]);
      }
  });

  it("the same behind a line break and a thousand blanks", () => {
    for (const at of [1, 8, SECRET.length - 1])
      for (const before of ["", "x".repeat(2_000)]) {
        const text = Buffer.from(`${before}${SECRET.slice(0, at)}\n${" ".repeat(1_000)}${SECRET.slice(at)} and more`);
        const whole = secretsIn("known-secret", [text]);
        expect(whole.length).toBe(1);
        for (const cut of [before.length + at + 1, before.length + 500, text.length - 15]) {
          const pieces = [text.subarray(0, cut), text.subarray(cut)];
          expect([at, cut, secretsIn("known-secret", pieces)]).toEqual([at, cut, whole]);
        }
      }
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
