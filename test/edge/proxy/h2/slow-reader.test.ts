// A session whose connection is full for longer than it takes to look after it: nothing that looks may disturb what is written.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import http2, { type ServerHttp2Stream } from "node:http2";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse } from "../../../support/house.ts";
import { startH2Origin } from "./origins.ts";
import { answerOf, sessionThrough } from "./support.ts";

const CONTENT = Buffer.from(Uint32Array.from({ length: 8_000_000 }, (_, i) => Math.imul(i, 2_654_435_761)).buffer);
const DIGEST = createHash("sha256").update(CONTENT).digest("hex");

/** Takes connections on to `port`, and nothing back while it is shut. */
async function startValve(port: number): Promise<{ port: number; shut(): void; open(): void; close(): void }> {
  let up: net.Socket | undefined;
  const server = net.createServer((client) => {
    const own = net.connect(port, "127.0.0.1");
    up = own;
    for (const socket of [client, own]) socket.on("error", () => {});
    client.on("data", (bytes) => own.write(bytes)).on("close", () => own.destroy());
    own.on("data", (bytes) => client.write(bytes)).on("close", () => client.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const own = (server.address() as net.AddressInfo).port;
  return { port: own, shut: () => up?.pause(), open: () => up?.resume(), close: () => server.close() };
}

test.each([
  ["the proxy's port", false],
  ["TLS to the proxy's port", true],
])("over %s: it pauses for seconds, twice, and gets every byte", async (_, withTls) => {
  const testCa = new TestCa();
  const origin = await startH2Origin((stream) => {
    stream.respond({ ":status": 200 });
    stream.end(CONTENT);
  }, testCa.leaf("127.0.0.1"));
  const folder = mkdtempSync(join(tmpdir(), "sallyport-slow-"));
  const pair = testCa.leaf("127.0.0.1");
  writeFileSync(join(folder, "cert.pem"), pair.cert);
  writeFileSync(join(folder, "key.pem"), pair.key, { mode: 0o600 });
  const server = `server: { tls: { cert: ${folder}/cert.pem, key: ${folder}/key.pem } }\n`;
  const house = await startTestHouse({
    roots: testCa.cert,
    policy: `${withTls ? server : ""}defaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n`,
  });
  const valve = await startValve(house.port);
  const tcp = net.connect(valve.port, "127.0.0.1");
  const outer = withTls ? tls.connect({ socket: tcp, ca: testCa.cert, host: "127.0.0.1" }) : tcp;
  await once(outer, withTls ? "secureConnect" : "connect");
  const authority = `127.0.0.1:${origin.port}`;
  outer.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  await once(outer, "data");
  const secured = tls.connect({ socket: outer, ca: house.ca, ALPNProtocols: ["h2"], host: "127.0.0.1" });
  const session = http2.connect(`https://${authority}`, {
    createConnection: () => secured,
    settings: { initialWindowSize: 0x7fffffff },
  });
  await once(session, "connect");
  session.setLocalWindowSize(0x7fffffff);
  const stream = session.request({ ":path": "/" });
  const digest = createHash("sha256");
  const ended = once(stream, "end");
  stream.on("data", (piece) => digest.update(piece));
  await once(stream, "data");
  for (let i = 0; i < 2; i++) {
    valve.shut();
    await wait(2_300);
    valve.open();
    await wait(20);
  }
  await ended;
  expect(digest.digest("hex")).toBe(DIGEST);
  session.destroy();
  const [record] = await house.recordsWhere((r) => r.kind === "exchange", 1);
  expect(record).toMatchObject({ status: 200, received: { bytes: CONTENT.length, sha256: DIGEST, complete: true } });
  valve.close();
  await house.close();
  await origin.close();
});

test("an answer whose end waits behind another's content ends whole, however long that takes", async () => {
  const testCa = new TestCa();
  const streams = new Map<string, ServerHttp2Stream>();
  const origin = await startH2Origin((stream, { headers }) => {
    streams.set(String(headers[":path"]), stream);
    stream.resume();
    stream.respond({ ":status": 200 });
    stream.write("hello");
  }, testCa.leaf("127.0.0.1"));
  const house = await startTestHouse({ roots: testCa.cert });
  const valve = await startValve(house.port);
  const session = await sessionThrough(valve.port, `127.0.0.1:${origin.port}`, house.ca, {
    settings: { initialWindowSize: 0x7fffffff },
  });
  session.setLocalWindowSize(0x7fffffff);
  const small = session.request({ ":path": "/small" });
  const large = session.request({ ":path": "/large" });
  const answers = [answerOf(small), answerOf(large)];
  await Promise.all([once(small, "data"), once(large, "data")]);
  valve.shut();
  streams.get("/large")?.end(CONTENT);
  // Until nothing more is taken: the connection is full.
  const given = (): number => CONTENT.length - (streams.get("/large")?.writableLength ?? 0);
  for (let before = -1; before !== given(); await wait(500)) before = given();
  streams.get("/small")?.end();
  await wait(3_000); // the session is looked after each second
  valve.open();
  const [one, two] = await Promise.all(answers);
  expect([one?.whole, one?.content.toString()]).toEqual([true, "hello"]);
  expect([two?.whole, two?.content.length]).toEqual([true, CONTENT.length + 5]);
  session.destroy();
  valve.close();
  await house.close();
  await origin.close();
});
