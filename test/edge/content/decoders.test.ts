import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { contentDecoders } from "../../../src/edge/content/decoders.ts";

/** Decodes pieces one after the other. `counts`: the bytes that were out after each piece. */
async function decode(
  codings: string[],
  pieces: Buffer[],
): Promise<{ out: Buffer; counts: number[]; error: Error | null }> {
  const out: Buffer[] = [];
  const counts: number[] = [];
  const size = () => out.reduce((n, b) => n + b.length, 0);
  const decoder = contentDecoders.open(codings, (plain) => out.push(Buffer.from(plain)));
  try {
    for (const piece of pieces) {
      const error = await new Promise<Error | null>((done) => decoder.write(piece, done));
      counts.push(size());
      if (error !== null) return { out: Buffer.concat(out), counts, error };
    }
    const error = await new Promise<Error | null>((done) => decoder.end(done));
    return { out: Buffer.concat(out), counts, error };
  } finally {
    decoder.close();
  }
}

const big = Buffer.from(Array.from({ length: 40000 }, (_, i) => `line ${i * 7919}\n`).join(""));
const ENCODINGS: [string, (b: Buffer) => Buffer][] = [
  ["gzip", (b) => gzipSync(b)],
  ["deflate", (b) => deflateSync(b)],
  ["deflate", (b) => deflateRawSync(b)],
  ["br", (b) => brotliCompressSync(b, { params: { 1: 4 } })],
];

describe.each(ENCODINGS)("%s", (coding, encode) => {
  const body = encode(big);
  const pieces = (n: number) =>
    Array.from({ length: Math.ceil(body.length / n) }, (_, i) => body.subarray(i * n, i * n + n));

  it.each([1000, 65536, 1 << 24])("in pieces of %d bytes", async (n) => {
    const { out, error } = await decode([coding], pieces(n));
    expect(error).toBe(null);
    expect(out.equals(big)).toBe(true);
  });

  it("has given out everything a piece yields when it says that it is done", async () => {
    const half = body.subarray(0, body.length >> 1);
    const { counts } = await decode([coding], [half]);
    const again = await decode([coding], [half, ...Array.from({ length: 5 }, () => Buffer.alloc(0))]);
    expect(counts[0]).toBeGreaterThan(big.length / 4);
    expect(new Set(again.counts).size).toBe(1);
  });

  it("says that it broke off", async () => {
    expect((await decode([coding], [body.subarray(0, -2)])).error).not.toBe(null);
  });

  it("says that there is more after the end, together or apart", async () => {
    expect((await decode([coding], [Buffer.concat([body, Buffer.from("x")])])).error).not.toBe(null);
    expect((await decode([coding], [body, Buffer.from("x")])).error).not.toBe(null);
    expect((await decode([coding], [body, Buffer.from("\0")])).error).not.toBe(null);
  });

  it("waits when it is paused", async () => {
    let given = 0;
    const decoder = contentDecoders.open([coding], (plain) => {
      given += plain.length;
      decoder.pause();
    });
    let finished = false;
    decoder.write(body, () => {
      decoder.end(() => {
        finished = true;
      });
    });
    await expect.poll(() => given).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(given).toBeLessThan(big.length);
    while (!finished) {
      decoder.resume();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(given).toBe(big.length);
    decoder.close();
  });
});

it("undoes several codings, the last applied first", async () => {
  const body = deflateSync(brotliCompressSync(gzipSync(big)));
  const { out, error } = await decode(["gzip", "br", "deflate"], [body.subarray(0, 999), body.subarray(999)]);
  expect(error).toBe(null);
  expect(out.equals(big)).toBe(true);
});

it("goes through several gzip members, wherever they are cut", async () => {
  const body = Buffer.concat([gzipSync("one,"), gzipSync("two,"), gzipSync("three")]);
  for (let i = 1; i < body.length; i++) {
    const { out, error } = await decode(["gzip"], [body.subarray(0, i), body.subarray(i)]);
    expect([i, error, out.toString()]).toEqual([i, null, "one,two,three"]);
  }
});

it("refuses what it does not know, and towers", () => {
  expect(contentDecoders.knows("compress")).toBe(false);
  expect(contentDecoders.knows("constructor")).toBe(false);
  expect(() => contentDecoders.open(["compress"], () => {})).toThrow();
  expect(() => contentDecoders.open([], () => {})).toThrow();
  expect(() => contentDecoders.open(["gzip", "gzip", "gzip", "gzip", "gzip"], () => {})).toThrow();
});

describe("a bomb in a coding under another", () => {
  /** zstd: a frame without an end, of blocks of 128 KiB in four bytes each. */
  const frame = Buffer.from("28b52ffd0068", "hex");
  const block = Buffer.of(2, 0, 16, 0);
  const blocks = (count: number) => Buffer.concat([frame, ...Array.from({ length: count }, () => block)]);

  it.each([
    ["whose inner coding is broken", ["zstd", "zstd"]],
    ["that yields nothing in the end", ["gzip", "zstd"]],
  ])("%s stops at once, and keeps nothing", async (_, codings) => {
    const before = process.memoryUsage.rss();
    const cost = await cpuTimeOf(async () => {
      const { out, error } = await decode(codings, [blocks(16_000)]);
      expect([out.length, error === null]).toEqual([0, false]);
    });
    expect(cost).toBeLessThan(1_000);
    expect(process.memoryUsage.rss() - before).toBeLessThan(96 * 1024 * 1024);
  });

  it("is told by its size where the inner coding could go on for ever", async () => {
    // The name of a file in gzip, which has no end.
    const name = gzipSync(Buffer.concat([Buffer.from("1f8b0808000000000003", "hex"), Buffer.alloc(64 << 20, "a")]));
    const { error } = await decode(["gzip", "gzip"], [name]);
    expect(error).toMatchObject({ reason: "decode-limit" });
  });
});

async function cpuTimeOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
