// Floods (pitfalls T3): the one who floods is sent away, others are served, memory stays bounded.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { AbuseCounter } from "../../../../src/edge/proxy/h2/abuse.ts";
import type { Log } from "../../../../src/shared/log.ts";
import { selfSigned, TestCa } from "../../../support/certificates.ts";
import { connectOver, proxySession } from "../../../support/h2-proxy.ts";
import { OPEN_POLICY, startTestHouse, type TestHouse } from "../../../support/house.ts";
import { pause } from "../../../support/pause.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, FRAME, FrameClient, frame, framesThrough, section, sessionThrough } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let origin: H2Origin;
const here = (): string => `127.0.0.1:${origin.port}`;

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  const answer = answering({}, "ok");
  origin = await startH2Origin((stream, seen, n) => {
    if (seen.headers[":path"] !== "/never") answer(stream, seen, n);
    else stream.resume();
  }, testCa.leaf("127.0.0.1"));
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

const get = (id: number, path = "/never", flags = 5): Buffer =>
  frame(
    FRAME.headers,
    flags,
    id,
    section([
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", here()],
      [":path", path],
    ]),
  );
const code = (value: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(value);
  return b;
};

/** Sends pieces until the proxy has had enough, at most `most` of them. */
async function flood(client: FrameClient, piece: (i: number) => Buffer, most: number): Promise<number> {
  for (let i = 0; i < most && !client.closed; i++) {
    client.send(piece(i));
    if (i % 50 === 49) await new Promise((done) => setImmediate(done));
  }
  await client.gone();
  return client.frames.filter((f) => f.type === FRAME.goaway).map((f) => f.payload.readUInt32BE(4))[0] ?? -1;
}

describe("a flood ends the connection, and others are served meanwhile", () => {
  test.each([
    ["rapid reset", (i: number) => Buffer.concat([get(2 * i + 1), frame(FRAME.rst, 0, 2 * i + 1, code(8))]), 5_000],
    ["PING", () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)), 20_000],
    ["SETTINGS", () => frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0])), 20_000],
    ["bad heads", (i: number) => get(2 * i + 1, "no slash"), 5_000],
    ["bad heads beside a good one", (i: number) => get(2 * i + 1, i === 0 ? "/never" : "no slash"), 5_000],
    [
      "CONTINUATION",
      (i: number) =>
        i === 0 ? get(1, "/x", 1) : frame(FRAME.continuation, 0, 1, section([[`x-${i}`, "y".repeat(1_000)]])),
      20_000,
    ],
    ["empty DATA", (i: number) => (i === 0 ? post(1) : frame(FRAME.data, 0, 1)), 20_000],
  ] as const)("%s", async (_what, piece, most) => {
    const other = await sessionThrough(house.port, here(), house.ca);
    await ask(other, { ":path": "/warm" });
    const before = process.memoryUsage().rss;
    const client = await framesThrough(house.port, here(), house.ca);
    const flooding = flood(client, piece, most);
    const began = performance.now();
    expect((await ask(other, { ":path": "/other" })).status).toBe(200);
    expect(performance.now() - began).toBeLessThan(10_000);
    await flooding;
    expect((await ask(other, { ":path": "/after" })).status).toBe(200);
    expect(process.memoryUsage().rss - before).toBeLessThan(96 * 1024 * 1024);
    other.close();
    client.socket.destroy();
  });
});

const post = (id: number): Buffer =>
  frame(
    FRAME.headers,
    4,
    id,
    section([
      [":method", "POST"],
      [":scheme", "https"],
      [":authority", here()],
      [":path", "/never"],
    ]),
  );

test("a thousand streams at once: a hundred are taken, the rest is refused", async () => {
  const client = await framesThrough(house.port, here(), house.ca);
  client.send(...Array.from({ length: 1_000 }, (_, i) => get(2 * i + 1)));
  await client.next((f) => f.type === FRAME.rst || f.type === FRAME.goaway);
  await new Promise((done) => setTimeout(done, 300));
  const opened = origin.seen.filter((s) => s.headers[":path"] === "/never" && s.code === null).length;
  expect(opened).toBeLessThanOrEqual(100);
  client.socket.destroy();
});

test("too much of one kind within ten seconds, and no more after", () => {
  const counter = new AbuseCounter();
  for (let i = 0; i < 50; i++) expect(counter.add("settings", 1)).toBe(false);
  expect(counter.add("ping", 1)).toBe(false);
  expect(counter.add("settings", 9_999)).toBe(true);
  expect(counter.add("settings", 20_002)).toBe(false);
});

describe("heads that are refused, each reset in the same breath, are counted", () => {
  const refusedAndReset = (i: number): Buffer =>
    Buffer.concat([
      frame(
        FRAME.headers,
        4,
        2 * i + 1,
        section([
          [":method", "FROB"],
          [":scheme", "https"],
          [":authority", here()],
          [":path", "/"],
        ]),
      ),
      frame(FRAME.rst, 0, 2 * i + 1, code(8)),
    ]);

  test.each(["a connection of HTTP/1.1", "a stream of HTTP/2"])("inside a CONNECT on %s", async (where) => {
    const dir = mkdtempSync(join(tmpdir(), "sallyport-h2-abuse-"));
    const proxy = selfSigned("proxy.test");
    writeFileSync(join(dir, "cert.pem"), proxy.cert);
    writeFileSync(join(dir, "key.pem"), proxy.key);
    const own = await startTestHouse({
      roots: testCa.cert,
      policy: `server: { tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true } }\n${OPEN_POLICY}`,
    });
    const errors = vi.spyOn((own.house as unknown as { log: Log }).log, "error");
    const session = await proxySession(own.port);
    const socket = where.endsWith("HTTP/2")
      ? (await connectOver(session, here())).stream
      : await connectOverHttp1(own.port, here());
    const secured = tls.connect({
      socket,
      ca: own.ca,
      ALPNProtocols: ["h2"],
      servername: "",
      checkServerIdentity: () => undefined,
    });
    await once(secured, "secureConnect");
    const client = new FrameClient(secured);
    const all = Buffer.concat(Array.from({ length: 300 }, (_, i) => refusedAndReset(i)));
    for (let at = 0; at < all.length && !client.closed; at += 12_288) {
      client.send(all.subarray(at, at + 12_288));
      await pause(5);
    }
    await own.recordsWhere((r) => r.reason === "rate-limited");
    expect(errors.mock.calls).toEqual([]);
    secured.destroy();
    session.destroy();
    await own.close();
    rmSync(dir, { recursive: true });
  });
});

/** A CONNECT over TLS to the proxy. */
async function connectOverHttp1(port: number, authority: string): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  await once(socket, "data");
  return socket;
}
