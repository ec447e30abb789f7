// Bodies that are dear to search: each waits for its turn, nobody else waits for it.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import zlib from "node:zlib";
import { describe, expect, it } from "vitest";
import { contentDecoders } from "../../src/edge/content/decoders.ts";
import type { BodyNext } from "../../src/exchange/stage.ts";
import type { Turns, Work } from "../../src/exchange/turns.ts";
import { contentStage } from "../../src/stages/content.ts";
import { bytewise, cut, drive, exchange, type Setup, stage } from "./content-harness.ts";

const MIB = 1024 * 1024;
const SECRET = "a-secret-of-the-house";
const ESCAPED = [...SECRET].map((c) => `\\u00${c.charCodeAt(0).toString(16)}`).join("");
const RULES: Setup = { rules: [{ block: { secrets: true } }], secrets: [{ name: "s", value: SECRET }] };
/** What holding a loop up means here: a machine that is busy with other tests does so for a while by itself. */
const LONG = 400;

/** Nothing but escapes, and never the same piece twice. */
function hostile(bytes: number): Buffer {
  const text = Buffer.alloc(bytes, "\\u0025\\u0032%255cu0061&amp;#97;=\r\n");
  for (let at = 0; at + 8 < bytes; at += 30_011) text.write(String(at), at);
  return text;
}
const chunks = (body: Buffer): Buffer[] =>
  Array.from({ length: Math.ceil(body.length / 65_536) }, (_, i) => body.subarray(i * 65_536, (i + 1) * 65_536));
const planOf = (setup: Setup) => stage.requestStep?.(exchange(setup)) ?? null;

/** The longest that the event loop was held up meanwhile, in milliseconds. */
async function heldUp(work: () => Promise<unknown>): Promise<number> {
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  // What comes before its first tick is not seen.
  await wait(20);
  await work();
  await wait(5);
  loop.disable();
  return loop.max / 1e6;
}

describe("bodies that are dear to search", () => {
  it("hold nobody up, many at once, and come out as they went in", async () => {
    const body = hostile(2 * MIB);
    const bad = Buffer.concat([body, Buffer.from(ESCAPED)]);
    const outcomes: Promise<unknown>[] = [];
    const longest = await heldUp(async () => {
      for (let i = 0; i < 8; i++) {
        const outcome = drive(planOf(RULES), chunks(i % 2 === 0 ? body : bad));
        outcomes.push(outcome.then(({ out, error }) => [out.equals(body), error?.reason ?? null]));
      }
      await Promise.all(outcomes);
    });
    const results = await Promise.all(outcomes);
    expect(results.filter((_, i) => i % 2 === 0)).toEqual(Array.from({ length: 4 }, () => [true, null]));
    expect(results.filter((_, i) => i % 2 === 1)).toEqual(Array.from({ length: 4 }, () => [false, "content-blocked"]));
    expect(longest).toBeLessThan(LONG);
  });

  it("hold nobody up where all of a large body is held", async () => {
    const body = hostile(12 * MIB);
    const setup = { ...RULES, hold: 16 * MIB };
    const longest = await heldUp(async () => {
      const { out, error } = await drive(planOf(setup), chunks(body));
      expect([out.equals(body), error]).toEqual([true, null]);
    });
    expect(longest).toBeLessThan(LONG);
    const { out, error } = await drive(planOf(setup), chunks(Buffer.concat([body, Buffer.from(ESCAPED)])));
    expect([out.length, error?.reason]).toEqual([0, "content-blocked"]);
  });

  it("of thousands of tiny events hold nobody up", async () => {
    const events = Buffer.alloc(MIB, "data: 1\n\n:\n\n");
    const x = exchange({ ...RULES, rules: [{ block: { secrets: true, on: "both" } }] });
    const fields = ["content-type", "text/event-stream"];
    const plan = stage.responseStep?.(x, { status: 200, phrase: "OK", fields }) ?? null;
    const longest = await heldUp(async () => {
      const { out, error } = await drive(plan, chunks(events));
      expect([out.equals(events), error]).toEqual([true, null]);
    });
    expect(longest).toBeLessThan(LONG);
  });

  it("of thousands of tiny events in gzip hold nobody up", async () => {
    const events = Buffer.alloc(MIB, "data: 1\n\n:\n\n");
    for (let at = 0; at + 8 < events.length; at += 301) events.write(`:${at}`, at);
    const x = exchange({ ...RULES, rules: [{ block: { secrets: true, on: "both" } }] });
    const fields = ["content-type", "text/event-stream", "content-encoding", "gzip"];
    const plan = stage.responseStep?.(x, { status: 200, phrase: "OK", fields }) ?? null;
    const coded = zlib.gzipSync(events);
    const longest = await heldUp(async () => {
      const { out, error } = await drive(plan, chunks(coded));
      expect([out.equals(coded), error]).toEqual([true, null]);
    });
    expect(longest).toBeLessThan(LONG);
  });

  it("are dropped when they are given up while they wait, and nothing is called any more", async () => {
    const calls: string[] = [];
    const next: BodyNext = {
      write: () => calls.push("write") > 0,
      end: () => calls.push("end"),
      fail: () => calls.push("fail"),
      drained: () => calls.push("drained"),
    };
    const steps = Array.from({ length: 10 }, () => planOf(RULES)?.open(next));
    const waiting = steps.filter((step) => step?.write(hostile(MIB)) === false);
    expect(waiting.length).toBeGreaterThan(5);
    for (const step of waiting) step?.end(null);
    for (const step of steps) step?.abort();
    calls.length = 0;
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    expect(calls).toEqual([]);
  });

  it("end when their end came while they waited, after everything that came before it", async () => {
    const body = hostile(MIB);
    const [first, second] = [body.subarray(0, MIB / 2), body.subarray(MIB / 2)];
    const others = Array.from({ length: 5 }, () => drive(planOf(RULES), [hostile(MIB)]));
    const out: Buffer[] = [];
    await new Promise<void>((done, failed) => {
      const step = planOf(RULES)?.open({
        write: (chunk) => out.push(Buffer.from(chunk)) > 0,
        end: () => done(),
        fail: failed,
        drained: () => {},
      });
      const lent = Buffer.from(first);
      expect(step?.write(lent)).toBe(false);
      lent.fill(0);
      // Some had been on their way.
      expect(step?.write(second)).toBe(false);
      step?.end(null);
    });
    expect(Buffer.concat(out).equals(body)).toBe(true);
    await Promise.all(others);
  });
});

/** Has time for one step in each turn of the event loop, and for none at once. */
const lateTurns: Turns = {
  take(work: Work): void {
    setImmediate(() => {
      if (work.step()) lateTurns.take(work);
    });
  },
};

describe("where there is never any time at once", () => {
  const late = contentStage({ decoders: contentDecoders, turns: lateTurns });
  const CODINGS: [string, (plain: Buffer) => Buffer][] = [
    ["identity", (plain) => plain],
    ["gzip", (plain) => zlib.gzipSync(plain)],
    ["br", (plain) => zlib.brotliCompressSync(plain, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 3 } })],
    ["deflate, gzip", (plain) => zlib.gzipSync(zlib.deflateSync(plain))],
    // RFC 8878 section 3.1.1: a frame of raw blocks.
    ["zstd", (plain) => zstdOf(plain)],
  ];
  const text = hostile(200_000);
  const bad = Buffer.concat([text, Buffer.from(ESCAPED), text]);
  const NEEDLE = "needle-in-it";
  const marked = Buffer.concat([text, Buffer.from(NEEDLE), text]);
  const SECRETS = { block: { secrets: true } };

  it.each(CODINGS)("the same leaves, and the same is blocked, in %s", async (coding, encode) => {
    for (const slow of [false, true])
      for (const [rule, plain, expected] of [
        [SECRETS, text, null],
        [SECRETS, bad, "content-blocked"],
        [{ redact: { text: NEEDLE } }, marked, null],
        [{ report: { text: NEEDLE } }, marked, null],
      ] as const) {
        const coded = encode(plain);
        for (const pieces of [
          chunks(coded),
          cut(coded, [1, 70_001, 100, 33_333]),
          [...bytewise(coded.subarray(0, 300)), coded.subarray(300)],
        ]) {
          const setup = { ...RULES, rules: [rule], fields: ["content-encoding", coding] };
          const outcomes = [];
          for (const one of [stage, late])
            outcomes.push(await drive(one.requestStep?.(exchange(setup)) ?? null, pieces, { slow: () => slow }));
          const [atOnce, later] = outcomes.map(({ out, error }) => [out.toString("latin1"), error?.reason ?? null]);
          expect(later?.[1]).toBe(expected);
          expect(atOnce?.[1]).toBe(expected);
          if (expected === null) expect(later?.[0] === atOnce?.[0]).toBe(true);
          else expect(later?.[0]?.includes(ESCAPED)).toBe(false);
          if ("redact" in rule) expect(later?.[0] === `${text}[redacted]${text}`).toBe(true);
        }
      }
  });

  it.each(CODINGS.slice(1, 4))(
    "no coded piece leaves before all that it yields was searched, in %s",
    async (coding, encode) => {
      const coded = encode(
        Buffer.concat([Buffer.alloc(900_000, "a b c d\\n"), Buffer.from(ESCAPED), Buffer.alloc(100, " ")]),
      );
      expect(coded.length).toBeLessThan(8_000);
      const setup = { ...RULES, fields: ["content-encoding", coding] };
      const { out, error } = await drive(late.requestStep?.(exchange(setup)) ?? null, [coded]);
      expect([out.length, error?.reason]).toEqual([0, "content-blocked"]);
    },
  );
});

function zstdOf(plain: Buffer): Buffer {
  const blocks: Buffer[] = [Buffer.from("28b52ffd0038", "hex")];
  for (let at = 0; at < plain.length; at += 100_000) {
    const block = plain.subarray(at, at + 100_000);
    const header = Buffer.alloc(3);
    header.writeUIntLE((block.length << 3) | (at + 100_000 >= plain.length ? 1 : 0), 0, 3);
    blocks.push(header, block);
  }
  return Buffer.concat(blocks);
}
