import { describe, expect, it } from "vitest";
import { contentDecoders } from "../../../src/edge/content/decoders.ts";
import { ZstdFrames } from "../../../src/edge/content/zstd-frames.ts";

/** What the fixtures hold. They were made by zstd 1.5.4. */
const text = (lines: number): Buffer =>
  Buffer.from(
    Array.from({ length: lines }, (_, i) => `${((i % 40) * 7919) % 1009} the quick brown fox ${i % 10} jumps\n`).join(
      "",
    ),
  );
const FIXTURES: [string, number, string][] = [
  [
    "small -3",
    20,
    "KLUv/QRYxQQA0sYVGHBp8ggdhmj2iQdRtaqqn5BSwuVX/8ueIWZRkHNQ1xnj3updNxP3yYx9d2yWiMX8tiu/d/et1vnftxEr87DWNNksCnIOKlokAjIoEoRBBQDhHCgwSFAFJSCwM+p/svtHdv84u2OFy5iomkz8UXaFHzP2XWVi9Ed2/2TXn+z+md0/l13Rx4z9LhN/ZPdPdv8B2c347BMA7fe5",
  ],
  [
    "large -19",
    9000,
    "KLUv/QRoRAUAggkaF4AttAEARgEASBGECXq6u3cmyZZ2c+g6h+NWlvmZ1uNnKE2d+o1jZGdKPFFtdfQ5q6JdTqmuVue9dUfMFulViE6yofPubJS368uq+VtzZEfAg5GIHMqUyYJQFJKFI1AQAkOkUQYFSJkxqCEwp7f/G5AZVY4BEcwiwi8THr//fwYC+/4kFCECcCBYxjOUkIHLoBwhk7HzeuIPTyhT5taNExMyjFYFVAAAAAEA/f8F/LkGAj0AAAABAJjgDoAgoVMG",
  ],
  [
    "large -1, without a checksum",
    9000,
    "KLUv/QBILAYAQgocGXBV0gYaNOn/HTps8AAAwK3s3rSTdPS/93CTiPcl2avSXkgzdb710FQ9x7B296ZV69+IruWzGucyx0U6n/l2VXRHpLSNbREN4vOGeXdr1u9fEk2Vaa5WKABoLJJEmTKAGApDAHkMioKASBylcAgoE1GoMYzN978DsDNqORKYnRH8il///9/j+v60cQIyCMiDPfgAkchhcpRCATW2m6NQAOKgNFEo/EvRHI1BheLHF6Rk4YwRbyoauIT5GhJTyhlpWwVMAAAIIAEA/P85EAJFAAAIaAEAl+AOhA==",
  ],
];
const LONG_WINDOW =
  "KLUv/QSIrQQAggYVGHBp8ggdhmj2iQdRtaqqn5AihPH0p4c9Q2ZRkHNQ141vv3rUzbxF5uv/bJZ3xYyNyr2Lap2Ix+27yvzVmiabRUHOQUWLREAGRYIwqAAgnAMFBgmqJSCgMzx/svtPdv8suyOFGVNtmRApRMaE3zLxZ3b/ZPcfZXdUmDGqNRNRnQkm/paJP7L7J7v+ZPePZzfja08A7fe5";

/** The decoded bytes, or what was wrong. */
async function decode(pieces: readonly Uint8Array[]): Promise<Buffer | string> {
  const out: Buffer[] = [];
  const decoder = contentDecoders.open(["zstd"], (plain) => out.push(Buffer.from(plain)));
  let error: Error | null = null;
  for (const piece of pieces) error ??= await new Promise<Error | null>((done) => decoder.write(piece, done));
  error ??= await new Promise<Error | null>((done) => decoder.end(done));
  decoder.close();
  return error === null ? Buffer.concat(out) : error.message;
}

const bytewise = (bytes: Uint8Array): Uint8Array[] => [...bytes].map((b) => Uint8Array.of(b));
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A frame with a window of 8 MiB, of blocks of one repeated byte. */
const bomb = (blocks: number, size = 131072): Buffer => {
  const parts = [Buffer.from("28b52ffd0068", "hex")];
  for (let i = 0; i < blocks; i++) {
    const block = Buffer.alloc(4, "x");
    block.writeUIntLE((size << 3) | (1 << 1) | (i === blocks - 1 ? 1 : 0), 0, 3);
    parts.push(block);
  }
  return Buffer.concat(parts);
};

describe.each(FIXTURES)("%s", (_, lines, base64) => {
  const coded = Buffer.from(base64, "base64");
  it("is decoded whole, in pieces, and several times over", async () => {
    const is = (result: Buffer | string, expected: Buffer) => typeof result !== "string" && result.equals(expected);
    expect(is(await decode([coded]), text(lines))).toBe(true);
    expect(is(await decode(bytewise(coded)), text(lines))).toBe(true);
    const thrice = Buffer.concat([text(lines), text(lines), text(lines)]);
    expect(is(await decode([coded, Buffer.concat([coded, coded])]), thrice)).toBe(true);
  });

  it("broken off, or with something behind it, is an error", async () => {
    for (const n of [1, 5, coded.length >> 1])
      expect(await decode([coded.subarray(0, -n)])).toBe("unexpected end of file");
    expect(await decode([Buffer.concat([coded, Buffer.from("secret")])])).toBe("no zstd frame");
    expect(await decode([coded, Buffer.from("s")])).toBe("unexpected end of file");
  });

  it("never crashes or hangs when a byte is changed", async () => {
    for (let i = 0; i < coded.length; i += 3) {
      const broken = Buffer.from(coded);
      broken[i] = (broken[i] as number) ^ 0x55;
      const result = await decode([broken]);
      expect(typeof result === "string" || result.length <= 4 * 1024 * 1024).toBe(true);
    }
  });
});

describe("refused before anything is allocated", () => {
  it.each([
    ["a window of more than 8 MiB", Buffer.from(LONG_WINDOW, "base64"), /window/],
    ["a single segment of more than 8 MiB", Buffer.from("28b52ffda001008000", "hex"), /window/],
    ["a dictionary", Buffer.from("28b52ffd210105010000", "hex"), /dictionary/],
    ["a skippable frame, which nobody looks at", Buffer.from("502a4d1804000000736563720a", "hex"), /no zstd frame/],
    ["an older format", Buffer.from("27b52ffd00000000", "hex"), /no zstd frame/],
    ["a reserved bit", Buffer.from("28b52ffd0868010000", "hex"), /reserved/],
    ["a block of an unknown type", Buffer.from("28b52ffd0068070000", "hex"), /type/],
    ["a block that is too large", bomb(1, 131073), /too large/],
    ["less content than the frame says", Buffer.from("28b52ffd200501000061", "hex"), /another length/],
    ["more content than the frame says", Buffer.from("28b52ffd60000b000061", "hex"), /length|too large|end of file/],
  ])("%s", async (_, bytes, why) => {
    expect(await decode([bytes])).toMatch(why);
    expect(await decode(bytewise(bytes))).toMatch(why);
  });
});

it("a bomb stops between two blocks when it is closed", async () => {
  let given = 0;
  const decoder = contentDecoders.open(["zstd"], (plain) => {
    given += plain.length;
    if (given > 1000000) decoder.close();
  });
  decoder.write(bomb(4000), () => {
    given = Number.NaN;
  });
  await pause(100);
  expect(given).toBeGreaterThan(1000000);
  expect(given).toBeLessThanOrEqual(1000000 + 131072);
});

it("waits when it is paused", async () => {
  let given = 0;
  const decoder = contentDecoders.open(["zstd"], (plain) => {
    given += plain.length;
    decoder.pause();
  });
  const finished = new Promise((done) => decoder.write(bomb(50), done));
  await pause(20);
  expect(given).toBe(131072);
  const timer = setInterval(() => decoder.resume(), 1);
  expect(await finished).toBe(null);
  clearInterval(timer);
  expect(given).toBe(50 * 131072);
  decoder.close();
});

/** A compressed block of one literal and `count` sequences, each with one of the three codes, and no bits but the last mark. */
function sequences(count: number, match: number): Buffer {
  const content = [0x08, 0x61, 255, (count - 0x7f00) & 255, (count - 0x7f00) >> 8, 0x54, 0, 0, match, 0x80, 0x80, 1];
  const header = Buffer.alloc(3);
  header.writeUIntLE((content.length << 3) | (2 << 1), 0, 3);
  return Buffer.concat([header, Buffer.from(content)]);
}

describe("a small block cannot keep the process busy:", () => {
  it.each([
    ["with sequences that make more than a block may have", 52],
    ["with more sequences than it has bits", 0],
  ])("%s", async (_, match) => {
    const coded = Buffer.concat([Buffer.from("28b52ffd0068", "hex"), sequences(0x7f00 + 50000, match)]);
    const before = process.cpuUsage();
    expect(await decode([coded])).toMatch(/^broken zstd data/);
    expect(process.cpuUsage(before).user).toBeLessThan(1_000_000);
  });

  it("whatever the window is", async () => {
    const before = process.cpuUsage();
    const result = await decode([bomb(20000, 1)]);
    expect([result.length, process.cpuUsage(before).user < 2_000_000]).toEqual([20000, true]);
  });

  it("in whatever pieces it comes", async () => {
    const block = Buffer.alloc(3 + 131072, "x");
    block.writeUIntLE((131072 << 3) | 1, 0, 3);
    const frames = new ZstdFrames(() => {});
    const coded = Buffer.concat([Buffer.from("28b52ffd0068", "hex"), block]);
    const before = process.cpuUsage();
    for (const byte of bytewise(coded)) {
      frames.push(byte);
      while (frames.next());
    }
    expect([frames.whole, process.cpuUsage(before).user < 2_000_000]).toEqual([true, true]);
  });
});

it("content farther back than the window stays, whatever its size", async () => {
  // One block of each kind in turn, the compressed one taking 16 bytes from 4 bytes before it.
  const raw = (text: string, last = 0) => {
    const header = Buffer.alloc(3);
    header.writeUIntLE((text.length << 3) | last, 0, 3);
    return Buffer.concat([header, Buffer.from(text)]);
  };
  const many = Array.from({ length: 40 }, (_, i) => String.fromCharCode(97 + (i % 26)).repeat(1024));
  const coded = Buffer.concat([Buffer.from("28b52ffd0000", "hex"), ...many.map((t) => raw(t)), raw("end", 1)]);
  expect(String(await decode([coded]))).toBe(`${many.join("")}end`);
});
