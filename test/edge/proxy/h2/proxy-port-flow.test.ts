// What flows inside CONNECTs on one HTTP/2 connection to the proxy: as much as is read and no more, each on its own, with FIN
// and resets translated both ways; and how they end: deadlines, floods, clients that leave, a drain.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import net, { type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../../../src/audit/record.ts";
import { selfSigned, TestCa } from "../../../support/certificates.ts";
import { closeOf, connectOver, proxySession, tcpUnder } from "../../../support/h2-proxy.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { RawConnection } from "../../../support/raw-client.ts";
import { answering, startH2Origin } from "./origins.ts";
import { ask, FRAME, FrameClient, frame, section } from "./support.ts";

const dir = mkdtempSync(join(tmpdir(), "sallyport-h2-flow-"));
const proxy = selfSigned("proxy.test");
const originCa = new TestCa();
const SERVER_TLS = `tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true }`;
const MIB = 1_048_576;
const CONTENT = Buffer.from(Uint32Array.from({ length: 2 * MIB }, (_, i) => Math.imul(i, 2_654_435_761)).buffer);
const TIMES = 8; // 64 MiB
const digestOf = (times: number): string => {
  const hash = createHash("sha256");
  for (let i = 0; i < times; i++) hash.update(CONTENT);
  return hash.digest("hex");
};

/** Speaks no protocol: what each connection does is the test's. */
class Bare {
  readonly sockets: Socket[] = [];
  private readonly server: net.Server;
  constructor() {
    this.server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on("error", () => {});
      this.sockets.push(socket);
    });
  }
  async start(): Promise<this> {
    this.server.listen(0, "0.0.0.0");
    await once(this.server, "listening");
    return this;
  }
  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }
  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

let house: TestHouse;
let bare: Bare;
let from = 0;
const newAddress = (): string => `127.89.0.${++from}`;

beforeAll(async () => {
  writeFileSync(join(dir, "cert.pem"), proxy.cert);
  writeFileSync(join(dir, "key.pem"), proxy.key);
  bare = await new Bare().start();
  house = await startTestHouse({
    roots: originCa.cert,
    policy: `server: { ${SERVER_TLS}, header-timeout: 2s, idle-timeout: 3s, connections-per-client: 200 }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: ["https://127.0.0.1:${bare.port}"], tunnel: { reason: test, without-sni: allow, idle: 30s } }
  - { id: brief, allow: ["https://127.0.0.2:${bare.port}"], tunnel: { reason: test, without-sni: allow, total: 1s } }
  - { id: little, allow: ["https://127.0.0.3:${bare.port}"], tunnel: { reason: test, without-sni: allow, bytes-in: 1000B } }
`,
  });
});
afterAll(async () => {
  await house.close();
  bare.close();
  rmSync(dir, { recursive: true });
});

interface Pair {
  readonly stream: ClientHttp2Stream;
  readonly socket: Socket;
}
/** A blind tunnel through the session: its two ends. */
async function tunnel(session: ClientHttp2Session, host = "127.0.0.1"): Promise<Pair> {
  const before = bare.sockets.length;
  const { status, stream } = await connectOver(session, `${host}:${bare.port}`);
  expect(status).toBe(200);
  await expect.poll(() => bare.sockets.length, { timeout: 5_000 }).toBe(before + 1);
  return { stream, socket: bare.sockets[before] as Socket };
}

/** Writes as fast as it is taken. */
async function pour(to: NodeJS.WritableStream, times: number): Promise<void> {
  for (let i = 0; i < times; i++)
    for (let at = 0; at < CONTENT.length; at += 65_536)
      if (!to.write(CONTENT.subarray(at, at + 65_536))) await once(to as never, "drain");
  to.end();
}

/** Writes whenever there is room, for as long as there is; how many bytes it has been so far. */
function flood(to: NodeJS.WritableStream): () => number {
  let written = 0;
  const more = (): void => {
    for (let room = true; room; written += 65_536) room = to.write(CONTENT.subarray(0, 65_536));
  };
  to.on("drain", more);
  more();
  return () => written;
}

async function digest(source: NodeJS.ReadableStream): Promise<string> {
  const hash = createHash("sha256");
  source.on("data", (b: Buffer) => hash.update(b));
  await once(source as never, "end");
  return hash.digest("hex");
}
/** A gauge of the house. */
async function metric(name: string, side: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${house.adminPort}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{side="${side}"\\} (\\d+)$`, "m").exec(text)?.[1]);
}
const recordOf = async (address: string, of = house): Promise<AuditRecord> =>
  (await of.recordsWhere((r) => r.address === address, 1, 20_000))[0] as AuditRecord;

describe("content", () => {
  test("64 MiB each way at once through a blind tunnel", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const { stream, socket } = await tunnel(session);
    const [up, down] = await Promise.all([digest(socket), digest(stream), pour(stream, TIMES), pour(socket, TIMES)]);
    expect(up).toBe(digestOf(TIMES));
    expect(down).toBe(digestOf(TIMES));
    session.close();
    const bytes = TIMES * CONTENT.length;
    expect(await recordOf(address)).toMatchObject({
      reason: null,
      status: 200,
      clientProtocol: "2",
      sent: { bytes, complete: true },
      received: { bytes, complete: true },
    });
  }, 60_000);

  test("16 MiB each way through what is opened: TLS with HTTP/2 on the stream of HTTP/2", async () => {
    const origin = await startH2Origin((stream) => {
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
    }, originCa.leaf("127.0.0.1"));
    const authority = `127.0.0.1:${origin.port}`;
    const session = await proxySession(house.port);
    const { stream } = await connectOver(session, authority);
    const socket = tls.connect({
      socket: stream as unknown as Socket,
      ca: house.ca,
      ALPNProtocols: ["h2"],
      checkServerIdentity: () => undefined,
    });
    await once(socket, "secureConnect");
    const inner = http2.connect(`https://${authority}`, { createConnection: () => socket });
    const echo = inner.request({ ":method": "POST", ":path": "/echo" }, { endStream: false });
    const [seen] = await Promise.all([digest(echo), pour(echo, 2)]);
    expect(seen).toBe(digestOf(2));
    session.destroy();
    await origin.close();
  }, 60_000);

  test("who does not read holds up the origin, and nobody else", async () => {
    const session = await proxySession(house.port, { from: newAddress() });
    const stuck = await tunnel(session);
    stuck.stream.pause();
    const poured = flood(stuck.socket);
    // And the other way: an origin that does not read.
    const deaf = await tunnel(session);
    deaf.socket.pause();
    const sent = flood(deaf.stream);
    let seen = -1;
    while (seen !== poured() + sent()) {
      seen = poured() + sent();
      await wait(500);
    }
    // Windows, buffers of the kernel on both sides of the proxy, and ours: a few MiB.
    expect(poured()).toBeLessThan(16 * MIB);
    expect(sent()).toBeLessThan(16 * MIB);
    const free = await tunnel(session);
    const [down] = await Promise.all([digest(free.stream), pour(free.socket, 2)]);
    expect(down).toBe(digestOf(2));
    // What waited goes on as soon as it is read.
    const before = poured();
    stuck.stream.resume();
    await expect.poll(poured, { timeout: 10_000 }).toBeGreaterThan(before + 4 * MIB);
    session.destroy();
  }, 60_000);

  test("many tunnels of one connection at once", async () => {
    const session = await proxySession(house.port, { from: newAddress() });
    const pairs: Pair[] = [];
    for (let i = 0; i < 60; i++) pairs.push(await tunnel(session));
    const all = await Promise.all(
      pairs.map(async ({ stream, socket }, i) => {
        const piece = CONTENT.subarray(i * 1_000, i * 1_000 + 200_000);
        stream.end(piece);
        socket.end(piece);
        const expected = createHash("sha256").update(piece).digest("hex");
        return (await Promise.all([digest(stream), digest(socket)])).every((seen) => seen === expected);
      }),
    );
    expect(all.every((same) => same)).toBe(true);
    session.close();
  }, 60_000);
});

test("cancelled in the midst of content again and again: tunnels are opened all the same", async () => {
  // node:http2 counts what was reset unsent as memory of the session for ever, and refuses every stream when it is too much.
  const address = newAddress();
  const sessions: ClientHttp2Session[] = [];
  const current = async (): Promise<ClientHttp2Session> => {
    const last = sessions.at(-1);
    if (last !== undefined && !last.closed && !last.destroyed) return last;
    const made = await proxySession(house.port, { from: address });
    made.on("goaway", () => made.close());
    sessions.push(made);
    return made;
  };
  for (let round = 0; round < 25; round++) {
    const session = await current();
    const pairs = [];
    for (let i = 0; i < 12; i++) pairs.push(await tunnel(session));
    for (const { socket, stream } of pairs) {
      stream.pause();
      socket.write(CONTENT.subarray(0, 2 * MIB));
    }
    await wait(150);
    for (const { stream } of pairs) stream.close(http2.constants.NGHTTP2_CANCEL);
    await wait(50);
  }
  expect(sessions.length).toBeGreaterThan(1);
  for (const session of sessions) session.destroy();
}, 60_000);

describe("ends", () => {
  test("END_STREAM is FIN, each way on its own", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const { stream, socket } = await tunnel(session);
    stream.end("last words");
    const [heard] = (await once(socket, "data")) as [Buffer];
    expect(heard.toString()).toBe("last words");
    await once(socket, "end");
    socket.end("and an answer");
    const [answer] = (await once(stream, "data")) as [Buffer];
    expect(answer.toString()).toBe("and an answer");
    await closeOf(stream);
    expect(stream.rstCode).toBe(0);
    session.close();
    expect(await recordOf(address)).toMatchObject({
      reason: null,
      sent: { complete: true },
      received: { complete: true },
    });
  });

  test("a FIN of the origin is END_STREAM, and the client goes on", async () => {
    const session = await proxySession(house.port, { from: newAddress() });
    const { stream, socket } = await tunnel(session);
    socket.end("bye");
    stream.resume();
    await once(stream, "end");
    expect(stream.closed).toBe(false);
    stream.end("still here");
    const [heard] = (await once(socket, "data")) as [Buffer];
    expect(heard.toString()).toBe("still here");
    session.close();
  });

  test("RST_STREAM is a reset, and another CONNECT of the connection goes on", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const [one, other] = [await tunnel(session), await tunnel(session)];
    const broken = new Promise<NodeJS.ErrnoException>((resolve) => one.socket.once("error", resolve));
    one.socket.resume();
    one.stream.close(http2.constants.NGHTTP2_CANCEL);
    expect((await broken).code).toBe("ECONNRESET");
    other.stream.write("ping");
    const [heard] = (await once(other.socket, "data")) as [Buffer];
    expect(heard.toString()).toBe("ping");
    other.socket.write("pong");
    const [back] = (await once(other.stream, "data")) as [Buffer];
    expect(back.toString()).toBe("pong");
    expect(await recordOf(address)).toMatchObject({ reason: "client-gone", sent: { complete: false } });
    session.destroy();
  });

  test.each([
    ["", false],
    [", nor after the origin has ended", true],
  ])("RST_STREAM(NO_ERROR) is no end either%s", async (_when, after) => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const { stream, socket } = await tunnel(session);
    const broken = new Promise<NodeJS.ErrnoException>((resolve) => socket.once("error", resolve));
    let ended = false;
    socket.resume().on("end", () => {
      ended = true;
    });
    await new Promise<void>((sent) => void stream.write("half of it", () => sent()));
    if (after) {
      socket.end("all of the answer");
      await once(stream.resume(), "end");
    }
    stream.destroy(); // node:http2 sends RST_STREAM with NO_ERROR
    expect((await broken).code).toBe("ECONNRESET");
    expect(ended).toBe(false);
    session.close();
    expect(await recordOf(address)).toMatchObject({ sent: { complete: false }, received: { complete: after } });
  });

  test("a reset of the origin is RST_STREAM(CONNECT_ERROR)", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const { stream, socket } = await tunnel(session);
    let ended = false;
    stream
      .on("data", () => {})
      .on("end", () => {
        ended = !stream.closed;
      });
    socket.write("the beginning");
    await once(stream, "data");
    socket.resetAndDestroy();
    await closeOf(stream);
    expect(ended).toBe(false);
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_CONNECT_ERROR);
    session.close();
    expect(await recordOf(address)).toMatchObject({ reason: "origin-incomplete", received: { complete: false } });
  });

  test("content that ends with its connection and broke does not end with END_STREAM", async () => {
    const session = await proxySession(house.port, { from: newAddress() });
    const origin = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nnot all of it");
        setTimeout(() => socket.destroy(), 200);
      });
    });
    origin.listen(0, "127.0.0.1");
    await once(origin, "listening");
    const authority = `127.0.0.1:${(origin.address() as net.AddressInfo).port}`;
    const { stream } = await connectOver(session, authority);
    let text = "";
    let ended = false;
    stream.on("data", (b: Buffer) => {
      text += b.toString();
    });
    stream.on("end", () => {
      ended = !stream.closed;
    });
    stream.write(`GET / HTTP/1.0\r\nHost: ${authority}\r\n\r\n`);
    await closeOf(stream);
    expect(text).toContain("not all of it");
    expect(ended).toBe(false);
    expect(stream.rstCode).not.toBe(0);
    session.close();
    origin.close();
  });

  test("a client whose connection goes takes all its CONNECTs along", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const pairs = [await tunnel(session), await tunnel(session), await tunnel(session)];
    const broken = pairs.map(
      ({ socket }) => new Promise<NodeJS.ErrnoException>((resolve) => socket.resume().once("error", resolve)),
    );
    tcpUnder.get(session)?.resetAndDestroy();
    session.destroy();
    for (const error of await Promise.all(broken)) expect(error.code).toBe("ECONNRESET");
    const records = await house.recordsWhere((r) => r.address === address, 3, 20_000);
    for (const record of records) expect(record).toMatchObject({ kind: "connect", reason: "client-gone" });
  });
});

describe("bounds", () => {
  test("of a tunnel: its total time, its bytes", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const brief = await tunnel(session, "127.0.0.2");
    await closeOf(brief.stream);
    const little = await tunnel(session, "127.0.0.3");
    little.socket.write(Buffer.alloc(1_001));
    await closeOf(little.stream.resume());
    expect(little.stream.rstCode).toBe(http2.constants.NGHTTP2_CONNECT_ERROR);
    session.close();
    const records = await house.recordsWhere((r) => r.address === address, 2, 20_000);
    for (const record of records) expect(record).toMatchObject({ reason: "tunnel-limit", decision: "deny" });
  });

  test("a CONNECT inside which nothing comes ends, and so does a connection without streams", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    const { stream } = await connectOver(session, "127.0.0.1:1");
    const began = performance.now();
    await closeOf(stream);
    expect(performance.now() - began).toBeGreaterThan(1_000);
    await once(session, "close");
    expect(performance.now() - began).toBeLessThan(15_000);
    const records = await house.recordsWhere((r) => r.address === address, 2, 20_000);
    expect(records.map((r) => [r.kind, r.reason])).toEqual([
      ["connect", null],
      ["connection", "request-timeout"],
    ]);
  }, 30_000);

  test("a connection on which nothing was asked ends at the header limit, without a record", async () => {
    const address = newAddress();
    const session = await proxySession(house.port, { from: address });
    await once(session, "close");
    expect(house.records().filter((r) => r.address === address)).toEqual([]);
  }, 30_000);

  const code = (value: number): Buffer => {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(value);
    return b;
  };
  const connect = (id: number, authority: string, flags = 4): Buffer => {
    const head = section([
      [":method", "CONNECT"],
      [":authority", authority],
    ]);
    return frame(FRAME.headers, flags, id, head);
  };

  test.each<[string, (i: number) => Buffer]>([
    [
      "CONNECTs that are reset at once",
      (i) => Buffer.concat([connect(2 * i + 1, `127.0.0.1:${bare.port}`), frame(FRAME.rst, 0, 2 * i + 1, code(8))]),
    ],
    ["CONNECTs that are not valid", (i) => connect(2 * i + 1, "no-port", 5)],
    ["PING", () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
  ])(
    "a flood of %s ends the connection, and others are served",
    async (_what, piece) => {
      const address = newAddress();
      // It has asked before: a connection on which nothing was asked may end while a slow machine is flooded.
      const other = await proxySession(house.port, { from: newAddress() });
      await tunnelAmong(other);
      const socket = tls.connect({
        socket: net.connect({ port: house.port, host: "127.0.0.1", localAddress: address }).on("error", () => {}),
        ALPNProtocols: ["h2"],
        rejectUnauthorized: false,
      });
      await once(socket, "secureConnect");
      const client = new FrameClient(socket);
      for (let i = 0; i < 20_000 && !client.closed; i++) {
        client.send(piece(i));
        if (i % 20 === 19) await new Promise((done) => setImmediate(done));
      }
      await client.gone(8_000);
      const { stream, socket: end } = await tunnelAmong(other);
      stream.write("served");
      expect(((await once(end, "data")) as [Buffer])[0].toString()).toBe("served");
      other.destroy();
      await house.recordsWhere((r) => r.address === address && r.reason === "rate-limited", 1, 20_000);
    },
    30_000,
  );

  test("who resets CONNECTs has none left, nor connections that count", async () => {
    const address = newAddress();
    for (let round = 0; round < 3; round++) {
      const socket = tls.connect({
        socket: net.connect({ port: house.port, host: "127.0.0.1", localAddress: address }).on("error", () => {}),
        ALPNProtocols: ["h2"],
        rejectUnauthorized: false,
      });
      await once(socket, "secureConnect");
      const client = new FrameClient(socket);
      // Fewer than a flood; together more than one client may have.
      for (let i = 0; i < 150; i++) {
        client.send(connect(2 * i + 1, `127.0.0.1:${bare.port}`), frame(FRAME.rst, 0, 2 * i + 1, code(8)));
        if (i % 3 === 0) await new Promise((done) => setImmediate(done));
      }
      client.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
      await client.next((f) => f.type === FRAME.ping);
      socket.destroy();
    }
    const session = await proxySession(house.port, { from: address });
    const { stream, socket } = await tunnelAmong(session);
    stream.write("served");
    expect(((await once(socket, "data")) as [Buffer])[0].toString()).toBe("served");
    session.destroy();
    await expect.poll(() => metric("sallyport_connections", "client"), { timeout: 8_000 }).toBeLessThan(5);
  }, 30_000);

  /** A tunnel whose other end is known by what is said in it: others are being opened. */
  async function tunnelAmong(session: ClientHttp2Session): Promise<Pair> {
    const { stream } = await connectOver(session, `127.0.0.1:${bare.port}`);
    stream.write("here");
    for (;;) {
      for (const socket of bare.sockets) if (socket.read()?.toString() === "here") return { stream, socket };
      await wait(10);
    }
  }
});

test("a drain says GOAWAY, lets what is open finish, and opens nothing more", async () => {
  const origin = await startH2Origin((stream, seen, n) => {
    setTimeout(() => answering({}, "late")(stream, seen, n), 1_000);
  }, originCa.leaf("127.0.0.1"));
  const drained = await startTestHouse({
    roots: originCa.cert,
    policy: `server: { ${SERVER_TLS}, drain-timeout: 8s }\ndefaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n`,
  });
  const session = await proxySession(drained.port);
  const authority = `127.0.0.1:${origin.port}`;
  const { stream } = await connectOver(session, authority);
  const secured = tls.connect({
    socket: stream as unknown as Socket,
    ca: drained.ca,
    checkServerIdentity: () => undefined,
  });
  await once(secured, "secureConnect");
  const inner = new RawConnection(secured);
  inner.send(`GET /inner HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const late = ask(session, { ":method": "GET", ":scheme": "https", ":authority": authority, ":path": "/outer" });
  await expect.poll(() => origin.seen.length, { timeout: 5_000 }).toBe(2);
  const goaway = once(session, "goaway");
  const closed = drained.close();
  expect((await goaway)[0]).toBe(0);
  expect((await late).content.toString()).toBe("late");
  expect((await inner.response()).content).toBe("late");
  expect(await inner.closed()).toBe("end");
  await closed;
  await origin.close();
}, 30_000);
