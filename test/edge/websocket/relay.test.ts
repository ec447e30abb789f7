// The relay of a WebSocket by itself: bad frames, any cut of the bytes, closings, limits, backpressure.
import { createHash, randomBytes } from "node:crypto";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as wait } from "node:timers/promises";
import zlib from "node:zlib";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Assembly } from "../../../src/edge/websocket/assembly.ts";
import {
  BINARY,
  CLOSE,
  closeCode,
  closePayload,
  frame,
  masked,
  PING,
  PONG,
  type ReadFrame,
  TEXT,
} from "../../support/web-socket.ts";
import { type Rig, type RigOptions, startRig } from "./rig.ts";

const sha256 = (...parts: (string | Buffer)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
const KIB = 1024;
const MIB = KIB * KIB;
const TERMS = {
  serverNoContextTakeover: false,
  clientNoContextTakeover: false,
  serverWindowBits: 15,
  clientWindowBits: 15,
};

const rigs: Rig[] = [];
async function rig(options: RigOptions = {}, reading?: { client: boolean; origin: boolean }): Promise<Rig> {
  const started = await startRig(options, reading);
  rigs.push(started);
  return started;
}
afterEach(async () => {
  for (const started of rigs.splice(0)) await started.close();
});

const isClosed = (frames: ReadFrame[]): boolean => closeCode(frames) !== null;
const deflated = (data: string | Buffer): Buffer =>
  zlib.deflateRawSync(data, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);

describe("frames that end the connection for both", () => {
  const bad = Buffer.from([0xc3, 0x28]);
  const rows: [name: string, bytes: Buffer, code: number, reason: string, options?: RigOptions][] = [
    ["no mask", frame(TEXT, "x"), 1002, "malformed-request"],
    ["RSV1 without an extension", masked(TEXT, "x", { rsv: 4 }), 1002, "malformed-request"],
    ["RSV2", masked(TEXT, "x", { rsv: 2 }), 1002, "malformed-request", { deflate: TERMS }],
    ["RSV3", masked(TEXT, "x", { rsv: 1 }), 1002, "malformed-request", { deflate: TERMS }],
    ["RSV1 on a ping", masked(PING, "x", { rsv: 4 }), 1002, "malformed-request", { deflate: TERMS }],
    [
      "RSV1 on a continuation",
      Buffer.concat([masked(TEXT, deflated("x"), { rsv: 4, fin: false }), masked(0, "x", { rsv: 4 })]),
      1002,
      "malformed-request",
      { deflate: TERMS },
    ],
    ["an unknown opcode", masked(3, "x"), 1002, "malformed-request"],
    ["an unknown control opcode", masked(11, "x"), 1002, "malformed-request"],
    ["a continuation of nothing", masked(0, "x"), 1002, "malformed-request"],
    [
      "a message inside a message",
      Buffer.concat([masked(TEXT, "a", { fin: false }), masked(TEXT, "b")]),
      1002,
      "malformed-request",
    ],
    ["a fragmented ping", masked(PING, "x", { fin: false }), 1002, "malformed-request"],
    ["a ping of 126 bytes", masked(PING, "x".repeat(126)), 1002, "malformed-request"],
    ["a close of one byte", masked(CLOSE, "x"), 1002, "malformed-request"],
    ["close code 1005", masked(CLOSE, closePayload(1005)), 1002, "malformed-request"],
    ["close code 1006", masked(CLOSE, closePayload(1006)), 1002, "malformed-request"],
    ["close code 999", masked(CLOSE, closePayload(999)), 1002, "malformed-request"],
    ["close code 5000", masked(CLOSE, closePayload(5000)), 1002, "malformed-request"],
    [
      "a close reason that is not UTF-8",
      masked(CLOSE, Buffer.concat([closePayload(1000), bad])),
      1007,
      "malformed-request",
    ],
    ["text that is not UTF-8", masked(TEXT, bad), 1007, "malformed-request"],
    [
      "text whose fragments are not UTF-8",
      Buffer.concat([masked(TEXT, bad.subarray(0, 1), { fin: false }), masked(0, bad.subarray(1))]),
      1007,
      "malformed-request",
    ],
    [
      "what is not deflate",
      masked(TEXT, Buffer.from([0xff, 0xff, 0xff]), { rsv: 4 }),
      1007,
      "malformed-request",
      { deflate: TERMS },
    ],
    ["a header of 1 GiB", masked(BINARY, "", { length: 1024 * MIB }), 1009, "request-too-large"],
    ["a header of 2^63 - 1 bytes", Buffer.from("82ff7fffffffffffffff00000000", "hex"), 1009, "request-too-large"],
    [
      "a message over the limit",
      masked(BINARY, Buffer.alloc(11)),
      1009,
      "request-too-large",
      { limits: { request: 10 } },
    ],
    [
      "fragments over the limit",
      Buffer.concat([masked(TEXT, "123456", { fin: false }), masked(0, "78901")]),
      1009,
      "request-too-large",
      { limits: { request: 10 } },
    ],
    [
      "a compressed message over the limit",
      masked(TEXT, deflated("x".repeat(1000)), { rsv: 4 }),
      1009,
      "request-too-large",
      { deflate: TERMS, limits: { request: 999 } },
    ],
    ["anything where nothing is allowed", masked(TEXT, "x"), 1009, "request-too-large", { limits: { request: 0 } }],
    [
      "17 MiB without a limit of the policy",
      Buffer.from(masked(BINARY, "", { length: 16 * MIB + 1 })),
      1009,
      "request-too-large",
    ],
  ];

  test.each(rows)("%s", async (_, bytes, code, reason, options = {}) => {
    const { client, origin, record } = await rig(options);
    client.socket.write(bytes);
    expect(closeCode(await client.until(isClosed))).toBe(code);
    const there = await origin.until(isClosed);
    expect(closeCode(there)).toBe(code);
    expect(there.filter((f) => f.opcode < CLOSE)).toEqual([]);
    await client.gone();
    await origin.gone();
    expect(await record()).toMatchObject({
      decision: "deny",
      reason,
      sent: { messages: 0, complete: false },
      received: { messages: 0, complete: false },
      notes: [`close:proxy:${code}`],
    });
  });

  test("of the origin: masked frames, too much, invalid text", async () => {
    const rows: [Buffer, number, string, string][] = [
      [masked(TEXT, "x"), 1002, "origin-protocol", "allow"],
      [frame(TEXT, bad), 1007, "origin-protocol", "allow"],
      [frame(BINARY, Buffer.alloc(11)), 1009, "response-too-large", "allow"],
    ];
    for (const [bytes, code, reason, decision] of rows) {
      const { client, origin, record } = await rig({ limits: { response: 10 } });
      origin.socket.write(bytes);
      expect(closeCode(await origin.until(isClosed))).toBe(code);
      expect(closeCode(await client.until(isClosed))).toBe(code);
      expect(await record()).toMatchObject({ decision, reason });
    }
  });

  test("more fragments than fit in memory", async () => {
    const { client, origin, record } = await rig();
    const fragments = Buffer.concat(Array.from({ length: 4_000 }, () => masked(0, "x", { fin: false })));
    client.socket.write(masked(TEXT, "x", { fin: false }));
    for (let i = 0; i < 5; i++) client.socket.write(fragments);
    expect(closeCode(await client.until(isClosed))).toBe(1008);
    expect(closeCode(await origin.until(isClosed))).toBe(1008);
    expect((await record()).reason).toBe("malformed-request");
  });

  test("what came before them goes on, what comes after does not", async () => {
    const { client, origin, record } = await rig();
    client.socket.write(Buffer.concat([masked(TEXT, "before"), masked(3, "bad"), masked(TEXT, "after")]));
    const frames = await origin.until(isClosed);
    expect(frames.filter((f) => f.opcode === TEXT).map((f) => f.payload.toString())).toEqual(["before"]);
    expect((await record()).sent).toMatchObject({ messages: 1, bytes: 6, sha256: sha256("before") });
  });
});

describe("what is allowed", () => {
  test("a message of exactly the limit, whole, in fragments, compressed", async () => {
    const { client, origin } = await rig({ limits: { request: 1000 }, deflate: TERMS });
    const text = "x".repeat(1000);
    client.socket.write(masked(TEXT, text));
    client.socket.write(Buffer.concat([masked(TEXT, text.slice(1), { fin: false }), masked(0, "x")]));
    client.socket.write(masked(TEXT, deflated(text), { rsv: 4 }));
    const frames = await origin.until((f) => f.length === 3);
    expect(frames.map((f) => [f.opcode, f.rsv, f.key === null])).toEqual(Array(3).fill([TEXT, 4, false]));
  });

  test("empty fragments, a split character, pings without end", async () => {
    const { client, origin } = await rig();
    const e = Buffer.from("€");
    client.socket.write(
      Buffer.concat([
        masked(TEXT, "", { fin: false }),
        masked(0, e.subarray(0, 1), { fin: false }),
        masked(PING, ""),
        masked(0, e.subarray(1), { fin: false }),
        masked(0, ""),
      ]),
    );
    const frames = await origin.until((f) => f.length === 2);
    expect(frames.map((f) => [f.opcode, f.payload.toString()])).toEqual([
      [PING, ""],
      [TEXT, "€"],
    ]);
    for (let i = 0; i < 20; i++)
      client.socket.write(Buffer.concat(Array.from({ length: 1000 }, () => masked(PING, "p"))));
    await origin.until((f) => f.length === 20_002, 10_000);
  });

  test.each([
    ["with context takeover", TERMS],
    ["without", { ...TERMS, serverNoContextTakeover: true, clientNoContextTakeover: true }],
    ["with small windows", { ...TERMS, serverWindowBits: 9, clientWindowBits: 10 }],
    ["with the smallest windows", { ...TERMS, serverWindowBits: 8, clientWindowBits: 8 }],
  ])("compression %s: each end inflates what it gets", async (_, deflate) => {
    const { client, origin } = await rig({ deflate });
    const bits = Math.max(9, deflate.clientWindowBits);
    const mine = zlib.createDeflateRaw({ windowBits: bits });
    const produced: Buffer[] = [];
    mine.on("data", (chunk: Buffer) => produced.push(chunk));
    const texts = Array.from({ length: 5 }, (_, i) => `the same words again and again ${i % 2} `.repeat(40));
    for (const text of texts) {
      // A window of 256 bytes is more than zlib can promise: stored as it is.
      if (deflate.clientWindowBits === 8) {
        client.socket.write(masked(TEXT, text));
        continue;
      }
      produced.length = 0;
      await new Promise<void>((done) => {
        mine.write(text);
        mine.flush(zlib.constants.Z_SYNC_FLUSH, done);
      });
      client.socket.write(masked(TEXT, Buffer.concat(produced).subarray(0, -4), { rsv: 4 }));
      if (deflate.clientNoContextTakeover) mine.reset();
    }
    const frames = await origin.until((f) => f.length === texts.length);
    expect(await inflateAll(frames, deflate.clientNoContextTakeover, deflate.clientWindowBits)).toEqual(texts);
    if (deflate.clientWindowBits > 8) expect(frames.every((f) => f.rsv === 4)).toBe(true);
    for (const text of texts) origin.socket.write(frame(TEXT, text));
    const back = await client.until((f) => f.length === texts.length);
    expect(await inflateAll(back, deflate.serverNoContextTakeover, deflate.serverWindowBits)).toEqual(texts);
  });
});

/** Inflates as a strict peer does: with the window that was agreed. */
async function inflateAll(frames: readonly ReadFrame[], fresh: boolean, windowBits: number): Promise<string[]> {
  const texts: string[] = [];
  let stream = zlib.createInflateRaw({ windowBits });
  for (const { payload, rsv } of frames) {
    if (rsv === 0) {
      texts.push(payload.toString());
      continue;
    }
    const parts: Buffer[] = [];
    stream.removeAllListeners("data").on("data", (part: Buffer) => parts.push(part));
    await new Promise<void>((done, failed) => {
      stream.once("error", failed);
      stream.write(Buffer.concat([payload, Buffer.from([0, 0, 0xff, 0xff])]));
      stream.flush(() => done());
    });
    texts.push(Buffer.concat(parts).toString());
    if (fresh) stream = zlib.createInflateRaw({ windowBits });
  }
  return texts;
}

// ---- any cut -------------------------------------------------------------------------------------------------------------

interface Sent {
  readonly opcode: number;
  readonly parts: readonly Uint8Array[];
  readonly pings: number;
  readonly compressed: boolean;
}

const ascii = fc.string({ maxLength: 300 }).map((text) => Buffer.from(text));
const message: fc.Arbitrary<Sent> = fc.record({
  opcode: fc.constantFrom(TEXT, BINARY),
  parts: fc.array(ascii, { minLength: 1, maxLength: 4 }),
  pings: fc.nat(2),
  compressed: fc.boolean(),
});

function bytesOf({ opcode, parts, pings, compressed }: Sent): Buffer {
  const out: Buffer[] = [];
  const whole = compressed ? [deflated(Buffer.concat(parts))] : parts;
  whole.forEach((part, i) => {
    if (i > 0) for (let p = 0; p < pings; p++) out.push(masked(PING, `p${p}`));
    out.push(masked(i === 0 ? opcode : 0, part, { fin: i === whole.length - 1, rsv: compressed && i === 0 ? 4 : 0 }));
  });
  return Buffer.concat(out);
}

describe("any cut of the bytes", () => {
  test("gives the same messages, digests and verdict", async () => {
    const rules = [{ block: { text: "forbidden word" } }, { redact: { text: "secret", with: "***" } }];
    // No context takeover, so that the messages can be inflated one by one.
    const deflate = { ...TERMS, serverNoContextTakeover: true, clientNoContextTakeover: true };
    const words = fc.constantFrom("", "secret", "forbidden word", "forbidden ");
    const run = async (bytes: Buffer, cuts: readonly number[], rest: number) => {
      const started = await startRig({ rules, deflate, clientRest: bytes.subarray(0, rest) });
      const places = [...new Set(cuts.map((c) => c % (bytes.length + 1)))]
        .filter((c) => c > rest)
        .sort((a, b) => a - b);
      let from = rest;
      for (const to of [...places, bytes.length]) {
        started.client.socket.write(bytes.subarray(from, to));
        from = to;
        await new Promise((done) => setImmediate(done));
      }
      const frames = await started.origin.until(isClosed);
      started.origin.socket.end(frame(CLOSE, closePayload(1000)));
      const { sent, reason, notes, decision } = await started.record();
      await started.close();
      const messages = frames
        .filter((f) => f.opcode < CLOSE)
        .map((f) => [
          f.opcode,
          (f.rsv ? zlib.inflateRawSync(f.payload, { finishFlush: zlib.constants.Z_SYNC_FLUSH }) : f.payload).toString(),
        ]);
      return { messages, sent, reason, decision, notes: notes.filter((n) => !n.startsWith("close")) };
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 6 }),
        words,
        fc.array(fc.nat(5_000), { maxLength: 12 }),
        fc.nat(200),
        async (messages, word, cuts, rest) => {
          const all = [...messages, { opcode: TEXT, parts: [Buffer.from(`a ${word} b`)], pings: 0, compressed: false }];
          const bytes = Buffer.concat([...all.map(bytesOf), masked(CLOSE, closePayload(1000))]);
          const whole = await run(bytes, [], 0);
          expect(await run(bytes, cuts, Math.min(rest, bytes.length))).toEqual(whole);
          const blocked = word === "forbidden word";
          expect(whole.reason).toBe(blocked ? "content-blocked" : null);
          expect(whole.messages.length).toBe(all.length - (blocked ? 1 : 0));
          const payloads = all.map((m) => Buffer.concat(m.parts));
          expect(whole.sent).toMatchObject({ messages: all.length, sha256: sha256(...payloads) });
        },
      ),
      { numRuns: 40 },
    );
  });

  test("also byte by byte", async () => {
    const { client, origin, record } = await rig();
    const bytes = Buffer.concat([
      masked(TEXT, "a".repeat(130), { fin: false }),
      masked(PONG, "q"),
      masked(0, "b"),
      masked(CLOSE, closePayload(1000)),
    ]);
    for (const byte of bytes) {
      client.socket.write(Buffer.of(byte));
      await new Promise((done) => setImmediate(done));
    }
    const frames = await origin.until(isClosed);
    expect(frames.map((f) => f.opcode)).toEqual([PONG, TEXT, CLOSE]);
    origin.socket.write(frame(CLOSE, closePayload(1000)));
    expect((await record()).sent).toMatchObject({ messages: 1, bytes: 131, complete: true });
  });
});

// ---- content --------------------------------------------------------------------------------------------------------------

describe("content rules", () => {
  test("block closes with 1008 on both sides, and nothing of the message goes on", async () => {
    for (const opcode of [TEXT, BINARY]) {
      const { client, origin, record } = await rig({ rules: [{ block: { text: "malicious_pattern" } }] });
      client.socket.write(
        Buffer.concat([masked(opcode, "fine"), masked(opcode, "a malicious", { fin: false }), masked(0, "_pattern b")]),
      );
      expect(closeCode(await client.until(isClosed))).toBe(1008);
      const there = await origin.until(isClosed);
      expect(closeCode(there)).toBe(1008);
      expect(there.filter((f) => f.opcode === opcode).map((f) => f.payload.toString())).toEqual(["fine"]);
      expect(origin.bytes.length).toBeLessThan(200);
      const got = await record();
      expect(got).toMatchObject({ decision: "deny", rule: "r1", reason: "content-blocked", sent: { messages: 2 } });
      expect(JSON.stringify(got)).not.toContain("malicious_pattern b");
    }
  });

  test("a blocked message of the origin never reaches the client, and is not counted as received", async () => {
    const { client, origin, record } = await rig({ rules: [{ block: { text: "bad" } }] });
    origin.socket.write(Buffer.concat([frame(TEXT, "good"), frame(TEXT, "bad")]));
    const here = await client.until(isClosed);
    expect(here.filter((f) => f.opcode === TEXT).map((f) => f.payload.toString())).toEqual(["good"]);
    expect(await record()).toMatchObject({ received: { messages: 1, sha256: sha256("good"), complete: false } });
  });

  test("a match across two messages closes at the second", async () => {
    const { client, origin, record } = await rig({ rules: [{ block: { text: "malicious_pattern" } }] });
    client.socket.write(Buffer.concat([masked(TEXT, "mali"), masked(TEXT, "cious_pattern")]));
    const there = await origin.until(isClosed);
    expect(there.filter((f) => f.opcode === TEXT).map((f) => f.payload.toString())).toEqual(["mali"]);
    expect((await record()).reason).toBe("content-blocked");
  });

  test("redact changes messages; the digests are of what the client sent and got", async () => {
    const { client, origin, record } = await rig({
      rules: [{ redact: { pattern: "\\b\\d{3}-\\d{2}-\\d{4}\\b", with: "***" } }],
    });
    client.socket.write(masked(TEXT, "x 123-45-6789 y"));
    origin.socket.write(frame(TEXT, "123-45-6789"));
    await origin.until((f) => f.length === 1);
    await client.until((f) => f.length === 1);
    expect(origin.frames[0]?.payload.toString()).toBe("x *** y");
    expect(client.frames[0]?.payload.toString()).toBe("***");
    client.socket.write(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    origin.socket.write(frame(CLOSE, closePayload(1000)));
    const got = await record();
    expect(got).toMatchObject({
      sent: { sha256: sha256("x 123-45-6789 y") },
      received: { sha256: sha256("***"), bytes: 3 },
    });
    expect(got.notes.filter((n) => n.startsWith("content-redacted:r1"))).toHaveLength(2);
  });

  test("report and report mode let pass, and say so", async () => {
    for (const [options, decision] of [
      [{ rules: [{ report: { text: "word" } }] }, "allow"],
      [{ rules: [{ block: { text: "word" } }], mode: "report" }, "would-deny"],
    ] as [RigOptions, string][]) {
      const { client, origin, record } = await rig(options);
      client.socket.write(Buffer.concat([masked(TEXT, "a word"), masked(CLOSE)]));
      await origin.until(isClosed);
      origin.socket.write(frame(CLOSE));
      const got = await record();
      expect(got.decision).toBe(decision);
      expect(got.notes.join()).toContain("content-reported:r1");
      expect(origin.frames[0]?.payload.toString()).toBe("a word");
    }
  });

  test("what is compressed is looked into", async () => {
    const { client, origin, record } = await rig({ rules: [{ block: { text: "malicious_pattern" } }], deflate: TERMS });
    client.socket.write(masked(TEXT, deflated("a malicious_pattern b".repeat(20)), { rsv: 4 }));
    expect(closeCode(await origin.until(isClosed))).toBe(1008);
    expect((await record()).reason).toBe("content-blocked");
  });

  test("a message that was too long to be searched does not open the door for the next", async () => {
    const { client, origin, record } = await rig({
      rules: [{ block: { text: "word" } }],
      scanLimit: 100,
      onUnscannable: "allow",
    });
    client.socket.write(Buffer.concat([masked(TEXT, "x".repeat(101)), masked(TEXT, "a word")]));
    const frames = await origin.until(isClosed);
    expect(frames.map((f) => f.opcode)).toEqual([TEXT, CLOSE]);
    expect((await record()).reason).toBe("content-blocked");
  });

  test("a message over the scan limit follows on-unscannable", async () => {
    for (const onUnscannable of ["deny", "allow"] as const) {
      const { client, origin, record } = await rig({
        rules: [{ block: { text: "word" } }],
        scanLimit: 100,
        onUnscannable,
      });
      client.socket.write(Buffer.concat([masked(TEXT, "x".repeat(101)), masked(CLOSE)]));
      const frames = await origin.until(isClosed);
      expect(frames.filter((f) => f.opcode === TEXT)).toHaveLength(onUnscannable === "allow" ? 1 : 0);
      if (onUnscannable === "allow") origin.socket.write(frame(CLOSE));
      expect((await record()).reason).toBe(onUnscannable === "allow" ? null : "content-blocked");
    }
  });
});

// ---- endings --------------------------------------------------------------------------------------------------------------

describe("endings", () => {
  test("one side that never answers a close frame does not keep the other", async () => {
    const { client, origin, record, open } = await rig();
    client.socket.write(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    await client.gone();
    expect(await record()).toMatchObject({
      reason: null,
      notes: ["close:client:1000", "close-unanswered:origin"],
      sent: { complete: true },
      received: { complete: false },
    });
    expect(closeCode(client.frames)).toBeNull();
    await expect.poll(() => open.size).toBe(0);
  });

  test("messages still pass to a side that has said close, until the other says it too", async () => {
    const { client, origin, record } = await rig();
    client.socket.write(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    origin.socket.write(Buffer.concat([frame(TEXT, "one more"), frame(CLOSE, closePayload(1000))]));
    const frames = await client.until(isClosed);
    expect(frames.map((f) => f.opcode)).toEqual([TEXT, CLOSE]);
    expect(await record()).toMatchObject({ reason: null, received: { messages: 1, complete: true } });
  });

  test("frames after a close frame are nothing", async () => {
    const { client, origin, record } = await rig();
    client.socket.write(Buffer.concat([masked(CLOSE, closePayload(1000)), masked(TEXT, "late")]));
    await origin.until(isClosed);
    origin.socket.write(frame(CLOSE, closePayload(1000)));
    expect(await record()).toMatchObject({ sent: { messages: 0 } });
    expect(origin.frames.map((f) => f.opcode)).toEqual([CLOSE]);
  });

  test("a close and a FIN at once still get the answer", async () => {
    const { client, origin, record } = await rig();
    client.socket.end(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    origin.socket.write(frame(CLOSE, closePayload(1000)));
    await client.until(isClosed);
    expect(await record()).toMatchObject({ reason: null, sent: { complete: true }, received: { complete: true } });
  });

  test("a drain tells both ends 1001", async () => {
    const { client, origin, record, open } = await rig();
    client.socket.write(masked(TEXT, "x"));
    await origin.until((f) => f.length === 1);
    for (const relay of [...open]) relay.drain();
    expect(closeCode(await client.until(isClosed))).toBe(1001);
    expect(closeCode(await origin.until(isClosed))).toBe(1001);
    expect(await record()).toMatchObject({ reason: "shutting-down", decision: "allow", notes: ["close:proxy:1001"] });
    client.socket.end();
    origin.socket.end();
    await expect.poll(() => open.size).toBe(0);
  });

  test("silence for longer than the idle limit ends it with 1001, the total time with 1008", async () => {
    for (const [limits, code] of [
      [{ idle: 100 }, 1001],
      [{ total: 1_500 }, 1008],
    ] as const) {
      const { client, origin, record } = await rig({ limits });
      const ticking = setInterval(() => client.socket.write(masked(PING)), 200);
      if (code === 1001) clearInterval(ticking);
      expect(closeCode(await client.until(isClosed))).toBe(code);
      clearInterval(ticking);
      expect(closeCode(await origin.until(isClosed))).toBe(code);
      expect((await record()).reason).toBe("tunnel-limit");
    }
  });

  test("both connections close soon after the end, also of ends that do nothing", async () => {
    const { client, origin, open } = await rig();
    client.socket.write(masked(3));
    await origin.until(isClosed);
    await expect.poll(() => open.size).toBe(0);
    expect(client.ended || client.closed).toBe(true);
  });

  test("an exchange whose connections are gone already is recorded once", async () => {
    const { sink, open, client, origin } = await rig();
    client.socket.resetAndDestroy();
    origin.socket.resetAndDestroy();
    await expect.poll(() => open.size).toBe(0);
    await wait(50);
    expect(sink.records).toHaveLength(1);
  });
});

// ---- backpressure ---------------------------------------------------------------------------------------------------------

describe("a slow reader", () => {
  test.each(["client", "origin"] as const)("the %s holds up the sender, and memory stays bounded", async (slow) => {
    const started = await rig({}, { client: slow !== "client", origin: slow !== "origin" });
    const { client, origin } = started;
    const [from, to] = slow === "client" ? [origin, client] : [client, origin];
    const data = randomBytes(64 * KIB);
    const one = slow === "client" ? frame(BINARY, data) : masked(BINARY, data);
    const count = 1_600; // 100 MiB
    let taken = 0;
    const write = (): void => {
      if (taken === count) return;
      from.socket.write(one, () => {
        taken++;
        write();
      });
    };
    write();
    await wait(1_000);
    expect(taken * one.length).toBeLessThan(24 * MIB); // what the kernel's buffers of two connections hold, and little more
    let got = 0;
    const hash = createHash("sha256");
    to.socket.on("data", (chunk: Buffer) => {
      got += chunk.length;
      if (slow === "client") hash.update(chunk);
    });
    await expect.poll(() => got).toBe(count * one.length);
    if (slow === "client") {
      const expected = createHash("sha256");
      for (let i = 0; i < count; i++) expected.update(one);
      expect(hash.digest("hex")).toBe(expected.digest("hex"));
    }
  });

  test.each([
    ["unfinished frames", () => masked(BINARY, Buffer.alloc(3 * MIB), { length: 4 * MIB })],
    [
      "fragments",
      () =>
        Buffer.concat(
          Array.from({ length: 30 }, (_, i) => masked(i ? 0 : BINARY, Buffer.alloc(100 * KIB), { fin: false })),
        ),
    ],
    ["compressed fragments", () => masked(BINARY, deflated(Buffer.alloc(3 * MIB)), { rsv: 4, fin: false })],
  ])("%s of many connections: the one that holds most is given up", async (_, unfinished) => {
    const assembly = new Assembly(10 * MIB);
    const deflate = { ...TERMS, clientNoContextTakeover: true };
    const small = await rig({ assembly, deflate });
    small.client.socket.write(masked(TEXT, "x".repeat(1_000), { fin: false }));
    const large = await Promise.all(Array.from({ length: 5 }, () => rig({ assembly, deflate })));
    for (const { client } of large) client.socket.write(unfinished());
    const given = (): Rig[] => large.filter(({ sink }) => sink.records.length > 0);
    await expect.poll(() => given().length).toBe(2); // three times 3 MiB fit
    for (const { client, origin, record } of given()) {
      expect(closeCode(await client.until(isClosed))).toBe(1013);
      expect(closeCode(await origin.until(isClosed))).toBe(1013);
      expect((await record()).reason).toBe("busy");
    }
    small.client.socket.write(masked(0, "!"));
    await small.origin.until((frames) => frames.length === 1);
    // What was held is free again.
    for (const { client } of large) client.socket.resetAndDestroy();
    await expect.poll(() => large.every(({ sink }) => sink.records.length > 0)).toBe(true);
    const next = await Promise.all(Array.from({ length: 3 }, () => rig({ assembly, deflate })));
    for (const { client } of next) client.socket.write(masked(BINARY, Buffer.alloc(3 * MIB)));
    for (const { origin } of next) await origin.until((frames) => frames.length === 1);
  });

  test("a bomb of compressed messages does not pile up", async () => {
    // With so small a window nothing is compressed again: what goes on is as large as it is.
    const deflate = { ...TERMS, clientWindowBits: 8 };
    const { client, origin } = await rig({ deflate }, { client: true, origin: false });
    const bomb = masked(BINARY, deflated(Buffer.alloc(4 * MIB)), { rsv: 4 });
    const count = 48; // 192 MiB
    const before = process.memoryUsage().arrayBuffers;
    let peak = before;
    for (let i = 0; i < count; i++) client.socket.write(bomb);
    for (let i = 0; i < 30; i++) {
      await wait(50);
      peak = Math.max(peak, process.memoryUsage().arrayBuffers);
    }
    expect(peak - before).toBeLessThan(40 * MIB);
    let got = 0;
    origin.socket.on("data", (chunk: Buffer) => {
      got += chunk.length;
    });
    await expect.poll(() => got).toBeGreaterThan(count * 4 * MIB);
  });
});

// ---- long searches ----------------------------------------------------------------------------------------------------------

describe("a message that takes long to search", () => {
  const SECRETS = Array.from({ length: 5 }, (_, i) => ({ name: `s${i}`, value: `a-secret-of-the-house-${i}` }));
  const RULES = { rules: [{ block: { secrets: true, on: "both" } }], secrets: SECRETS };
  /** Nothing but escapes, which are the dearest, and never the same piece twice. */
  const hostile = (bytes: number): Buffer => {
    const unit = Buffer.from("\\u0025\\u0032%255cu0061&amp;#97;=\r\n");
    const text = Buffer.alloc(bytes, unit);
    for (let at = 0; at + 8 < bytes; at += 30_011) text.write(String(at), at);
    return text;
  };

  test("holds nobody else up; what comes after it waits, in order", async () => {
    const { client, origin, record } = await rig(RULES);
    const other = await rig();
    const message = hostile(16 * MIB);
    const frames = [
      masked(BINARY, message),
      masked(PING, "p"),
      masked(TEXT, "after"),
      masked(CLOSE, closePayload(1000)),
    ];
    const arrived = (): boolean => origin.length >= message.length;
    const began = performance.now();
    client.socket.write(Buffer.concat(frames));
    let slowest = 0;
    let answers = 0;
    for (; !arrived() && performance.now() - began < 60_000; answers++) {
      const asked = performance.now();
      other.client.socket.write(masked(TEXT, "?"));
      await expect.poll(() => other.origin.length, { interval: 1 }).toBe((answers + 1) * 7);
      slowest = Math.max(slowest, performance.now() - asked);
    }
    const took = performance.now() - began;
    const there = await origin.until(isClosed);
    expect(there.map((f) => f.opcode)).toEqual([BINARY, PING, TEXT, CLOSE]);
    expect(there[0]?.payload.equals(message)).toBe(true);
    origin.socket.write(frame(CLOSE, closePayload(1000)));
    expect(await record()).toMatchObject({
      reason: null,
      sent: { messages: 2, bytes: message.length + 5, sha256: sha256(message, "after"), complete: true },
    });
    expect(answers).toBeGreaterThan(10);
    // Searched in one go, it would take as long as everything.
    expect(slowest).toBeLessThan(Math.max(500, took / 4));
    expect(took).toBeGreaterThan(slowest * 2);
  });

  test.each(["the client resets", "the origin resets", "the house drains", "the house ends"])(
    "ends well when %s: one record, and the digest is of whole messages",
    async (how) => {
      const { client, origin, record, open, sink } = await rig(RULES);
      const message = hostile(16 * MIB);
      client.socket.write(masked(TEXT, "first"));
      await origin.until((frames) => frames.length === 1);
      client.socket.write(Buffer.concat([masked(BINARY, message), masked(PING, "p")]));
      await expect.poll(() => client.socket.writableLength, { interval: 1 }).toBe(0);
      const loop = monitorEventLoopDelay({ resolution: 1 });
      loop.enable();
      if (how === "the client resets") client.socket.resetAndDestroy();
      else if (how === "the origin resets") origin.socket.resetAndDestroy();
      else for (const relay of [...open]) how === "the house drains" ? relay.drain() : relay.destroy();
      const got = await record();
      loop.disable();
      // A message that had come whole before its sender went is still passed on.
      if (how !== "the client resets") expect(origin.bytes.length).toBeLessThan(MIB);
      expect(got.sent?.messages).toBeLessThanOrEqual(2);
      const counted = got.sent?.messages === 2 ? sha256("first", message) : sha256("first");
      expect(got.sent?.sha256).toBe(counted);
      expect(loop.max / 1e6).toBeLessThan(500);
      for (const far of [client, origin]) far.socket.destroy();
      await expect.poll(() => open.size).toBe(0);
      await wait(100);
      expect(sink.records).toHaveLength(1);
    },
  );

  test("counts among what the house holds", async () => {
    const assembly = new Assembly(10 * MIB);
    const all = await Promise.all(Array.from({ length: 6 }, () => rig({ ...RULES, assembly })));
    for (const { client } of all) client.socket.write(masked(BINARY, hostile(4 * MIB)));
    const refused = (): Rig[] => all.filter(({ sink }) => sink.records[0]?.reason === "busy");
    const passed = (): Rig[] => all.filter(({ origin }) => origin.length > 4 * MIB);
    await expect.poll(() => refused().length + passed().length, { timeout: 60_000 }).toBe(6);
    expect(refused().length).toBeGreaterThan(0);
    expect(passed().length).toBeGreaterThan(0);
  });

  test("and many short ones in one piece are dealt with in turns, in order", async () => {
    const { client, origin } = await rig(RULES);
    const count = 20_000;
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    const sent = Buffer.concat(Array.from({ length: count }, (_, i) => masked(TEXT, String(i))));
    client.socket.write(sent);
    await expect.poll(() => origin.length, { timeout: 60_000 }).toBe(sent.length);
    loop.disable();
    expect(origin.frames.map((f) => f.payload.toString())).toEqual(Array.from({ length: count }, (_, i) => String(i)));
    expect(loop.max / 1e6).toBeLessThan(500);
  });
});

// ---- anything ---------------------------------------------------------------------------------------------------------------

describe("anything at all", () => {
  test("ends with one record, both connections closed, and nothing thrown", async () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(fc.nat(15), fc.nat(7), fc.boolean(), fc.boolean(), fc.uint8Array({ maxLength: 130 }))
        .map(([opcode, rsv, fin, mask, data]) => frame(opcode, data, { rsv, fin, mask })),
      fc
        .tuple(fc.constantFrom(TEXT, BINARY, PING, PONG), fc.boolean(), fc.string({ maxLength: 50 }))
        .map(([opcode, mask, text]) => frame(opcode, text, { mask })),
      fc.string().map((text) => masked(TEXT, deflated(text), { rsv: 4 })),
    );
    const ending = fc.constantFrom("end", "reset", "close", "drain");
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }),
        fc.array(piece, { maxLength: 8 }),
        ending,
        async (out, back, how) => {
          const { client, origin, sink, open, close } = await startRig({ deflate: TERMS, limits: { idle: 10 } });
          for (const bytes of out) client.socket.write(bytes);
          for (const bytes of back) origin.socket.write(bytes);
          await new Promise((done) => setImmediate(done));
          if (how === "drain") for (const relay of [...open]) relay.drain();
          else if (how === "reset") client.socket.resetAndDestroy();
          else if (how === "close") client.socket.end(masked(CLOSE));
          else client.socket.end();
          for (const far of [client, origin]) far.socket.on("end", () => far.socket.end());
          await Promise.all([client.gone(), origin.gone()]);
          await expect.poll(() => open.size, { interval: 2 }).toBe(0);
          expect(sink.records).toHaveLength(1);
          await close();
        },
      ),
      { numRuns: 150 },
    );
  }, 120_000);
});
