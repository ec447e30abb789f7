// Clients that are gone, or as good as gone: their connections close all the same, whatever was under way at that moment.
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type H2Origin, startH2Origin } from "./origins.ts";
import { FRAME, type FrameClient, frame, framesThrough, section } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let origin: H2Origin;
const here = (): string => `127.0.0.1:${origin.port}`;

beforeAll(async () => {
  origin = await startH2Origin((stream, seen) => {
    stream.resume();
    if (seen.headers[":path"] === "/never") return;
    stream.respond({ ":status": 200 });
    const piece = Buffer.alloc(65_536, "x");
    const more = (): void => {
      while (!stream.destroyed && stream.write(piece));
    };
    stream.on("drain", more);
    more();
  }, testCa.leaf("127.0.0.1"));
  house = await startTestHouse({
    roots: testCa.cert,
    policy: `server: { idle-timeout: 20s, header-timeout: 20s }
defaults: { action: allow, limits: { idle: 20s } }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: much, allow: ["https://${here()}/much"], limits: { idle: 1s } }
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function openConnections(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${house.adminPort}/metrics`)).text();
  return Number(/^sallyport_connections\{side="client"\} (\d+)$/m.exec(text)?.[1]);
}

/** Until no client is connected; the milliseconds that it took. */
async function allGone(milliseconds: number): Promise<number> {
  const began = performance.now();
  while ((await openConnections()) > 0) {
    if (performance.now() - began > milliseconds) throw new Error(`still open: ${await openConnections()}`);
    await wait(50);
  }
  return performance.now() - began;
}

/** Connects, sends requests with content, and resets, before anything can have been read of the answers. */
async function hitAndRun(turns: number): Promise<void> {
  const raw = net.connect({ port: house.port, host: "127.0.0.1" });
  raw.on("error", () => {});
  await once(raw, "connect");
  raw.write(`CONNECT ${here()} HTTP/1.1\r\nHost: ${here()}\r\n\r\n`);
  await once(raw, "data");
  const secured = tls.connect({
    socket: raw,
    ca: house.ca,
    ALPNProtocols: ["h2"],
    checkServerIdentity: () => undefined,
  });
  secured.on("error", () => {});
  await once(secured, "secureConnect");
  const session = http2.connect(`https://${here()}`, { createConnection: () => secured });
  session.on("error", () => {});
  for (let i = 0; i < 6; i++) {
    const stream = session.request({ ":method": "POST", ":path": "/never" });
    stream.on("error", () => {});
    stream.write(Buffer.alloc(60_000));
  }
  for (let i = 0; i < turns; i++) await new Promise((done) => setImmediate(done));
  raw.resetAndDestroy();
}

test("who resets inside the first round trip is noticed", async () => {
  const jobs = Array.from({ length: 90 }, (_, i) => i % 6);
  const worker = async (): Promise<void> => {
    for (let turns = jobs.pop(); turns !== undefined; turns = jobs.pop()) await hitAndRun(turns);
  };
  await Promise.all(Array.from({ length: 15 }, worker));
  // Far below every deadline: the connection itself said it.
  await allGone(8_000);
});

const head = (path: string): Buffer =>
  section([
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", here()],
    [":path", path],
  ]);
const setting = (id: number, value: number): Buffer => {
  const b = Buffer.alloc(6);
  b.writeUInt16BE(id);
  b.writeUInt32BE(value, 2);
  return b;
};
const window = (bytes: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(bytes);
  return b;
};

/** Asks for much, and then reads no byte of it: the connection itself is full. */
async function deaf(): Promise<FrameClient> {
  const client = await framesThrough(house.port, here(), house.ca);
  client.send(frame(FRAME.settings, 0, 0, setting(4, 0x7fffffff)), frame(FRAME.window, 0, 0, window(0x7fff0000)));
  await wait(50);
  (client.socket as tls.TLSSocket & { _parent: net.Socket })._parent.pause();
  client.socket.pause();
  for (let id = 1; id < 20; id += 2) client.send(frame(FRAME.headers, 5, id, head("/much")));
  return client;
}

test("who reads nothing at all loses the streams after the idle limit, and then the connection", async () => {
  const client = await deaf();
  const took = await allGone(12_000);
  expect(took).toBeGreaterThan(1_000);
  client.socket.destroy();
  const parent = house.records().findLast((r) => r.kind === "connect")?.id;
  const records = await house.recordsWhere((r) => r.parent === parent, 10);
  for (const r of records) {
    expect(r).toMatchObject({ kind: "exchange", reason: "client-gone" });
    expect(r.received.complete).toBe(false);
  }
});

test("who says GOAWAY and opens streams all the same is refused each of them on the record, and the process lives", async () => {
  const before = house.records().length;
  for (let round = 0; round < 20; round++) {
    const client = await framesThrough(house.port, here(), house.ca);
    // One that stays, so that the session does.
    client.send(frame(FRAME.headers, 4 | 1, 1, head("/never")));
    await client.next((f) => f.type === FRAME.settings && (f.flags & 1) === 1);
    const late = Array.from({ length: 40 }, (_, i) => 3 + 2 * i);
    client.send(
      frame(FRAME.goaway, 0, 0, Buffer.alloc(8)),
      ...late.map((id) => frame(FRAME.headers, 4 | 1, id, head("/late"))),
    );
    // They are above what our GOAWAY names, so it says all.
    const { payload } = await client.next((f) => f.type === FRAME.goaway);
    expect(payload.readUInt32BE()).toBe(1);
    client.send(frame(FRAME.rst, 0, 1, Buffer.from([0, 0, 0, 8])));
    await client.gone();
  }
  await house.recordsWhere((r) => r.reason === "shutting-down", 20 * 40);
  const records = house.records().slice(before);
  expect(records.filter((r) => r.reason === "malformed-request")).toHaveLength(0);
  await allGone(8_000);
});
