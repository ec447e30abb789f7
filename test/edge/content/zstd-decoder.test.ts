import { describe, expect, it } from "vitest";
import { contentDecoders } from "../../../src/edge/content/decoders.ts";
import { zstdDecoder } from "../../../src/edge/content/zstd-decoder.ts";
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
    ["more content than the frame says", Buffer.from("28b52ffd4068000063090061", "hex"), /another length/],
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

/** 2,500 letters, small ones more often. */
function letters(): Buffer {
  let state = 7;
  const roll = (n: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
  return Buffer.from(Array.from({ length: 2500 }, () => 97 + Math.min(roll(26), roll(26), roll(26))));
}

it.each([
  [
    "a long text with a window of 128 KiB",
    text(100000),
    "KLUv/YQ4LKMwADQGAJKKHBlwVdIGGjTp/x06bPAAAMCt7J0ppcD1v/dwk4imyzL/aT7WTCnd0tT8zjGs3blpb8m2quvprIRzmUPFOjoj2/11PmIlEWH7qkF01obOu3Na8zb5smp+qrnaUQDQWCSJMmUAMRSGAPIYFAUBkThK4RBQJlGoMYjL978DoDOaYgMSmN8Q/KK9//9v5Pr+pCuo1gvwThWLMWino5BHlIvhCLa8nABoqcF3h7jj6QM6lo4o9iagvDoK7QafQRFiRvUNOkP/q1QAABAgdAEA+/85wAJUAAAQaGUBAPv/OcACVAAAEHF1AQD7/znAAlQAABBpYwEA+/85wAJUAAAQayABAPv/OcACVAAAECBiAQD7/znAAlQAABBybwEA+/85wAJMBgByShwZcFXSBho06f8dOmzwAADA2Vy5uaXA9b/3cIdmhf6L6G3V/M767kRE56WZnFVjRjXYs0/+Jsw6m+XZXjOldEtTY+b83HuIbt7NWrKvCms0eC36HGYO9YWEAshjUBQEROIohUNAObIAoLFIEuXKAGIojFGoIZDL978DkDOS5AEScBAM/hl7///f9Pr+vGScwyLipU/hS/hBANGnDUCcD4KgQh5ksMAAElIAgPKeA1yDTkQuxSyVSK6gyCDGN63GpfojaBgAVAVUAAAQZm8BAPv/OcACVAAAEHggAQD7/znAAlQAABAgMgEA+/85wAJUAAAQIGoBAPv/OcACVAAAEG1wAQD7/znAAlQAABBzCgEA+/85wAJUAAAQODUBAPv/OcACPAYAYgocGXBV0gYaNOn/HTps8AAAwK3snUmy1ei/N+DUNFGn5neOIdmdKe0nqm1VR+8ZVXHsMkt4vdry/tb5iNUWiV41iE4b5p2N8nadVX/n6JOHOO5Vlpn/THOPAoDGIkmUKgOIoTAEkMegKAiIxFEKh4DymU+oIZTK978DoDOaYgMSGB8R/J69//9vAvv+JEV8HaOj0x4A4xuHIhiDkvU5fYAEJM3uA3MZhWJ8zC2SeYmfj58delfMG0T6FUB20S2PQTOLDf+vAlQAABAgdAEA+/85wAJUAAAQZSABAPv/OcACVAAAEHF1AQD7/znAAlQAABBpYwEA+/85wAJUAAAQaWMBAPv/OcACVAAAECBiAQD7/znAAlQAABBvdwEA+/85wAKFAAAQODgDAPoif7IOgIiAOhEEr3JkHw==",
  ],
  [
    "what has hardly a match",
    letters(),
    "KLUv/WTECE0pAEqckBQWoCVpA/9/a1trjRAiQiu7d+L///9XNUEBRQE/AeRGIaFvGhpac15O1RRRViHiH2FPHVwjQo7c6KjyhPGIZ9RQg6SLTpTwSnCx/fQ8oKLqkXtYa639N6P3y09JiFXah4mrDB3LUI26VCSwaGd8IWsP2RloDpGNMCqP+gJ4i4sMm7NksRuVgwFb9zzqlSSL4H7OCx2JmVHYHY4Qw6padixERa3Zwzgx0jSSnJzXejyqZuFK7PXlHYthxcVmWgR4Pp9WOYZRAJvNkCHX+Qg8jjpC2CbEYPGIScLCRWRuCwqqoBIiMWY9HQxy6JEutsQx+OYAMiAlqCjMupUnXkGEWGPxRiIYZPUJxK0bB6liyP1UUYS5Reoy0GcrnFZmBfScYEXJijUqUPVmVRFj0A0idRdpa2ObUKldkALqYJMv2Sp6ByHHPmGxymuEaubXi4jhxpiTkEtoc/NOcWZ6uDqrHjekIUfTVo7nSKCX042ytAbOIGKdyrH9P6ZfWpVg3AZyQogRTEYWUYSp8zvRnsdN85CUaq9Jl/qxjuqftbY1QR+GmUGRLMjWsNAgjF5BUsdU7qRNkyjPIkD3qND8cUzeQsExyhXqTnJdRQWdgXV1+SkZOhq9mSFUke+azMOaGpGAeEA3KqAYHWSnHmL7sfCApCCjpq3iUEQ4ISeVQGtNWmwcRRZaAjmPphpJ6ERx4Zgyzg7oCsPbMMhIE3FSIlzgtulPG9GNQc+Ih3/AjcsrvDeJtJsyqChVsbBSTxASMtAYAikY8cH2SnKhm2WiIIyrESFuigzfcg2OHjGiY7RrB/WSnAIi1MCXcXiRVjezERmfhw+7oc6HMtNiZWCDzQ4ZkXWZxuZtNR2AThiy1uLJMFXqNc14T1ooxQd1GCdddp8Ff7Lfpha/75eeTtLItUcxZH9ZaxA6rGEyVAkYIrpurGbpBn+mN/luDIjNA2JqZmfWPSpSFRZIOuK0yNeAyAQsSYanZlmK/JaUyG5JRc/hTDP13QQycuFUmSPKGD0yGsPmnzDuIR+nz11Htlwrn9Ow3mWOq8SeIR80oCxT1yNVEeZ1aFYqska3JaujVWnTELLBzMIVJlAbLrJRzhYolRUYj1dDsQtfLdGlVViSWG8EDyQwgLeKwdcnOfuLkNT62Y1qC50wSlXKDGsgGWWrlKSuriG6ukBY7K80AVsi0cpmKBhWaswChSeyX4FUrjyHog0q5woPKyPU4qneRRvPME6yHC9FRyUypcKwSNT1OEuAJCk1XXVOFX+m0ymvYHih+ulS08r5ZxsCOSoT4fCKWpaMw7+OqjhpOHaDwKz0ZZrVVB2Qq+wKdFcwykWj76h9IkKqQW5dMz+S/7qm8AKN4SacDaW6Wl6WjdUXAQNP0FjQIBYXHy/gqURaDC4tGxkfp1CLnthiyLA+zjBErT/oxbkClsgIira/HuotEVfqBWAAHZiIeenrGglEQFoZR8hq93n2LiKtiBCycdJsGBDB2pEK6vpdj+GGR+BoGvFXVVw+dMMBMXWRnwFzzeusQagm0p0j6Sor484qi7Vpd0NR+lLIy49crXrtMIogY4jzLBw2KgeBgV4n/NAZyfAkdcwikL1EjtA56ZJuMDUnXwgQlKKIbG+LyBJt4uW6RsMXvO5Xuv1mRoUahNobYfcGdUnKLSG+3qwAP6U1IhCRJjHVixQRYMrH62JYRwRgI0nUOkMZRHj/HRDlDhcxGsR4aMNZGKsco+VSiSBU4VJ6ZadPb2Es260iqht+AQBLr7cx",
  ],
])("%s", async (_, expected, base64) => {
  const coded = Buffer.from(base64, "base64");
  for (const pieces of [[coded], bytewise(coded)]) {
    const result = await decode(pieces);
    expect(typeof result !== "string" && result.equals(expected)).toBe(true);
  }
});

it("the windows of all content are bounded together, and given back", async () => {
  // A window of 8 MiB, filled by blocks of 128 KiB in four bytes each.
  const frame = Buffer.concat([
    Buffer.from("28b52ffd0068", "hex"),
    ...Array.from({ length: 64 }, () => Buffer.of(2, 0, 16, 0)),
  ]);
  const round = async (count: number): Promise<(Error | null)[]> => {
    const decoders = Array.from({ length: count }, () => zstdDecoder(() => {}));
    const errors = await Promise.all(
      decoders.map((decoder) => new Promise<Error | null>((resolve) => decoder.write(frame, resolve))),
    );
    for (const decoder of decoders) decoder.close();
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    return errors.filter((error) => error !== null);
  };
  const before = process.memoryUsage.rss();
  const errors = await round(80);
  expect(errors.length).toBeGreaterThan(20);
  expect(errors.length).toBeLessThan(70);
  expect(errors[0]).toMatchObject({ reason: "busy" });
  expect(process.memoryUsage.rss() - before).toBeLessThan(350 * 1024 * 1024);
  // Nothing of it is left: as many as before have room.
  expect(await round(20)).toEqual([]);
  const again = await round(80);
  expect(Math.abs(again.length - errors.length)).toBeLessThan(10);
});

/** Decodes all of it, and stays open. */
const opened = (coded: Uint8Array): ZstdFrames => {
  const frames = new ZstdFrames(() => {});
  frames.push(coded);
  while (frames.next());
  return frames;
};

it("a window gives its memory back when it is closed, not when something is collected", () => {
  const all = Array.from({ length: 20 }, () => opened(bomb(80)));
  const open = process.memoryUsage.rss();
  for (const frames of all) frames.close();
  expect(open - process.memoryUsage.rss()).toBeGreaterThan(128 * 1024 * 1024);
});

it("short content has no more memory than it needs, however large a window it names", () => {
  const before = process.memoryUsage.rss();
  const all = Array.from({ length: 1000 }, () => opened(bomb(1, 100)));
  expect(process.memoryUsage.rss() - before).toBeLessThan(96 * 1024 * 1024);
  for (const frames of all) frames.close();
});

it("frames of different windows follow each other", async () => {
  const small = Buffer.concat([Buffer.from("28b52ffd2003", "hex"), Buffer.of(0x19, 0, 0), Buffer.from("abc")]);
  const result = await decode([small, bomb(100), small, bomb(70), small]);
  const bytes = [3, 100 * 131_072, 3, 70 * 131_072, 3];
  expect(result.length).toBe(bytes.reduce((a, b) => a + b));
  expect(Buffer.from(result).subarray(-3).toString()).toBe("abc");
});

it("many at once hold nobody up", async () => {
  const frame = Buffer.concat([
    Buffer.from("28b52ffd0068", "hex"),
    ...Array.from({ length: 40 }, () => Buffer.of(2, 0, 16, 0)),
  ]);
  const busy = () => {
    const until = process.cpuUsage().user + 1_000;
    while (process.cpuUsage().user < until);
  };
  const decoders = Array.from({ length: 20 }, () => zstdDecoder(busy));
  let done = 0;
  for (const decoder of decoders) decoder.write(frame, () => done++);
  let turns = 0;
  // Each block takes a millisecond at least: all of them 800.
  while (done < decoders.length) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  for (const decoder of decoders) decoder.close();
  expect(turns).toBeGreaterThan(20);
});
