// Accepted connections read into one shared buffer. These tests fail on a Node that no longer has what this stands on.
import net from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { afterEach, expect, test, vi } from "vitest";
import { borrowReads } from "../../../src/edge/proxy/borrowed-reads.ts";
import { TestCa } from "../../support/certificates.ts";
import { startEngine } from "../../support/engine.ts";
import { startHttpOrigin } from "../../support/origin.ts";
import { PATIENCE } from "../../support/patience.ts";
import { pause } from "../../support/pause.ts";
import { connectTo } from "../../support/raw-client.ts";

const patient = (holds: () => void) => vi.waitFor(holds, PATIENCE);
const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

/** Both ends of a connection, as a proxy's client and the proxy see it. */
async function pair(kind: "tcp" | "tls"): Promise<[client: net.Socket, accepted: net.Socket]> {
  const { key, cert } = new TestCa("Test").leaf("localhost");
  const server =
    kind === "tcp" ? net.createServer({ allowHalfOpen: true }) : tls.createServer({ key, cert, allowHalfOpen: true });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const far = new Promise<net.Socket>((resolve) =>
    server.once(kind === "tcp" ? "connection" : "secureConnection", resolve),
  );
  const client =
    kind === "tcp"
      ? net.connect(port, "127.0.0.1")
      : tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  const both: [net.Socket, net.Socket] = [client, await far];
  server.close();
  for (const socket of both) socket.on("error", () => {});
  open.push(...both);
  return both;
}

/** What was read, and the buffers that it lay in. */
function reader(socket: net.Socket) {
  const seen = { text: "", buffers: new Set<Buffer>(), ended: false, events: "" };
  const giveBack = borrowReads(socket, (n, shared) => {
    seen.buffers.add(shared);
    seen.text += shared.toString("latin1", 0, n);
    return true;
  });
  socket.on("data", (b: Buffer) => {
    seen.events += b.toString("latin1");
  });
  socket.on("end", () => {
    seen.ended = true;
  });
  return { seen, giveBack };
}

test.each(["tcp", "tls"] as const)("connections over %s read into the same buffer, and end", async (kind) => {
  const [a, first] = await pair(kind);
  const [b, second] = await pair(kind);
  const one = reader(first);
  const two = reader(second);
  expect(one.giveBack).not.toBeNull();
  a.write("of the first");
  b.write("of the second");
  await patient(() => expect([one.seen.text, two.seen.text]).toEqual(["of the first", "of the second"]));
  expect(new Set([...one.seen.buffers, ...two.seen.buffers]).size).toBe(1);
  a.end();
  b.end();
  await patient(() => expect([one.seen.ended, two.seen.ended]).toEqual([true, true]));
  expect(one.seen.events + two.seen.events).toBe("");
});

test.each(["tcp", "tls"] as const)(
  "who pauses a connection over %s gets no more until it goes on, and then all",
  async (kind) => {
    const [client, accepted] = await pair(kind);
    let bytes = 0;
    let paused = false;
    let late = 0;
    borrowReads(accepted, (n, shared) => {
      for (let i = 0; i < n; i++) if (shared[i] !== (bytes + i) % 251) throw new Error(`another byte at ${bytes + i}`);
      bytes += n;
      // What TLS has decrypted already may still come; what lies in the system's buffers must not.
      if (paused) late += n;
      paused = true;
      accepted.pause();
      return true;
    });
    accepted.on("data", () => {});
    const all = Buffer.alloc(8_000_000).map((_, i) => i % 251);
    client.end(all);
    await patient(() => expect(bytes).toBeGreaterThan(0));
    await pause(200);
    expect(late).toBeLessThan(200_000);
    while (bytes < all.length) {
      paused = false;
      accepted.resume();
      await new Promise(setImmediate);
    }
    expect(bytes).toBe(all.length);
  },
);

test.each(["tcp", "tls"] as const)(
  "after it is given back, a connection over %s makes events like every other",
  async (kind) => {
    const [client, accepted] = await pair(kind);
    const { seen, giveBack } = reader(accepted);
    client.write("borrowed");
    await patient(() => expect(seen.text).toBe("borrowed"));
    giveBack?.();
    client.write("owned");
    await patient(() => expect(seen.events).toBe("owned"));
    accepted.pause();
    client.end("x".repeat(300_000));
    await pause(100);
    expect(seen.events.length).toBeLessThan(300_000);
    accepted.resume();
    await patient(() => expect(seen.ended).toBe(true));
    expect(seen.events.length).toBe(300_005);
    expect(seen.text).toBe("borrowed");
  },
);

test("what is no connection of the system is left as it is", () => {
  const stream = new Duplex({ read() {}, write: (_, __, done) => done() });
  expect(borrowReads(stream, () => true)).toBeNull();
});

test("requests in pieces, of many clients between each other, keep their bytes", async () => {
  const engine = await startEngine({
    policy: "version: 1\nnetwork: { allow: [127.0.0.0/8] }\ndefaults: { action: allow }\n",
  });
  const origin = await startHttpOrigin((request, response) => request.pipe(response));
  const clients = await Promise.all(Array.from({ length: 8 }, () => connectTo(engine.port)));
  try {
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
    const contents = clients.map((_, i) => String(i).repeat(501 + i));
    const requests = contents.map(
      (content, i) =>
        `POST http://127.0.0.1:${origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\nX-Who: ${"abcdefgh"[i]?.repeat(300)}\r\n` +
        `Transfer-Encoding: chunked\r\n\r\n${chunk(content.slice(0, 500))}${chunk(content.slice(500))}0\r\n\r\n`,
    );
    // 97 bytes of each in turn: every head and every chunk is cut, and what waits of one lies where the next one is read.
    for (let at = 0; requests.some((r) => at < r.length); at += 97) {
      for (const [i, client] of clients.entries()) client.send((requests[i] as string).slice(at, at + 97));
      await pause(3);
    }
    for (const [i, client] of clients.entries()) {
      expect(await client.response()).toMatchObject({ status: 200, content: contents[i] });
    }
  } finally {
    for (const client of clients) client.destroy();
    await origin.close();
    await engine.close();
  }
});
