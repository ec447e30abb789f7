// The relay of two raw connections by itself, where a moment matters that a whole house cannot be brought to at will.
import net from "node:net";
import { afterEach, expect, test } from "vitest";
import { type BlindEnd, BlindRelay } from "../../../src/edge/proxy/blind-relay.ts";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";
import type { RawConnection } from "../../../src/exchange/sides.ts";

const open: { destroy(): void }[] = [];
const wheel = new TimerWheel((error) => {
  throw error;
});
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
  wheel.close();
});

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

test("what waits to be written when both sides have ended still arrives, however late it is read", async () => {
  const rest = Buffer.alloc(24_000_000, "x"); // more than the system's buffers hold
  const [client, asking] = await pair();
  const [origin, answering] = await pair();
  const ends: BlindEnd[] = [];
  new BlindRelay({
    wheel,
    client: raw(client, rest),
    origin: raw(origin),
    limits: { bytesOut: 1e9, bytesIn: 1e9, idle: 1e9, total: 1e9 },
    digest: false,
    ownBuffer: false,
    done: (end) => ends.push(end),
  });
  answering.end("first to end");
  asking.resume();
  await expect.poll(() => asking.readableEnded).toBe(true);
  asking.end();
  await expect.poll(() => ends).toHaveLength(1);
  expect(origin.writableLength).toBeGreaterThan(0);
  let got = 0;
  answering.on("data", (b) => {
    got += b.length;
  });
  answering.resume();
  await expect.poll(() => answering.readableEnded).toBe(true);
  expect(got).toBe(rest.length);
  expect(ends[0]).toMatchObject({ reason: null, sent: { complete: true }, received: { bytes: 12, complete: true } });
  await expect.poll(() => client.destroyed && origin.destroyed).toBe(true);
});
