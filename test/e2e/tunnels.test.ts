// Blind tunnels, protocols that are neither TLS nor HTTP, and upgraded connections: what passes unseen is compared by name,
// counted, limited and recorded.
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OriginScript, origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { pause } from "../support/pause.ts";
import type { RawConnection } from "../support/raw-client.ts";
import { type Scene, startScene, startTls } from "./scene.ts";

let scene: Scene;
/** Speaks first, and echoes lines. */
let greeter: RawOrigin;
const get = (host: string, path: string): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const secured = async (client: RawConnection, servername: string): Promise<RawConnection> => {
  client.socket.removeAllListeners("data");
  return startTls(client.socket, { ca: scene.originCa.cert, servername, checkServerIdentity: () => undefined });
};
const tunnelRecord = async (address: string) =>
  (await scene.house.recordsWhere((r) => r.address === address && r.uninspected))[0];

beforeAll(async () => {
  const echo: OriginScript = ({ socket }) => {
    socket.write("SSH-2.0-greeter\r\n");
    socket.on("data", (b: Buffer) => socket.write(b));
  };
  greeter = await startRawOrigin(echo, { greet: true });
  scene = await startScene(({ secure }) => ({
    policy: `server: { header-timeout: 4s }
defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: pinned, allow: ["pin.test:${secure}", "pin.test:${greeter.port}", "127.0.0.1:${secure}"], tunnel: { reason: pins } }
  - { id: small, allow: ["small.test:${secure}", "small.test:${greeter.port}"], tunnel: { reason: small, bytes-out: 1000B, without-sni: allow } }
  - { id: inwards, allow: ["in.test:${secure}"], tunnel: { reason: in, bytes-in: 5000B } }
  - { id: brief, allow: ["brief.test:${secure}"], tunnel: { reason: brief, total: 3s } }
  - { id: idle, allow: ["idle.test:${secure}"], tunnel: { reason: idle, idle: 3s } }
  - { id: any, allow: ["any.test:${greeter.port}", "any.test:${secure}"], tunnel: { reason: any, without-sni: allow } }
  - { id: opened, allow: ["o.test:${secure}", "o.test:${greeter.port}"] }
`,
  }));
});
afterAll(async () => {
  await scene.close();
  await greeter.close();
});

describe("a blind tunnel", () => {
  test("passes TLS that ends at the origin, and records names and counts, once", async () => {
    const address = scene.newAddress();
    const inner = await secured(await scene.connect(`pin.test:${scene.secure.port}`, address), "pin.test");
    inner.send(get("pin.test", "/blind"));
    expect((await inner.response()).content).toBe("hello");
    inner.socket.end();
    const record = await tunnelRecord(address);
    expect(record).toMatchObject({
      kind: "connect",
      decision: "allow",
      rule: "pinned",
      reason: null,
      status: 200,
      sni: "pin.test",
    });
    expect(record?.sent.bytes).toBeGreaterThan(300);
    expect(record?.received.bytes).toBeGreaterThan(500);
    expect(record?.sent.complete).toBe(true);
    expect(record?.received.complete).toBe(true);
    expect((await scene.settled()).filter((r) => r.address === address)).toHaveLength(1);
  });

  test.each([
    ["another SNI (B2)", "other.test"],
    ["no SNI (B4)", ""],
  ])("%s: closed, and no byte reaches the origin", async (_name, servername) => {
    const address = scene.newAddress();
    const before = scene.secure.conversations.length;
    const client = await scene.connect(`pin.test:${scene.secure.port}`, address);
    await expect(secured(client, servername)).rejects.toThrow();
    const record = await tunnelRecord(address);
    expect(record).toMatchObject({ decision: "deny", reason: "misdirected", sent: { bytes: 0, complete: false } });
    await pause(50);
    for (const c of scene.secure.conversations.slice(before)) expect(c.bytes).toHaveLength(0);
  });

  test("CONNECT to an address: the name in SNI must be allowed to be tunnelled as well (B5)", async () => {
    const good = await secured(await scene.connect(`127.0.0.1:${scene.secure.port}`), "pin.test");
    good.destroy();
    await expect(secured(await scene.connect(`127.0.0.1:${scene.secure.port}`), "o.test")).rejects.toThrow();
  });

  test("what the server says before the ClientHello is there waits for it, and is not lost", async () => {
    const outer = await scene.connect(`pin.test:${greeter.port}`, scene.newAddress());
    await pause(200);
    outer.take();
    const { near, far } = await pair();
    far.on("data", (b: Buffer) => outer.send(b));
    tls.connect({ socket: near, servername: "pin.test", rejectUnauthorized: false }).on("error", () => {});
    const text = await outer.until((received) => received.length > 100);
    expect(text.slice(0, 20)).toBe("SSH-2.0-greeter\r\n\x16\x03\x01".slice(0, 20));
    near.destroy();
    outer.destroy();
  });

  test("a ClientHello in many pieces is put together (B10)", async () => {
    const address = scene.newAddress();
    const outer = await scene.connect(`pin.test:${scene.secure.port}`, address);
    outer.socket.removeAllListeners("data");
    const { near, far } = await pair();
    far.on("data", async (b: Buffer) => {
      far.pause();
      for (let i = 0; i < b.length; i += 40) {
        outer.socket.write(b.subarray(i, i + 40));
        await wait(1);
      }
      far.resume();
    });
    outer.socket.on("data", (b: Buffer) => far.write(b));
    const inner = await startTls(near, {
      ca: scene.originCa.cert,
      servername: "pin.test",
      checkServerIdentity: () => undefined,
    });
    inner.send(get("pin.test", "/pieces"));
    expect((await inner.response()).status).toBe(200);
    inner.destroy();
    far.destroy();
    outer.destroy();
    expect((await tunnelRecord(address))?.sni).toBe("pin.test");
  });

  test.each([
    ["not TLS", Buffer.from("GET / HTTP/1.1\r\nHost: pin.test\r\n\r\n")],
    ["an SSLv2 hello", Buffer.from("802e0100020015000000100100800200800300800400800500800600400700c0", "hex")],
    ["a record that is no ClientHello", Buffer.from("160301000502000001ff", "hex")],
  ])("%s where TLS was allowed: closed", async (_name, bytes) => {
    const address = scene.newAddress();
    const client = await scene.connect(`pin.test:${scene.secure.port}`, address);
    client.send(bytes);
    expect(await client.closed()).not.toBe("open");
    expect(await tunnelRecord(address)).toMatchObject({ decision: "deny", reason: "misdirected" });
  });

  test("silence is closed in time", async () => {
    const address = scene.newAddress();
    const client = await scene.connect(`pin.test:${scene.secure.port}`, address);
    expect(await client.closed()).not.toBe("open");
    expect(await tunnelRecord(address)).toMatchObject({ decision: "deny", reason: "request-timeout" });
  });

  test.each([
    ["brief.test", "longer"],
    ["idle.test", "idle"],
  ])("%s is closed by its time limit", async (host, why) => {
    const address = scene.newAddress();
    const inner = await secured(await scene.connect(`${host}:${scene.secure.port}`, address), host);
    expect(await inner.closed()).not.toBe("open");
    const record = await tunnelRecord(address);
    expect(record).toMatchObject({ decision: "deny", reason: "tunnel-limit", status: 200 });
    expect(record?.error).toContain(why);
  });

  test("bytes-in ends it, and the record counts what passed", async () => {
    const address = scene.newAddress();
    scene.scripts.set("/much", origins.text("x".repeat(20_000)));
    const inner = await secured(await scene.connect(`in.test:${scene.secure.port}`, address), "in.test");
    inner.send(get("in.test", "/much"));
    expect(await inner.closed()).not.toBe("open");
    const record = await tunnelRecord(address);
    expect(record).toMatchObject({ decision: "deny", reason: "tunnel-limit", received: { complete: false } });
    expect(record?.received.bytes).toBeLessThanOrEqual(5_000);
  });

  test.each([
    ["at the limit", 1_000, "allow", null],
    ["one above", 1_001, "deny", "tunnel-limit"],
  ])("bytes-out %s", async (_name, bytes, decision, reason) => {
    const address = scene.newAddress();
    const client = await scene.connect(`small.test:${greeter.port}`, address);
    await client.until((text) => text.includes("SSH-2.0-greeter"));
    client.take();
    client.send("x".repeat(900)).send("y".repeat(bytes - 900));
    if (reason === null) await client.until((text) => text.length === bytes);
    client.socket.end();
    await client.closed();
    const record = await tunnelRecord(address);
    expect(record).toMatchObject({ decision, reason });
    expect(record?.sent.bytes).toBeLessThanOrEqual(1_000);
    expect(greeter.text()).not.toContain("y".repeat(101));
  });
});

describe("half-closed tunnels (F18)", () => {
  test("the client ends first and still reads", async () => {
    const address = scene.newAddress();
    const late = await startRawOrigin(
      ({ socket }) => {
        socket.on("end", () => {});
      },
      { greet: true },
    );
    await late.close();
    const client = await scene.connect(`any.test:${greeter.port}`, address);
    client.socket.end("bye");
    await client.until((text) => text.endsWith("bye"));
    expect(await client.closed()).toBe("end");
    expect(await tunnelRecord(address)).toMatchObject({
      reason: null,
      sent: { bytes: 3, complete: true },
      received: { bytes: 20, complete: true },
    });
  });

  test("the origin ends first and still reads", async () => {
    const got: Buffer[] = [];
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.on("data", (b) => got.push(b)).on("end", () => socket.destroy());
      socket.end("only this");
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as net.AddressInfo;
    const own = await startScene({
      policy: `defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: any, allow: ["any.test:${port}"], tunnel: { reason: any, without-sni: allow } }
`,
    });
    const address = own.newAddress();
    const client = await own.connect(`any.test:${port}`, address);
    await client.until((text) => text.includes("only this"));
    expect(await client.closed()).toBe("end"); // its FIN came through
    client.send("still going").socket.end();
    await expect.poll(() => Buffer.concat(got).toString()).toBe("still going");
    const [record] = await own.house.recordsWhere((r) => r.address === address);
    expect(record).toMatchObject({
      reason: null,
      sent: { bytes: 11, complete: true },
      received: { bytes: 9, complete: true },
    });
    await own.close();
    server.close();
  });
});

describe("neither TLS nor HTTP inside an opened CONNECT", () => {
  test("`opaque: deny`: closed and recorded; the origin hears nothing", async () => {
    const address = scene.newAddress();
    const before = greeter.conversations.length;
    const client = await scene.connect(`o.test:${greeter.port}`, address);
    client.send("SSH-2.0-client\r\n");
    expect(await client.closed()).not.toBe("open");
    const records = await scene.house.recordsWhere((r) => r.address === address, 2);
    expect(records[0]).toMatchObject({ kind: "connect", decision: "allow", status: 200 });
    expect(records[1]).toMatchObject({
      kind: "connection",
      decision: "deny",
      reason: "opaque-protocol",
      parent: records[0]?.id,
    });
    expect(greeter.conversations).toHaveLength(before);
  });

  test.each([
    ["the client speaks first", true],
    ["the server speaks first", false],
  ])("`opaque: tunnel`: %s", async (_name, first) => {
    const own = await startScene({
      policy: `server: { opaque: tunnel, header-timeout: 2s }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
`,
    });
    const address = own.newAddress();
    const client = await own.connect(`o.test:${greeter.port}`, address);
    if (first) client.send("SSH-2.0-client\r\n");
    await client.until(
      (text) => text.includes("SSH-2.0-greeter") && (!first || text.includes("SSH-2.0-client")),
      6_000,
    );
    client.socket.end();
    await client.closed();
    const records = await own.house.recordsWhere((r) => r.address === address, 2);
    expect(records[1]).toMatchObject({
      kind: "connect",
      uninspected: true,
      parent: records[0]?.id,
      received: { complete: true },
    });
    await own.close();
  });
});

async function pair(): Promise<{ near: net.Socket; far: net.Socket }> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const near = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  const far = await new Promise<net.Socket>((done) => server.once("connection", done));
  server.close();
  return { near, far };
}
