import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Escape, readEscape } from "../../src/filters/escapes.ts";
import { type Mode, readBytes, readingOf } from "../../src/filters/reading.ts";

/** A text whose escapes are undone once: the same rules, byte by byte, without tables. */
function once(text: Buffer, mode: Mode): Buffer {
  const folded = mode === "folded";
  const found: Escape = { end: 0, code: 0, byte: true };
  const out: Buffer[] = [];
  let afterBreak: boolean = false;
  for (let at = 0; at < text.length; ) {
    const escaped = readEscape(text, at, text.length, folded, found);
    const code = escaped ? found.code : (text[at] as number);
    const byte = !escaped || found.byte;
    at = escaped ? found.end : at + 1;
    if (code < 0) continue;
    const isBreak: boolean = folded && (code === 0x0a || code === 0x0d);
    const isBlank: boolean = folded && afterBreak && (code === 0x20 || code === 0x09);
    afterBreak = isBreak || isBlank;
    if (isBreak || isBlank) continue;
    if (byte || code < 0x80) out.push(Buffer.of(folded && code === 0x20 ? 0x2b : code));
    else out.push(Buffer.from(code >= 0xd800 && code < 0xe000 ? "\ufffd" : String.fromCodePoint(code)));
  }
  return Buffer.concat(out);
}

const PIECES = [
  ...[
    "a",
    "b",
    "4",
    "1",
    "n",
    "x",
    "x61",
    "u0061",
    "25",
    "5c",
    "0a",
    "#97;",
    "amp;",
    "bsol;",
    "é",
    "+",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
  ],
  ...[
    "%",
    "%4",
    "%41",
    "%25",
    "%0a",
    "%20",
    "%5c",
    "%c3",
    "%3D",
    "=",
    "=\n",
    "=\r\n",
    "=41",
    "=3D",
    "=0A",
    "=20",
    "=25",
  ],
  ...["&", "&amp;", "&#97;", "&#10;", "&#32;", "&#37;", "&bsol;", "&#x1f511;"],
  ...[
    "\\",
    "\\\\",
    "\\n",
    "\\x",
    "\\x25",
    "\\101",
    "\\u0061",
    "\\u005c",
    "\\u0025",
    "\\u00e9",
    "\\ud83d\\udd11",
    "\\ud83d",
    "\\u{26}",
  ],
];
const texts = fc.array(fc.constantFrom(...PIECES), { maxLength: 24 }).map((parts) => Buffer.from(parts.join("")));
const modes = fc.constantFrom<Mode>("plain", "folded");

describe("the reading of a text", () => {
  it("is the text with its escapes undone twice", () => {
    fc.assert(
      fc.property(texts, modes, (text, mode) => {
        expect(readBytes(text, mode).toString("latin1")).toBe(once(once(text, mode), mode).toString("latin1"));
      }),
      { numRuns: 20_000 },
    );
  });

  it("says where each of its bytes comes from: that stretch alone gives the same", () => {
    const whole = fc.array(
      fc.constantFrom("a", "é", "%41", "%c3", "\\u0061", "\\u00e9", "\\ud83d\\udd11", "&#233;", "%2541", "\n  ", " "),
    );
    fc.assert(
      fc.property(whole, (parts) => {
        const text = Buffer.from(parts.join(""));
        const reading = readingOf(text, "folded");
        const bytes = Buffer.from(reading.bytes);
        const places = [...bytes.keys()].map((i) => [reading.startOf(i), reading.endOf(i)] as const);
        for (const [i, [start, end]] of places.entries()) {
          const alone = readBytes(text.subarray(start, end), "folded");
          expect([parts, i, alone.includes(bytes[i] as number)]).toEqual([parts, i, true]);
          expect(alone.length).toBeLessThanOrEqual(4);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
