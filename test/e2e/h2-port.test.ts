// The same CONNECTs over HTTP/1.1 and over HTTP/2 to the proxy's own port: clients see the same, and the records are the same
// but for the version in which the CONNECT came.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { ask } from "../edge/proxy/h2/support.ts";
import { selfSigned } from "../support/certificates.ts";
import { type H2Door, openH2Door } from "../support/h2-door.ts";
import { type OriginScript, origins } from "../support/origin.ts";
import type { RawConnection } from "../support/raw-client.ts";
import { openSocket, type Scene, startScene, startTls } from "./scene.ts";

const dir = mkdtempSync(join(tmpdir(), "sallyport-two-ports-"));
let scene: Scene;
let doors: readonly [H2Door, H2Door];

beforeAll(async () => {
  const own = selfSigned("proxy.test");
  writeFileSync(join(dir, "cert.pem"), own.cert);
  writeFileSync(join(dir, "key.pem"), own.key);
  scene = await startScene(({ plain, secure }) => ({
    policy: `server: { tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true }, header-timeout: 2s, opaque: tunnel }
defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
clients: { bot: { password: a-password-of-a-bot } }
rules:
  - { id: blind, allow: ["pin.test:${secure}", "dead.test:1", "gone.invalid:443"], tunnel: { reason: pins } }
  - { id: some, allow: ["GET http://some.test:${plain}"] }
  - { id: bots, who: bot, allow: ["bot.test:${plain}"] }
  - { id: opened, allow: ["o.test:${secure}", "o.test:${plain}", "http://o.test:${plain}"], limits: { request: 1KiB } }
`,
  }));
  doors = [await openH2Door(scene.house.port, false), await openH2Door(scene.house.port)];
});
afterAll(async () => {
  await scene.close();
  for (const door of doors) await door.close();
  rmSync(dir, { recursive: true });
});

/** One client: what it sees goes into `seen`. */
class Client {
  readonly seen: unknown[] = [];
  readonly address = scene.newAddress();
  private readonly door: H2Door;
  constructor(door: H2Door) {
    this.door = door;
  }

  /** The answer of a CONNECT is seen: status and reason. */
  async connect(authority: string, fields = ""): Promise<RawConnection> {
    const client = await openSocket(this.door.port, this.address);
    client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`);
    const { status, fields: got, content } = await client.response();
    const reason = /reason=(.*)$/.exec(got["x-sallyport-decision"] ?? "")?.[1];
    this.seen.push([status, reason, got["proxy-status"], got["proxy-authenticate"], shape(content)]);
    return client;
  }

  async secured(authority: string, options: tls.ConnectionOptions = {}, fields = ""): Promise<RawConnection> {
    const outer = await this.connect(authority, fields);
    outer.socket.removeAllListeners("data");
    const ca = [scene.house.ca, scene.originCa.cert];
    return startTls(outer.socket, { ca, servername: "o.test", ...options });
  }

  async ask(client: RawConnection, text: string): Promise<void> {
    client.send(text);
    const { status, content } = await client.response();
    this.seen.push([status, shape(content)]);
  }
}

/** A body without what differs each time. */
const shape = (content: string): string => content.replace(/01[0-9A-Z]{24}/g, "ID");

const get = (host: string, path: string, fields = ""): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
const SECURE = (): string => `o.test:${scene.secure.port}`;
const PLAIN = (): string => `o.test:${scene.plain.port}`;
const bot = `Proxy-Authorization: Basic ${Buffer.from("bot:a-password-of-a-bot").toString("base64")}\r\n`;
const echo: OriginScript = ({ socket }) => {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n");
  socket.on("data", (b: Buffer) => socket.write(b));
};

const CASES: [string, (client: Client) => Promise<void>][] = [
  [
    "a blind tunnel",
    async (c) => {
      const inner = await c.secured(`pin.test:${scene.secure.port}`, {
        servername: "pin.test",
        checkServerIdentity: () => undefined,
      });
      await c.ask(inner, get("pin.test", "/blind"));
      inner.socket.end();
    },
  ],
  [
    "a blind tunnel with another SNI",
    async (c) => {
      const failed = await c
        .secured(`pin.test:${scene.secure.port}`, { servername: "other.test" })
        .catch(() => "broken");
      c.seen.push(failed);
    },
  ],
  [
    "a blind tunnel that is not TLS",
    async (c) => {
      const inner = await c.connect(`pin.test:${scene.secure.port}`);
      inner.send(get("pin.test", "/"));
      await inner.closed();
    },
  ],
  ["an origin that refuses the tunnel", async (c) => void (await c.connect("dead.test:1")).destroy()],
  ["a name that does not exist", async (c) => void (await c.connect("gone.invalid:443")).destroy()],
  ["what no rule allows", async (c) => void (await c.connect("never.test:443")).destroy()],
  ["a metadata address", async (c) => void (await c.connect("169.254.169.254:80")).destroy()],
  [
    "refused, and then another on the same connection",
    async (c) => {
      const client = await c.connect("never.test:443");
      client.send(`CONNECT ${PLAIN()} HTTP/1.1\r\nHost: ${PLAIN()}\r\n\r\n`);
      c.seen.push((await client.response()).status);
      await c.ask(client, get(PLAIN(), "/second"));
      client.socket.end();
    },
  ],
  [
    "requests inside TLS",
    async (c) => {
      const inner = await c.secured(SECURE());
      await c.ask(inner, get(SECURE(), "/one"));
      await c.ask(inner, `POST /two HTTP/1.1\r\nHost: ${SECURE()}\r\nContent-Length: 5\r\n\r\nabcde`);
      await c.ask(
        inner,
        `POST /three HTTP/1.1\r\nHost: ${SECURE()}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
      );
      inner.socket.end();
    },
  ],
  [
    "requests inside TLS over HTTP/2",
    async (c) => {
      const inner = await c.secured(SECURE(), { ALPNProtocols: ["h2"] });
      inner.socket.removeAllListeners("data");
      const session = http2.connect(`https://${SECURE()}`, { createConnection: () => inner.socket });
      for (const path of ["/h2-one", "/h2-two"]) {
        const { status, content } = await ask(session, { ":path": path });
        c.seen.push([status, content.toString()]);
      }
      session.close();
    },
  ],
  [
    "names that disagree",
    async (c) => {
      const inner = await c.secured(SECURE(), { servername: "other.test", checkServerIdentity: () => undefined });
      await c.ask(inner, get(SECURE(), "/sni"));
      const second = await c.secured(SECURE());
      await c.ask(second, get("other.test", "/host"));
      second.socket.end();
      inner.socket.end();
    },
  ],
  [
    "a request that is too large",
    async (c) => {
      const inner = await c.secured(SECURE());
      await c.ask(
        inner,
        `POST /large HTTP/1.1\r\nHost: ${SECURE()}\r\nContent-Length: 2000\r\n\r\n${"x".repeat(2000)}`,
      );
    },
  ],
  [
    "clear text inside",
    async (c) => {
      const inner = await c.connect(PLAIN());
      await c.ask(inner, get(PLAIN(), "/clear"));
      await c.ask(inner, get(PLAIN(), "/clear-again"));
      inner.socket.end();
    },
  ],
  [
    "a head that is not valid inside",
    async (c) => {
      const inner = await c.connect(PLAIN());
      await c.ask(inner, "GET / HTTP/1.1\r\nHost : x\r\n\r\n");
      c.seen.push(await inner.closed());
    },
  ],
  [
    "CONNECT inside CONNECT",
    async (c) => {
      const inner = await c.connect(PLAIN());
      await c.ask(inner, `CONNECT ${PLAIN()} HTTP/1.1\r\nHost: ${PLAIN()}\r\n\r\n`);
    },
  ],
  [
    "neither TLS nor HTTP, where it may pass and where not",
    async (c) => {
      const inner = await c.connect(PLAIN());
      inner.send("\x01\x02\x03\n");
      await wait(200);
      inner.socket.end();
      const other = await c.connect(`some.test:${scene.plain.port}`);
      other.send("\x01\x02\x03\n");
      c.seen.push((await other.closed()) === "open");
    },
  ],
  [
    "an upgrade inside",
    async (c) => {
      scene.scripts.set("/upgrade", echo);
      const inner = await c.connect(PLAIN());
      inner.send(get(PLAIN(), "/upgrade", "Connection: Upgrade\r\nUpgrade: raw\r\n"));
      await inner.until((text) => text.includes("\r\n\r\n"));
      inner.send("ping");
      await inner.until((text) => text.endsWith("ping"));
      inner.socket.end();
    },
  ],
  [
    "who asks: nobody, a wrong one, the right one",
    async (c) => {
      const host = `bot.test:${scene.plain.port}`;
      (await c.connect(host)).destroy();
      (await c.connect(host, "Proxy-Authorization: Basic Ym90Ong=\r\n")).destroy();
      const inner = await c.connect(host, bot);
      await c.ask(inner, get(host, "/bot"));
      inner.socket.end();
    },
  ],
  [
    "a response that breaks off",
    async (c) => {
      scene.scripts.set("/breaks", origins.answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe beginning"));
      const inner = await c.secured(SECURE());
      inner.send(get(SECURE(), "/breaks"));
      await inner.until((text) => text.endsWith("the beginning")).catch(() => "");
      inner.destroy();
    },
  ],
  ["nothing inside", async (c) => void (await c.connect(PLAIN())).socket.end()],
  [
    "a handshake that breaks off",
    async (c) => {
      const inner = await c.connect(SECURE());
      inner.send(Buffer.from("16030100f0010000ec0303", "hex"));
      await wait(100);
      inner.socket.end();
    },
  ],
  [
    "a client that does not trust us",
    async (c) => {
      const tried = c.secured(SECURE(), { ca: scene.originCa.cert });
      c.seen.push(await tried.then(() => "trusts").catch(() => "fails"));
    },
  ],
  [
    "nothing in time",
    async (c) => {
      const inner = await c.connect(`some.test:${scene.plain.port}`);
      inner.send("GET / HT");
      await inner.closed(6_000);
    },
  ],
];

/** What of a record may not differ. */
function comparable(record: AuditRecord, all: readonly AuditRecord[]): object {
  const { id: _id, at: _at, timings: _timings, address: _address, parent, clientProtocol, origin, ...rest } = record;
  const under = parent === null ? null : (all.find((r) => r.id === parent)?.kind ?? "?");
  const version = record.kind === "connect" ? /^(?:1\.1|2)$/.test(clientProtocol ?? "") : clientProtocol;
  const went = origin === null ? null : { ...origin, reused: undefined };
  // What we answer ourselves names the record's id.
  const received = origin === null ? { ...rest.received, sha256: "" } : rest.received;
  return { ...rest, received, under, version, origin: went };
}

test.each(CASES)("%s", { timeout: 40_000 }, async (_name, act) => {
  const clients = doors.map((door) => new Client(door));
  const found: object[][] = [];
  for (const client of clients) {
    await act(client);
    let records: AuditRecord[] = [];
    for (let still = 0; still < 4; await wait(100)) {
      const now = scene.house.records().filter((r) => r.address === client.address);
      still = now.length > 0 && now.length === records.length ? still + 1 : 0;
      records = now;
    }
    const versions = new Set(
      records.filter((r) => r.kind === "connect" && r.parent === null).map((r) => r.clientProtocol),
    );
    expect([...versions]).toEqual([client === clients[0] ? "1.1" : "2"]);
    // They end in any order.
    found.push(
      records.map((r) => comparable(r, records)).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
    );
  }
  expect(clients[1]?.seen).toEqual(clients[0]?.seen);
  expect(found[1]).toEqual(found[0]);
  expect(found[0]?.length).toBeGreaterThan(0);
});
