// What a record keeps of bodies in a coding, as rules ask for it with `record: bodies`.
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { contentUnpacker } from "../../src/edge/content/unpacker.ts";
import { KnownSecrets } from "../../src/shared/known-secrets.ts";
import { recordable, WITHHELD } from "../../src/stages/recorded-body.ts";

const SECRET = "correct-horse-battery-77";
const secrets = new KnownSecrets([SECRET]);
const CLEAN = "some text that says nothing. ".repeat(40);
const ENCODE: Record<string, (text: string) => Buffer> = {
  gzip: (text) => gzipSync(text),
  deflate: (text) => deflateSync(text),
  br: (text) => brotliCompressSync(text),
  "gzip, br": (text) => brotliCompressSync(gzipSync(text)),
};
const SPELT: Record<string, string> = {
  "as it is": SECRET,
  "in capitals": SECRET.toUpperCase(),
  "in base64": Buffer.from(`x${SECRET}`).toString("base64"),
  "in hex": Buffer.from(SECRET).toString("hex"),
};
const judge = (coding: string, coded: Buffer, whole = true, known = secrets, unpacker = contentUnpacker) =>
  recordable({ base64: coded.toString("base64"), whole }, ["Content-Encoding", coding], known, unpacker);

describe.each(Object.entries(ENCODE))("%s", (coding, encode) => {
  test.each(Object.entries(SPELT))("a secret %s: nothing is written", (_how, spelt) => {
    expect(judge(coding, encode(`${CLEAN}{"a":"${spelt}"}${CLEAN}`))).toBe(WITHHELD);
  });
  test("none: written as it came", () => {
    const coded = encode(CLEAN);
    expect(judge(coding, coded)).toEqual({ base64: coded.toString("base64"), whole: true });
  });
  test("nothing is known that would be a secret: written", () => {
    expect(judge(coding, encode(SECRET), true, new KnownSecrets()).base64).not.toBe("");
  });
  test("cut at what is kept: not written once the beginning of a secret can be read in it", () => {
    const noise = Array.from({ length: 60 }, (_, i) => `${(i * 7919) % 1009} `).join("");
    const coded = encode(`${noise}${SECRET}${noise}`);
    for (let n = 1; n < coded.length; n++) {
      const begun = coded.subarray(0, n);
      const read = contentUnpacker.unpack(coding.split(", "), begun, true, 1 << 20);
      const said = Buffer.from(read ?? []).toString("latin1");
      const told = said.includes(SECRET.slice(0, 4));
      expect([n, said, judge(coding, begun, false) === WITHHELD]).toEqual([n, said, told]);
    }
  });
});

test.each([
  ["an unknown coding", "aws-chunked", Buffer.from(CLEAN)],
  ["a broken one", "gzip", Buffer.from(CLEAN)],
  ["one that breaks off", "gzip", gzipSync(CLEAN).subarray(0, -4)],
  ["one that goes on", "gzip", Buffer.concat([gzipSync(CLEAN), Buffer.from(CLEAN)])],
  ["more than is looked through", "gzip", gzipSync(Buffer.alloc(9 << 20, "a"))],
  ["a cut block of zstd", "zstd", Buffer.from("28b52ffd2064", "hex")],
])("%s cannot be read: nothing is written", (_what, coding, coded) => {
  expect(judge(coding, coded)).toBe(WITHHELD);
});
test("nobody can open it: nothing is written", () => {
  const body = { base64: gzipSync(CLEAN).toString("base64"), whole: true };
  expect(recordable(body, ["content-encoding", "gzip"], secrets, null)).toBe(WITHHELD);
});
test.each([
  ["no coding", []],
  ["identity", ["Content-Encoding", "identity"]],
])("%s: left to the redaction of records", (_what, fields) => {
  const body = { base64: Buffer.from(SECRET).toString("base64"), whole: true };
  expect(recordable(body, fields, secrets, contentUnpacker)).toBe(body);
});
