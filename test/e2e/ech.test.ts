// Encrypted ClientHello in blind tunnels (pitfalls B11): the outer name is what is compared; the record tells that another
// could be behind it. Browsers always send the extension, with dummy content (GREASE), and are not refused for it.
import { randomBytes } from "node:crypto";
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Scene, startScene } from "./scene.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(({ secure }) => ({
    policy: `defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: pinned, allow: ["pin.test:${secure}", "127.0.0.1:${secure}"], tunnel: { reason: pins } }
  - { id: quiet, allow: ["quiet.test:${secure}"], tunnel: { reason: speaks first, without-sni: allow } }
`,
  }));
});
afterAll(() => scene.close());

/** What Node sends first, for a name. */
async function helloFor(servername: string): Promise<Buffer> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const arrived = new Promise<net.Socket>((done) => server.once("connection", done));
  const client = tls.connect({ port, host: "127.0.0.1", ...(servername === "" ? {} : { servername }) });
  client.on("error", () => {});
  const socket = await arrived;
  const hello = await new Promise<Buffer>((done) => socket.once("data", done));
  socket.destroy();
  client.destroy();
  server.close();
  return hello;
}

const u16 = (n: number): Buffer => Buffer.of(n >> 8, n & 255);
const vector = (body: Buffer): Buffer => Buffer.concat([u16(body.length), body]);
/** ECHClientHello of type `outer`: HPKE suite, config id, encapsulated key, payload. Dummies look the same. */
const outer = (payload: number): Buffer =>
  Buffer.concat([Buffer.of(0, 0, 1, 0, 1, 42), vector(randomBytes(32)), vector(randomBytes(payload))]);

/** The hello with one more extension: lengths of record, message and list follow. One record holds it. */
function withExtension(hello: Buffer, type: number, content: Buffer): Buffer {
  const message = hello.subarray(5);
  // Version and random, then session id, suites and compression, each behind its length.
  let at = 4 + 34;
  at += 1 + (message[at] as number);
  at += 2 + message.readUInt16BE(at);
  at += 1 + (message[at] as number);
  const body = Buffer.concat([
    message.subarray(4, at),
    vector(Buffer.concat([message.subarray(at + 2), u16(type), vector(content)])),
  ]);
  const longer = Buffer.concat([Buffer.of(1, 0), u16(body.length), body]);
  return Buffer.concat([hello.subarray(0, 3), u16(longer.length), longer]);
}
const ECH = 0xfe0d;

/** Sends a hello through a tunnel in pieces: whether a ServerHello came, and the record. */
async function send(host: string, hello: Buffer, pieces: number) {
  const address = scene.newAddress();
  const client = await scene.connect(`${host}:${scene.secure.port}`, address);
  const size = Math.ceil(hello.length / pieces);
  for (let i = 0; i < hello.length; i += size) {
    client.send(hello.subarray(i, i + size));
    await wait(2);
  }
  const answered = await client
    .until((text) => text.length > 6)
    .then(
      () => true,
      () => false,
    );
  // Record type handshake, message ServerHello.
  const answer = client.bytes.subarray(client.bytes.indexOf("\r\n\r\n") + 4);
  // The server waits for the end of the handshake, and would keep its half open.
  client.socket.resetAndDestroy();
  const [record] = await scene.house.recordsWhere((r) => r.address === address);
  return { server: answered && answer[0] === 22 && answer[5] === 2, record };
}

describe("a blind tunnel", () => {
  const rows: [string, string, string, Buffer | null, number][] = [
    ["without the extension", "pin.test", "pin.test", null, 1],
    ["with one of usual size", "pin.test", "pin.test", outer(239), 1],
    ["with one as browsers send it for nothing", "pin.test", "pin.test", outer(144), 1],
    ["with one of unknown form", "pin.test", "pin.test", randomBytes(9), 1],
    ["with one, in many pieces", "pin.test", "pin.test", outer(239), 20],
    ["with one, to an address whose outer name may be tunnelled", "127.0.0.1", "pin.test", outer(239), 1],
    ["with one, where the server may speak first", "quiet.test", "quiet.test", outer(239), 3],
  ];
  test.each(rows)("%s: passes, and the record tells", async (_name, host, sni, extension, pieces) => {
    const plain = await helloFor(sni);
    const hello = extension === null ? plain : withExtension(plain, ECH, extension);
    const { server, record } = await send(host, hello, pieces);
    expect(server).toBe(true);
    expect(record).toMatchObject({ decision: "allow", sni, notes: extension === null ? [] : ["ech-offered"] });
    expect(record?.sent.bytes).toBe(hello.length);
  });

  test.each([
    ["pin.test", "public-name.test"],
    ["127.0.0.1", "public-name.test"],
    ["quiet.test", "public-name.test"],
  ])("to %s with the outer name %s: closed as with any other name, and the record tells", async (host, sni) => {
    const before = scene.secure.conversations.length;
    const { server, record } = await send(host, withExtension(await helloFor(sni), ECH, outer(239)), 1);
    expect(server).toBe(false);
    expect(record).toMatchObject({ decision: "deny", reason: "misdirected", sni, notes: ["ech-offered"] });
    expect(record?.error).toContain("encrypted ClientHello");
    expect(record?.sent.bytes).toBe(0);
    for (const c of scene.secure.conversations.slice(before)) expect(c.bytes).toHaveLength(0);
  });

  test("without any name: closed where the rule wants one, whatever may be inside", async () => {
    const { server, record } = await send("pin.test", withExtension(await helloFor(""), ECH, outer(239)), 1);
    expect(server).toBe(false);
    expect(record).toMatchObject({ decision: "deny", reason: "misdirected", sni: null, notes: ["ech-offered"] });
  });
});
