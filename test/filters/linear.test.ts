// What somebody sends to keep the filters busy: the time grows with its length, in whatever pieces it comes.
import { expect, it } from "vitest";
import { compileContent } from "../../src/filters/index.ts";
import { Inspection } from "../../src/filters/inspection.ts";
import { ProxyError } from "../../src/shared/errors.ts";
import { cpuTime } from "../support/cpu.ts";

const SECRETS = ["a".repeat(40), "line one\nline two\n   three", "p@ss/w+rd =1"].map((value, i) => ({
  name: `s${i}`,
  value: `${value}-${i}`,
}));
const RULES = compileContent([{ block: { secrets: true } }], { secrets: SECRETS }).request.body;
const nested = (): string => {
  let text = "{}";
  while (text.length < 100_000) text = JSON.stringify({ a: text });
  return text;
};
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const BEGIN = "-----BEGIN RSA PRIVATE KEY-----\n";

const HOSTILE: readonly string[] = [
  ...[
    "\\u005c",
    "\\",
    "%25252525",
    "%",
    "%61",
    "&amp;amp;amp;amp;",
    "&#97;",
    "=\r\n",
    "=41",
    "\n",
    "\n                 ",
    " ",
  ],
  ...["-", "-----BEGIN ", BEGIN, "PRIVATE", `-----BEGIN PRIVATE KEY-----${"\\n".repeat(60)}`],
  ...[base64(BEGIN), base64(base64(BEGIN)), base64(BEGIN).replace(/./g, "$&\n"), nested()],
  ...["a", "a\n", "a+", `${"a".repeat(39)}%62`, "line one%0aline tw", "p@ss%2Fw+rd "],
  ...["ghp_", "sk-", "xoxb-", "glpat-%61bcdefgh", "12345678:AA", "SG.", "\\x5cu0061&amp;#92;u0062=\r\n%5c"],
];

/** CPU time for so many bytes of it in pieces. */
function cost(text: string, bytes: number, piece: number): number {
  const data = Buffer.alloc(bytes, text);
  // Never the same piece twice.
  for (let at = 100; at + 8 < bytes; at += 1_009) data.write(String(at), at);
  return cpuTime(() => {
    const inspection = new Inspection({
      ...{ rules: RULES, hold: 0, scanLimit: Number.POSITIVE_INFINITY, unit: "body", charset: null },
      act: () => "report",
      noted: () => {},
      blocked: () => new ProxyError("content-blocked", ""),
      unscannable: () => {},
    });
    for (let at = 0; at < bytes; at += piece) {
      inspection.push(data.subarray(at, at + piece));
      inspection.skip();
    }
    inspection.end();
  });
}

it.each([
  [100, 8],
  [16_384, 64],
  [1_000_000, 64],
])("in pieces of %d bytes", (piece, kib) => {
  for (const text of HOSTILE) {
    const once = cost(text, kib * 1024, piece);
    const eightTimes = cost(text, kib * 8 * 1024, piece);
    // What costs less than some milliseconds may be collected or compiled meanwhile.
    expect([text.slice(0, 40), eightTimes < once * 24 + 150]).toEqual([text.slice(0, 40), true]);
  }
});
