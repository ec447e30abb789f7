// The relay of two raw connections by itself, where a moment matters that a whole house cannot be brought to at will.
import { createHash, randomBytes } from "node:crypto";
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { type BlindEnd, type BlindOptions, BlindRelay } from "../../../src/edge/proxy/blind-relay.ts";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";
import type { RawConnection } from "../../../src/exchange/sides.ts";
import { PATIENCE } from "../../support/patience.ts";

const open: { destroy(): void }[] = [];
const wheel = new TimerWheel((error) => {
  throw error;
});
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});
afterAll(() => wheel.close());

/** Both ends of a TCP connection; the second end does not read yet. */
async function pair(): Promise<[near: net.Socket, far: net.Socket]> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const far = new Promise<net.Socket>((resolve) => server.once("connection", resolve));
  const { port } = server.address() as net.AddressInfo;
  const near = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const both: [net.Socket, net.Socket] = [near, await far];
  server.close();
  for (const socket of both) socket.on("error", () => {});
  open.push(...both);
  return both;
}

const raw = (socket: net.Socket, rest = Buffer.alloc(0)): RawConnection => ({
  socket,
  rest,
  read: (take) => {
    socket.on("data", (b) => take(b) || socket.pause());
  },
});

/** A relay of the two; what it says when it ends. */
function joined(
  client: RawConnection,
  origin: RawConnection,
  {
    bytesOut = 1e9,
    idle = 1e9,
    digest = false,
    unseen,
  }: { bytesOut?: number; idle?: number; digest?: boolean; unseen: BlindOptions["unseen"] },
): BlindEnd[] {
  const ends: BlindEnd[] = [];
  const limits = { bytesOut, bytesIn: 1e9, idle, total: 1e9 };
  new BlindRelay({ wheel, client, origin, limits, digest, unseen, done: (end) => ends.push(end) });
  return ends;
}

describe("what waits to be written when both sides have ended", () => {
  /** More than the system's buffers hold. */
  const MUCH = 24_000_000;
  /** Until both have ended; who answers has not read any of it. */
  async function bothEnded(idle: number) {
    const [client, asking] = await pair();
    const [origin, answering] = await pair();
    const ends = joined(raw(client, Buffer.alloc(MUCH, "x")), raw(origin), { unseen: "none", idle });
    answering.end("first to end");
    asking.resume();
    await expect.poll(() => asking.readableEnded).toBe(true);
    asking.end();
    await expect.poll(() => client.readableEnded).toBe(true);
    expect(origin.writableLength).toBeGreaterThan(0);
    return { asking, answering, client, origin, ends };
  }

  test("still arrives, however late it is read", async () => {
    const { answering, client, origin, ends } = await bothEnded(1e9);
    await wait(3_000);
    expect(ends).toEqual([]);
    let got = 0;
    answering.on("data", (b) => (got += b.length)).resume();
    await expect.poll(() => answering.readableEnded).toBe(true);
    expect(got).toBe(MUCH);
    await expect.poll(() => ends).toHaveLength(1);
    expect(ends[0]).toMatchObject({ reason: null, sent: { complete: true }, received: { bytes: 12, complete: true } });
    await expect.poll(() => client.destroyed && origin.destroyed).toBe(true);
  });

  test("still arrives when it is read slowly, for longer than the idle limit", async () => {
    const { answering, ends } = await bothEnded(2_000);
    let got = 0;
    let burst = 0;
    answering.on("data", (b) => {
      got += b.length;
      burst += b.length;
      if (burst < MUCH / 10) return;
      burst = 0;
      answering.pause();
      setTimeout(() => answering.resume(), 500);
    });
    answering.resume();
    await expect.poll(() => answering.readableEnded).toBe(true);
    expect(got).toBe(MUCH);
    await expect.poll(() => ends).toHaveLength(1);
    expect(ends[0]).toMatchObject({ reason: null, sent: { complete: true } });
  });

  test("is a reset for those who do not read it, and complete in no record", async () => {
    const { client, origin, ends } = await bothEnded(1_000);
    // Its other end cannot tell here: libuv reports bytes and a reset behind them as bytes and an end.
    const reset = vi.spyOn(origin, "resetAndDestroy");
    await expect.poll(() => ends).toHaveLength(1);
    expect(ends[0]).toMatchObject({
      reason: "tunnel-limit",
      sent: { complete: false },
      received: { bytes: 12, complete: true },
    });
    expect(reset).toHaveBeenCalled();
    expect([client.destroyed, origin.destroyed]).toEqual([true, true]);
  });

  test("is complete in no record when those who should read it leave", async () => {
    const { answering, ends } = await bothEnded(1e9);
    answering.resetAndDestroy();
    await expect.poll(() => ends).toHaveLength(1);
    expect(ends[0]).toMatchObject({ reason: "origin-incomplete", sent: { complete: false } });
  });
});

test.each(["client", "origin"] as const)(
  "the %s has ended before the two are joined: the other side hears of it",
  async (first) => {
    const [client, asking] = await pair();
    const [origin, answering] = await pair();
    const [near, far, other] = first === "client" ? [client, asking, answering] : [origin, answering, asking];
    near.resume();
    far.end();
    await expect.poll(() => near.readableEnded).toBe(true);
    const ends = joined(raw(client), raw(origin), { unseen: "both" });
    other.resume();
    await expect.poll(() => other.readableEnded).toBe(true);
    other.end("and still answers");
    let text = "";
    far.on("data", (b) => (text += b));
    far.resume();
    await expect.poll(() => ends).toHaveLength(1);
    await expect.poll(() => text).toBe("and still answers");
    expect(ends[0]).toMatchObject({ reason: null, sent: { complete: true }, received: { complete: true } });
  },
);

test.each([
  ["nobody else looks at it", "both", 0],
  ["what the client sends is looked at", "guarded", 30_000_000],
  ["all is looked at", "none", 50_000_000],
] as const)("much passes whole in both directions, however slowly it is read: %s", async (_, unseen, least) => {
  const [client, asking] = await pair();
  const [origin, answering] = await pair();
  const ends = joined(raw(client), raw(origin), { digest: true, unseen });
  let events = 0;
  for (const socket of [client, origin]) socket.on("data", (b) => (events += b.length));
  const [up, down] = [randomBytes(30_000_000), randomBytes(20_000_000)];
  asking.end(up);
  answering.end(down);
  const got = await Promise.all([slowly(answering), slowly(asking)]);
  expect(got).toEqual([digestOf(up), digestOf(down)]);
  await expect.poll(() => ends).toHaveLength(1);
  expect(ends[0]).toMatchObject({
    reason: null,
    sent: { bytes: up.length, sha256: digestOf(up), complete: true },
    received: { bytes: down.length, sha256: digestOf(down), complete: true },
  });
  // What is read past everybody else makes no events.
  expect(events).toBeGreaterThanOrEqual(least);
  expect(events).toBeLessThan(least + 1_000_000);
});

test("a limit that is passed late in a tunnel ends it, and nothing above it passes", async () => {
  const [client, asking] = await pair();
  const [origin, answering] = await pair();
  const ends = joined(raw(client), raw(origin), { bytesOut: 5_000_000, unseen: "both" });
  let got = 0;
  answering.on("data", (b) => (got += b.length)).resume();
  asking.write(Buffer.alloc(20_000_000));
  await expect.poll(() => ends, { timeout: PATIENCE }).toHaveLength(1);
  expect(ends[0]).toMatchObject({ reason: "tunnel-limit", sent: { complete: false } });
  expect(ends[0]?.sent.bytes).toBeGreaterThan(4_000_000);
  await expect.poll(() => answering.destroyed || answering.readableEnded, { timeout: PATIENCE }).toBe(true);
  expect(got).toBeLessThanOrEqual(5_000_000);
});

const digestOf = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

/** Reads to the end with a pause now and then, so that what is sent has to wait. Returns the digest. */
function slowly(socket: net.Socket): Promise<string> {
  const hash = createHash("sha256");
  let pauses = 0;
  socket.on("data", (chunk) => {
    hash.update(chunk);
    if (pauses++ % 10 !== 0 || pauses > 200) return;
    socket.pause();
    setTimeout(() => socket.resume(), 5);
  });
  socket.resume();
  return new Promise((done) => socket.on("end", () => done(hash.digest("hex"))));
}

test("bytes that are read before those in the buffer have left break the tunnel off, and are not taken for others", async () => {
  const [client, asking] = await pair();
  const [origin] = await pair();
  const ends = joined(raw(client), raw(origin), { unseen: "both" });
  asking.write(Buffer.alloc(30_000_000));
  await expect.poll(() => origin.writableLength, { timeout: PATIENCE }).toBeGreaterThan(0);
  client.resume(); // what nobody does while it waits
  await expect.poll(() => ends, { timeout: PATIENCE }).toHaveLength(1);
  expect(ends[0]).toMatchObject({ reason: "internal", sent: { complete: false } });
  expect([client.destroyed, origin.destroyed]).toEqual([true, true]);
});
