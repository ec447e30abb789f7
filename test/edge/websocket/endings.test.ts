// The ends of a WebSocket that take time: answers that never come, readers that are slow, connections that are gone.
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import zlib from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import {
  BINARY,
  CLOSE,
  closeCode,
  closePayload,
  frame,
  masked,
  PING,
  type ReadFrame,
  TEXT,
} from "../../support/web-socket.ts";
import { type Rig, type RigOptions, startRig } from "./rig.ts";

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

describe("a side that never answers a close frame and goes on talking", () => {
  const talking = async (times: RigOptions["times"], leaves: boolean): Promise<Rig> => {
    const started = await rig({ times: times ?? {} });
    const { client, origin } = started;
    const ticks = setInterval(() => origin.socket.write(frame(TEXT, "tick")), 100);
    client.socket.write(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    if (leaves) client.socket.destroy();
    await expect.poll(() => started.sink.records.length, { timeout: 20_000 }).toBe(1);
    clearInterval(ticks);
    return started;
  };

  test("is left at once when the other is gone", async () => {
    const { record, open } = await talking({ answer: 3_600_000, longestAnswer: 3_600_000 }, true);
    expect(await record()).toMatchObject({
      reason: null,
      notes: ["close:client:1000", "close-unanswered:origin"],
      sent: { complete: true },
      received: { complete: false },
    });
    await expect.poll(() => open.size, { timeout: 10_000 }).toBe(0);
  });

  test("is left after a while when the other waits", async () => {
    const { client, record } = await talking({ answer: 3_600_000, longestAnswer: 1_500 }, false);
    await client.gone();
    expect(await record()).toMatchObject({ notes: ["close:client:1000", "close-unanswered:origin"] });
  });
});

test("what a side sent before it was gone is still dealt with first", async () => {
  const { client, origin, record } = await rig({ times: { answer: 500 } });
  client.socket.write(Buffer.concat([masked(TEXT, "last"), masked(CLOSE, closePayload(1000))]));
  client.socket.destroySoon();
  await wait(50);
  origin.socket.write(frame(TEXT, "too late"));
  expect((await origin.until(isClosed)).map((f) => f.opcode)).toEqual([TEXT, CLOSE]);
  await origin.gone();
  expect(await record()).toMatchObject({ reason: null, sent: { messages: 1, complete: true } });
});

describe("a large message, and a close", () => {
  const message = frame(BINARY, randomBytes(16_000_000));
  const said = Buffer.concat([message, frame(CLOSE, closePayload(1000))]);
  const MIB = 1024 * 1024;

  /** Reads steadily, and returns how much it was. */
  async function read({ client }: Rig, perSecond: number, most: number): Promise<number> {
    let got = 0;
    let wanted = 0;
    for (let tick = 0; got < most && !client.ended && !client.closed && tick < 400; tick++) {
      await wait(25);
      wanted += perSecond / 40;
      for (let chunk: Buffer | null = client.socket.read(); chunk !== null; chunk = client.socket.read()) {
        got += chunk.length;
        if (got >= wanted) break;
      }
    }
    return got;
  }

  test.each([
    ["who owes the answer", false],
    ["who has said close itself", true],
  ])(
    "reach who reads slowly but steadily: %s",
    async (_, first) => {
      const started = await rig({ times: { answer: 300, unread: 2_500 } }, { client: false, origin: true });
      const { client, origin, record } = started;
      if (first) client.socket.write(masked(CLOSE, closePayload(1000)));
      if (first) await origin.until(isClosed);
      origin.socket.write(said);
      expect(await read(started, 2.5 * MIB, said.length)).toBe(said.length);
      expect(await record()).toMatchObject({
        reason: null,
        sent: { complete: first },
        received: { complete: true, messages: 1, bytes: 16_000_000 },
      });
    },
    40_000,
  );

  test("are not complete for who stops to read", async () => {
    const started = await rig({ times: { answer: 300, unread: 1_000 } }, { client: false, origin: true });
    started.origin.socket.write(said);
    await started.origin.gone();
    expect(await started.record()).toMatchObject({
      reason: null,
      notes: ["close:origin:1000", "close-unanswered:client"],
      received: { complete: false, messages: 1 },
    });
    started.client.read();
    await started.client.gone();
    expect(started.client.length).toBeLessThan(said.length);
    await expect.poll(() => started.open.size, { timeout: 10_000 }).toBe(0);
  }, 40_000);

  test("are not complete when the house ends, or the rule's total time", async () => {
    for (const total of [2_000, null]) {
      const limits = total === null ? {} : { limits: { total } };
      const started = await rig(limits, { client: false, origin: true });
      started.client.socket.write(masked(CLOSE, closePayload(1000)));
      await started.origin.until(isClosed);
      started.origin.socket.write(said);
      await wait(500);
      expect(started.sink.records).toEqual([]);
      if (total === null) for (const relay of [...started.open]) relay.destroy();
      expect(await started.record()).toMatchObject({
        reason: total === null ? null : "tunnel-limit",
        sent: { complete: true },
        received: { complete: false, messages: 1 },
      });
      await expect.poll(() => started.open.size, { timeout: 10_000 }).toBe(0);
    }
  }, 40_000);
});

test("what had come before a reset is read with the context that it was compressed in", async () => {
  const terms = { serverNoContextTakeover: false, clientNoContextTakeover: false };
  const deflate = { ...terms, serverWindowBits: 15, clientWindowBits: 15 };
  const compressor = zlib.createDeflateRaw();
  const words = randomBytes(3_000).toString("base64");
  const frames: Buffer[] = [];
  for (let i = 0; i < 600; i++) {
    compressor.write(words + i);
    await new Promise<void>((done) => compressor.flush(zlib.constants.Z_SYNC_FLUSH, done));
    frames.push(frame(TEXT, (compressor.read() as Buffer).subarray(0, -4), { rsv: 4 }));
  }
  // The client's way is full after the first one: the others wait.
  const originRest = Buffer.concat([frame(BINARY, randomBytes(12_000_000)), ...frames]);
  const { client, origin, record } = await rig({ deflate, originRest }, { client: false, origin: true });
  await wait(500);
  origin.socket.resetAndDestroy();
  // Who writes to it learns of the reset.
  for (let i = 0; i < 2; i++) {
    client.socket.write(masked(PING));
    await wait(100);
  }
  client.read();
  const end = await record();
  expect(end).toMatchObject({ reason: "origin-incomplete", received: { messages: 601, complete: false } });
});
