// What a client sends right behind a CONNECT, before anybody inside reads: nothing of it is lost, its FIN is not either, and
// no more of it is read than there is room for.
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { type Scene, startScene } from "./scene.ts";

let scene: Scene;
/** Answers everything that came when the FIN has. */
let echo: RawOrigin;
const connect = (authority: string, behind = ""): string =>
  `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n${behind}`;

beforeAll(async () => {
  echo = await startRawOrigin(
    (conversation) => {
      conversation.socket.on("end", () => conversation.socket.end(conversation.bytes));
    },
    { greet: true },
  );
  scene = await startScene(({ plain, secure }) => ({
    policy: `defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: ["blind.test:${echo.port}"], tunnel: { reason: any, without-sni: allow } }
  - { id: named, allow: ["named.test:${echo.port}"], tunnel: { reason: named } }
  - { id: opened, allow: ["*.inside.test:${plain}", "*.inside.test:${secure}"] }
  - { id: looked-at, allow: ["silent.test:${plain}"], content: [ { redact: { text: never there } } ] }
`,
    dns: (name) => (name === "silent.test" ? null : undefined),
  }));
});
afterAll(async () => {
  await scene.close();
  await echo.close();
});

/** All that comes until the other side ends. */
async function whole(send: string): Promise<{ text: string; address: string }> {
  const address = scene.newAddress();
  const client = await scene.open(address);
  client.socket.end(send);
  expect(await client.closed()).toBe("end");
  return { text: client.text, address };
}

test("a tunnel whose client ended before it was opened: the origin gets the end, and its answer arrives", async () => {
  const { text, address } = await whole(connect(`blind.test:${echo.port}`, "these bytes and no more"));
  expect(text).toContain("200 Connection Established");
  const [record] = await scene.house.recordsWhere((r) => r.address === address);
  expect(record).toMatchObject({ reason: null, sent: { bytes: 23, complete: true }, received: { complete: true } });
});

test("a tunnel that waits for a ClientHello when its client has ended already is over", async () => {
  const { address } = await whole(connect(`named.test:${echo.port}`, "\x16\x03\x01"));
  const [record] = await scene.house.recordsWhere((r) => r.address === address);
  expect(record).toMatchObject({ reason: "client-gone", sent: { bytes: 0 } });
});

test("clear text inside: what was asked before the end is answered, and then it is over", async () => {
  const host = `a.inside.test:${scene.plain.port}`;
  const { text } = await whole(connect(host, `GET /last HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
  expect(text).toContain("hello");
});

test("a CONNECT and an end: it is over at once", async () => {
  const { address } = await whole(connect(`b.inside.test:${scene.plain.port}`));
  expect(await scene.house.recordsWhere((r) => r.address === address)).toHaveLength(1);
});

test("a ClientHello of which a part comes while the certificate is being made", async () => {
  for (let n = 0; n < 8; n++) {
    const authority = `leaf-${n}.inside.test:${scene.secure.port}`;
    const client = await scene.open();
    const { near, hello } = await clientHello(`leaf-${n}.inside.test`);
    client.send(Buffer.concat([Buffer.from(connect(authority)), hello.subarray(0, 100)]));
    await client.until((text) => text.endsWith("\r\n\r\n"));
    client.take();
    client.send(hello.subarray(100));
    expect((await client.until((text) => text.length > 0)).charCodeAt(0)).toBe(22);
    client.destroy();
    near.destroy();
  }
});

test("clear text inside with much content behind it: read no further than there is room, while the origin is dialled", async () => {
  const host = `silent.test:${scene.plain.port}`;
  const head = `POST /much HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 500000000\r\nContent-Type: text/plain\r\n\r\n`;
  const much = Buffer.alloc(60_000_000);
  const client = await scene.open();
  client.send(Buffer.concat([Buffer.from(connect(host, head)), much]));
  await client.until((text) => text.includes("200 Connection Established"));
  await wait(2_000); // the name server is silent for longer
  const { writableLength } = client.socket;
  expect(client.text).not.toContain("502");
  client.destroy();
  expect(writableLength).toBeGreaterThan(much.length - 20_000_000); // the rest is in the system's buffers
});

/** The first bytes of a TLS client. */
async function clientHello(servername: string): Promise<{ near: net.Socket; hello: Buffer }> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const near = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  const far = await new Promise<net.Socket>((done) => server.once("connection", done));
  server.close();
  tls.connect({ socket: near, servername, rejectUnauthorized: false }).on("error", () => {});
  const hello = await new Promise<Buffer>((done) => far.once("data", done));
  return { near, hello };
}
