// What leaves through a socket is what was given, in order, however slowly the other side reads.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { Duplex } from "node:stream";
import { finished } from "node:stream/promises";
import { expect, test } from "vitest";
import { Outgoing } from "../../../src/edge/proxy/outgoing.ts";

async function pair(): Promise<{ near: net.Socket; far: net.Socket; close(): void }> {
  const server = net.createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const near = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [[far]] = (await Promise.all([once(server, "connection"), once(near, "connect")])) as [[net.Socket], unknown];
  return {
    near,
    far,
    close: () => {
      near.destroy();
      far.destroy();
      server.close();
    },
  };
}

/** Gives pieces until there is no room; waits; until `total` bytes were given. Returns their digest. */
async function give(out: Outgoing, drained: () => Promise<void>, total: number, piece: number): Promise<string> {
  const hash = createHash("sha256");
  for (let given = 0; given < total; given += piece) {
    const bytes = randomBytes(piece);
    hash.update(bytes);
    if (!out.bytes(bytes, 0, piece)) await drained();
  }
  return hash.digest("hex");
}

test.each([
  ["short pieces", 700, 24_000_000],
  ["pieces of a record and more", 40_000, 24_000_000],
  ["pieces larger than a slab", 300_000, 24_000_000],
])("%s arrive whole and in order, also where nobody reads for a while", async (_, piece, total) => {
  const { near, far, close } = await pair();
  let tell = (): void => {};
  const out = new Outgoing(near, { outgoingDrained: () => tell() });
  const blocked: number[] = [];
  const drained = (): Promise<void> =>
    new Promise((resolve) => {
      blocked.push(near.writableLength);
      tell = resolve;
      far.resume();
    });
  const hash = createHash("sha256");
  far.on("data", (b: Buffer) => hash.update(b)).pause();
  try {
    const sent = await give(out, drained, Math.ceil(total / piece) * piece, piece);
    far.resume();
    out.end();
    await finished(far, { writable: false });
    expect(hash.digest("hex")).toBe(sent);
    expect(out.idle).toBe(true);
    // It had to wait at least once, and then held no more than two slabs and what the last piece was larger.
    expect(blocked.length).toBeGreaterThan(0);
    expect(Math.max(...blocked)).toBeLessThan(2 * 131_072 + piece + 131_072);
  } finally {
    close();
  }
});

test("what the system took at once has left: nothing is in flight, and the next piece leaves at once too", async () => {
  const { near, far, close } = await pair();
  try {
    const out = new Outgoing(near, { outgoingDrained: () => {} });
    out.text("one ");
    out.flush();
    expect(out.idle).toBe(true);
    out.text("two");
    out.flush();
    expect([out.idle, near.writableLength]).toEqual([true, 0]);
    far.resume();
    const [got] = (await once(far, "data")) as [Buffer];
    expect(got.toString()).toBe("one two");
  } finally {
    close();
  }
});

test("a head that waits for its content leaves at the end of the turn, and not before", async () => {
  const { near, far, close } = await pair();
  try {
    const out = new Outgoing(near, { outgoingDrained: () => {} });
    out.text("head ");
    out.arm();
    expect([out.idle, near.bytesWritten]).toEqual([false, 0]);
    out.text("and more");
    await new Promise((resolve) => setImmediate(resolve));
    expect([out.idle, near.bytesWritten]).toEqual([true, 13]);
    far.resume();
    expect(String((await once(far, "data"))[0])).toBe("head and more");
  } finally {
    close();
  }
});

test("a connection that cannot be written to costs nobody else what leaves at the end of the turn", async () => {
  const { near, far, close } = await pair();
  const failing = new Duplex({ read() {} });
  failing.write = () => {
    throw new Error("no writing here");
  };
  const failed = once(failing, "error");
  const first = new Outgoing(failing, { outgoingDrained: () => {} });
  const second = new Outgoing(near, { outgoingDrained: () => {} });
  try {
    for (const out of [first, second]) {
      out.text("at the end of the turn");
      out.arm();
    }
    far.resume();
    expect(String(await once(far, "data"))).toBe("at the end of the turn");
    expect(String(await failed)).toContain("no writing here");
  } finally {
    close();
  }
});
