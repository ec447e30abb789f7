// Short bodies in codings, undone in one go: as much as the streaming decoders give, within a limit.
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { contentDecoders } from "../../../src/edge/content/decoders.ts";
import { contentUnpacker } from "../../../src/edge/content/unpacker.ts";

const MANY = 1 << 20;
const TEXT = Buffer.from(Array.from({ length: 400 }, (_, i) => `line ${i * 7919} of something\n`).join(""));
/** Of zstd 1.5.4: lines of "the quick brown fox". */
const ZSTD = Buffer.from(
  "KLUv/QRYxQQA0sYVGHBp8ggdhmj2iQdRtaqqn5BSwuVX/8ueIWZRkHNQ1xnj3updNxP3yYx9d2yWiMX8tiu/d/et1vnftxEr87DWNNksCnIOKlokAjIoEoRBBQDhHCgwSFAFJSCwM+p/svtHdv84u2OFy5iomkz8UXaFHzP2XWVi9Ed2/2TXn+z+md0/l13Rx4z9LhN/ZPdPdv8B2c347BMA7fe5",
  "base64",
);
const ENCODINGS: [string, readonly string[], Buffer][] = [
  ["gzip", ["gzip"], gzipSync(TEXT)],
  ["gzip of two members", ["gzip"], Buffer.concat([gzipSync(TEXT), gzipSync(TEXT)])],
  ["gzip, stored", ["gzip"], gzipSync(TEXT, { level: 0 })],
  ["deflate", ["deflate"], deflateSync(TEXT)],
  ["raw deflate", ["deflate"], deflateRawSync(TEXT)],
  ["br", ["br"], brotliCompressSync(TEXT)],
  ["gzip, br", ["gzip", "br"], brotliCompressSync(gzipSync(TEXT))],
  ["br, gzip", ["br", "gzip"], gzipSync(brotliCompressSync(TEXT))],
  ["zstd", ["zstd"], ZSTD],
  ["zstd of two frames", ["zstd"], Buffer.concat([ZSTD, ZSTD])],
];

/** What the streaming decoders give for a beginning. */
async function streamed(codings: readonly string[], coded: Uint8Array): Promise<Buffer> {
  const out: Buffer[] = [];
  const decoder = contentDecoders.open(codings, (plain) => out.push(Buffer.from(plain)));
  await new Promise<Error | null>((done) => decoder.write(coded, done));
  decoder.close();
  return Buffer.concat(out);
}
const unpack = (codings: readonly string[], coded: Uint8Array, cut = false, limit = MANY): Buffer | null => {
  const plain = contentUnpacker.unpack(codings, coded, cut, limit);
  return plain === null ? null : Buffer.from(plain);
};

describe.each(ENCODINGS)("%s", (name, codings, coded) => {
  test("whole", async () => {
    const plain = unpack(codings, coded);
    expect(plain?.equals(await streamed(codings, coded))).toBe(true);
    if (!name.startsWith("zstd")) expect(plain?.subarray(0, TEXT.length).equals(TEXT)).toBe(true);
    expect(plain?.length).toBeGreaterThan(600);
  });
  test("cut anywhere: as much as can be read, or nothing where what is left could be read", async () => {
    for (let n = 1; n < coded.length; n += Math.max(1, coded.length >> 6)) {
      const begun = coded.subarray(0, n);
      const plain = unpack(codings, begun, true);
      if (codings.includes("zstd") && n !== ZSTD.length) expect(plain).toBe(null);
      else expect(plain?.equals(await streamed(codings, begun))).toBe(true);
    }
  });
  test("cut, and said to be whole: null", () => {
    expect(unpack(codings, coded.subarray(0, coded.length - 3))).toBe(null);
  });
  test.each([false, true])("with more behind its end (cut: %s): null", (cut) => {
    expect(unpack(codings, Buffer.concat([coded, Buffer.from("more of it")]), cut)).toBe(null);
  });
  test("more than the limit: null, and not a part", () => {
    const { length } = unpack(codings, coded) as Buffer;
    expect(unpack(codings, coded, false, length)?.length).toBe(length);
    expect(unpack(codings, coded, false, length - 1)).toBe(null);
  });
});

test("a bomb is given up at the limit", () => {
  const bomb = gzipSync(Buffer.alloc(64 * MANY));
  const before = process.memoryUsage().arrayBuffers;
  expect(unpack(["gzip"], bomb)).toBe(null);
  expect(unpack(["gzip", "gzip"], gzipSync(bomb))).toBe(null);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * MANY);
});
test.each([
  ["an unknown coding", ["rot13"]],
  ["a name that every object has", ["constructor"]],
  ["an unknown one above a known one", ["rot13", "gzip"]],
  ["too many", Array(5).fill("gzip")],
])("%s: null", (_what, codings) => {
  expect(unpack(codings as string[], gzipSync(TEXT))).toBe(null);
});
