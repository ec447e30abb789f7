// HTTP/2 on the proxy's own TLS port: requests for http and https, CONNECT on streams with everything inside, and what is
// refused. Each has one record, as on the HTTP/1.1 port.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { selfSigned, TestCa } from "../../../support/certificates.ts";
import { closeOf, connectOver, proxySession } from "../../../support/h2-proxy.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../../../support/origin.ts";
import { RawConnection } from "../../../support/raw-client.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, FRAME, FrameClient, frame, section } from "./support.ts";

const dir = mkdtempSync(join(tmpdir(), "sallyport-h2-port-"));
const originCa = new TestCa();
const proxy = selfSigned("proxy.test");
const SERVER_TLS = `tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true }`;
let house: TestHouse;
let plain: RawOrigin;
let secure: RawOrigin;
let modern: H2Origin;
let from = 0;
/** A source address of its own, by which records are told apart. */
const newAddress = (): string => `127.88.0.${++from}`;

beforeAll(async () => {
  writeFileSync(join(dir, "cert.pem"), proxy.cert);
  writeFileSync(join(dir, "key.pem"), proxy.key);
  plain = await startRawOrigin(origins.text("hello"));
  secure = await startRawOrigin(origins.text("hello"), { tls: originCa.leaf("127.0.0.1") });
  modern = await startH2Origin(answering({}, "modern"), originCa.leaf("127.0.0.1"));
  house = await startTestHouse({
    roots: originCa.cert,
    policy: `server: { ${SERVER_TLS}, connections-per-client: 4, opaque: tunnel, header-timeout: 2s, idle-timeout: 3s }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
clients: { bot: { password: a-password-of-a-bot } }
rules:
  - { id: no, deny: ["https://127.0.0.2", "http://127.0.0.2"] }
`,
  });
});
afterAll(async () => {
  await house.close();
  await Promise.all([plain.close(), secure.close(), modern.close()]);
  rmSync(dir, { recursive: true });
});

const here = (origin: { readonly port: number }): string => `127.0.0.1:${origin.port}`;
const get = (scheme: "http" | "https", authority: string, path: string): http2.OutgoingHttpHeaders => ({
  ":method": "GET",
  ":scheme": scheme,
  ":authority": authority,
  ":path": path,
});
const open = (address: string, to = house): Promise<ClientHttp2Session> => proxySession(to.port, { from: address });
const recordsOf = (address: string, count: number, of = house) =>
  of.recordsWhere((r) => r.address === address, count, 20_000);
const inClear = (stream: ClientHttp2Stream): RawConnection => new RawConnection(stream as unknown as Socket);
async function inTls(stream: ClientHttp2Stream, options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    socket: stream as unknown as Socket,
    ca: [house.ca, originCa.cert],
    checkServerIdentity: () => undefined,
    ...options,
  });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

describe("a request", () => {
  test.each([
    ["http", () => plain, "hello", "1.1"],
    ["https", () => secure, "hello", "1.1"],
    ["https", () => modern, "modern", "2"],
  ] as const)("for %s", async (scheme, origin, content, originProtocol) => {
    const address = newAddress();
    const session = await open(address);
    const answer = await ask(session, get(scheme, here(origin()), `/a-${from}`));
    expect(answer).toMatchObject({ status: 200, whole: true });
    expect(answer.content.toString()).toBe(content);
    session.close();
    const [record] = await recordsOf(address, 1);
    expect(record).toMatchObject({
      kind: "exchange",
      decision: "allow",
      scheme,
      host: "127.0.0.1",
      port: origin().port,
      path: `/a-${from}`,
      clientProtocol: "2",
      originProtocol,
      parent: null,
    });
  });

  test("what belongs to this hop stays here", async () => {
    const session = await open(newAddress());
    const headers = {
      ...get("http", here(plain), "/hop"),
      te: "trailers",
      "proxy-authorization": "Basic Ym90Onh5eg==",
    };
    // A wrong credential, which the origin must not see either.
    expect((await ask(session, headers)).status).toBe(407);
    const good = `Basic ${Buffer.from("bot:a-password-of-a-bot").toString("base64")}`;
    expect((await ask(session, { ...headers, "proxy-authorization": good })).status).toBe(200);
    session.close();
    const got = plain.text();
    expect(got).toContain("GET /hop HTTP/1.1");
    expect(got).not.toMatch(/^proxy-|^:|^http2/im);
    expect(got).toMatch(/^via: 2 sallyport-/im);
  });

  test.each<[string, http2.OutgoingHttpHeaders, number]>([
    ["another scheme", { ":scheme": "ftp" }, 400],
    ["user information", { ":authority": "u:p@127.0.0.1" }, 400],
    ["a port that is none", { ":authority": "127.0.0.1:99999" }, 400],
    ["a Host that names another", { host: "127.0.0.2" }, 400],
    ["a fragment", { ":path": "/x#y" }, 400],
    ["an unknown method", { ":method": "FROBNICATE" }, 501],
  ])("%s: refused and recorded", async (_what, headers, status) => {
    const address = newAddress();
    const session = await open(address);
    const answer = await ask(session, { ...get("http", here(plain), "/bad"), ...headers });
    expect(answer.status).toBe(status);
    session.close();
    const [record] = await recordsOf(address, 1);
    expect(record).toMatchObject({ decision: "deny", status, clientProtocol: "2" });
    expect(plain.text()).not.toContain("/bad");
  });

  test("for the proxy itself: refused", async () => {
    const address = newAddress();
    const session = await open(address);
    const answer = await ask(session, get("https", `127.0.0.1:${house.port}`, "/"));
    expect(answer.status).toBe(403);
    const connect = await connectOver(session, `127.0.0.1:${house.port}`);
    expect(connect.status).toBe(403);
    session.close();
    for (const record of await recordsOf(address, 2)) expect(record.reason).toBe("address-prohibited");
  });

  test("that came through us already: refused", async () => {
    const address = newAddress();
    const session = await open(address);
    await ask(session, get("http", here(plain), "/ours"));
    const [, pseudonym] = /^via: 2 (sallyport-\w+)/im.exec(plain.text()) ?? [];
    const via = `1.1 ${pseudonym}`;
    expect((await ask(session, { ...get("http", here(plain), "/ring"), via })).status).toBe(502);
    expect((await connectOver(session, here(plain), { via })).status).toBe(502);
    session.close();
    const records = await recordsOf(address, 3);
    expect(records.map((r) => r.reason)).toEqual([null, "loop", "loop"]);
  });
});

describe("CONNECT", () => {
  test("TLS inside: opened, HTTP/1.1 and HTTP/2", async () => {
    const address = newAddress();
    const session = await open(address);
    const old = new RawConnection(await inTls((await connectOver(session, here(secure))).stream));
    const modernSocket = await inTls((await connectOver(session, here(modern))).stream, { ALPNProtocols: ["h2"] });
    const inner = http2.connect(`https://${here(modern)}`, { createConnection: () => modernSocket });
    for (const path of ["/one", "/two"]) {
      old.send(`GET ${path} HTTP/1.1\r\nHost: ${here(secure)}\r\n\r\n`);
      expect((await old.response()).content).toBe("hello");
      expect((await ask(inner, { ":path": path })).content.toString()).toBe("modern");
    }
    inner.close();
    old.destroy();
    session.close();
    const records = await recordsOf(address, 6);
    const connects = records.filter((r) => r.kind === "connect");
    expect(connects).toMatchObject([
      { decision: "allow", status: 200, clientProtocol: "2", uninspected: false },
      { decision: "allow", status: 200, clientProtocol: "2", uninspected: false },
    ]);
    const exchanges = records.filter((r) => r.kind === "exchange");
    expect(exchanges.map((r) => [r.clientProtocol, r.status]).sort()).toEqual([
      ["1.1", 200],
      ["1.1", 200],
      ["2", 200],
      ["2", 200],
    ]);
    for (const r of exchanges) expect(connects.map((c) => c.id)).toContain(r.parent);
  });

  test("clear text inside: HTTP/1.1, and HTTP/2 with prior knowledge", async () => {
    const clear = await startH2Origin(answering({}, "clear"), null);
    const address = newAddress();
    const session = await open(address);
    const old = inClear((await connectOver(session, here(plain))).stream);
    old.send(`GET /clear HTTP/1.1\r\nHost: ${here(plain)}\r\n\r\n`);
    expect((await old.response()).content).toBe("hello");
    const { stream } = await connectOver(session, here(clear));
    const inner = http2.connect(`http://${here(clear)}`, { createConnection: () => stream as unknown as Socket });
    expect((await ask(inner, { ":path": "/h2c" })).content.toString()).toBe("clear");
    inner.close();
    old.socket.end();
    session.close();
    const records = await recordsOf(address, 4);
    expect(records.filter((r) => r.kind === "exchange").map((r) => r.clientProtocol)).toEqual(["1.1", "2"]);
    await clear.close();
  });

  test("neither inside: passed where the policy says so", async () => {
    const echo = await startRawOrigin(({ socket }) => void socket.on("data", (b: Buffer) => socket.write(b)), {
      greet: true,
    });
    const address = newAddress();
    const session = await open(address);
    const inner = inClear((await connectOver(session, here(echo))).stream);
    inner.send("\x00neither\n");
    await inner.until((text) => text === "\x00neither\n");
    inner.socket.end();
    session.close();
    const records = await recordsOf(address, 2);
    expect(records[1]).toMatchObject({ uninspected: true, sent: { bytes: 9 }, received: { bytes: 9 }, reason: null });
    await echo.close();
  });

  test("refused by the policy: 403 on this stream, and the next one is served", async () => {
    const address = newAddress();
    const session = await open(address);
    const { status, headers, stream } = await connectOver(session, "127.0.0.2:443");
    expect(status).toBe(403);
    expect(headers["x-sallyport-decision"]).toMatch(/^deny; id=\w+; reason=not-allowed$/);
    const pieces: Buffer[] = [];
    stream.on("data", (b: Buffer) => pieces.push(b));
    expect(await closeOf(stream)).toBe(0);
    expect(JSON.parse(Buffer.concat(pieces).toString())).toMatchObject({ error: "not-allowed", rule: "no" });
    expect((await connectOver(session, here(plain))).status).toBe(200);
    session.destroy();
    const [record] = await house.recordsWhere((r) => r.address === address && r.host === "127.0.0.2", 1, 20_000);
    expect(record).toMatchObject({ kind: "connect", decision: "deny", status: 403, rule: "no", clientProtocol: "2" });
  });

  test.each<[string, string, http2.OutgoingHttpHeaders]>([
    ["without a port", "127.0.0.1", {}],
    ["with content", "127.0.0.1:1", { "content-length": 5 }],
  ])("%s: 400", async (_what, authority, headers) => {
    const address = newAddress();
    const session = await open(address);
    expect((await connectOver(session, authority, headers)).status).toBe(400);
    session.close();
    const [record] = await recordsOf(address, 1);
    expect(record).toMatchObject({ kind: "connection", reason: "malformed-request", status: 400 });
  });

  test.each<[string, [string, string][]]>([
    [
      "with :scheme and :path",
      [
        [":scheme", "https"],
        [":path", "/"],
      ],
    ],
    [
      "extended (RFC 8441), which is not offered",
      [
        [":protocol", "websocket"],
        [":scheme", "https"],
        [":path", "/"],
      ],
    ],
  ])("%s: reset and recorded", async (_what, fields) => {
    const address = newAddress();
    const socket = tls.connect({
      port: house.port,
      host: "127.0.0.1",
      localAddress: address,
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
    } as tls.ConnectionOptions);
    await once(socket, "secureConnect");
    const client = new FrameClient(socket);
    const head = section([[":method", "CONNECT"], [":authority", here(plain)], ...fields]);
    client.send(frame(FRAME.headers, 4, 1, head));
    await client.next((f) => f.type === FRAME.rst && f.stream === 1);
    const settings = await client.next((f) => f.type === FRAME.settings && (f.flags & 1) === 0);
    // SETTINGS_ENABLE_CONNECT_PROTOCOL is 8.
    for (let i = 0; i < settings.payload.length; i += 6)
      if (settings.payload.readUInt16BE(i) === 8) expect(settings.payload.readUInt32BE(i + 2)).toBe(0);
    socket.destroy();
    const [record] = await recordsOf(address, 1);
    expect(record).toMatchObject({ kind: "connection", reason: "malformed-request" });
  });

  test("each counts as a connection of its client", async () => {
    const address = newAddress();
    const session = await open(address);
    const opened = [];
    for (let i = 0; i < 3; i++) opened.push(await connectOver(session, here(plain)));
    expect(opened.map((o) => o.status)).toEqual([200, 200, 200]);
    expect((await connectOver(session, here(plain))).status).toBe(503);
    // Requests are none.
    expect((await ask(session, get("http", here(plain), "/more"))).status).toBe(200);
    opened[0]?.stream.close(http2.constants.NGHTTP2_CANCEL);
    await expect.poll(async () => (await connectOver(session, here(plain))).status, { timeout: 5_000 }).toBe(200);
    // Another connection would be the sixth: it is told so, and closed.
    const over = await open(address);
    expect((await ask(over, get("http", here(plain), "/over"))).status).toBe(503);
    await once(over, "close");
    session.destroy();
    const busy = () => house.records().filter((r) => r.address === address && r.reason === "busy");
    await expect.poll(() => busy().length, { timeout: 5_000 }).toBeGreaterThanOrEqual(2);
    expect(busy()[0]).toMatchObject({ kind: "connection", decision: "deny", status: 503, clientProtocol: "2" });
  });
});

describe("who asks", () => {
  let strict: TestHouse;
  beforeAll(async () => {
    strict = await startTestHouse({
      roots: originCa.cert,
      policy: `server: { ${SERVER_TLS}, authentication: required }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
clients: { bot: { password: a-password-of-a-bot } }
`,
    });
  });
  afterAll(() => strict.close());

  test("is said on each stream", async () => {
    const address = newAddress();
    const session = await open(address, strict);
    const authorization = `Basic ${Buffer.from("bot:a-password-of-a-bot").toString("base64")}`;
    const refused = await connectOver(session, here(plain));
    expect(refused.status).toBe(407);
    expect(refused.headers["proxy-authenticate"]).toMatch(/^Basic /);
    expect((await ask(session, get("http", here(plain), "/who"))).status).toBe(407);
    const good = await connectOver(session, here(plain), { "proxy-authorization": authorization });
    expect(good.status).toBe(200);
    const inner = inClear(good.stream);
    inner.send(`GET /inside HTTP/1.1\r\nHost: ${here(plain)}\r\n\r\n`);
    expect((await inner.response()).status).toBe(200);
    const request = { ...get("http", here(plain), "/who"), "proxy-authorization": authorization };
    expect((await ask(session, request)).status).toBe(200);
    // What was said on another stream is not this one's.
    expect((await ask(session, get("http", here(plain), "/who"))).status).toBe(407);
    session.destroy();
    const records = await recordsOf(address, 6, strict);
    expect(records.map((r) => [r.kind, r.client, r.status])).toEqual([
      ["connect", null, 407],
      ["exchange", null, 407],
      ["connect", "bot", 200],
      ["exchange", "bot", 200],
      ["exchange", "bot", 200],
      ["exchange", null, 407],
    ]);
  });
});

describe("what is agreed by ALPN", () => {
  const agreed = async (port: number, offered: string[]): Promise<tls.TLSSocket> => {
    const socket = tls.connect({ port, host: "127.0.0.1", ALPNProtocols: offered, rejectUnauthorized: false });
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    return socket;
  };

  test("HTTP/2 where the policy file says so and the client offers it", async () => {
    expect((await agreed(house.port, ["http/1.1", "h2"])).destroy().alpnProtocol).toBe("h2");
    expect((await agreed(house.port, ["http/1.1"])).destroy().alpnProtocol).toBe("http/1.1");
    const old = await startTestHouse({ policy: `server: { ${SERVER_TLS.replace(", http2: true", "")} }\n` });
    expect((await agreed(old.port, ["h2", "http/1.1"])).destroy().alpnProtocol).toBe("http/1.1");
    await old.close();
  });

  test("a client that agrees on HTTP/2 and goes on in HTTP/1.1, as those of Go do, is served", async () => {
    const socket = await agreed(house.port, ["h2", "http/1.1"]);
    expect(socket.alpnProtocol).toBe("h2");
    const client = new RawConnection(socket);
    client.send(`CONNECT ${here(plain)} HTTP/1.1\r\nHost: ${here(plain)}\r\n\r\n`);
    await client.until((text) => text.includes("200 Connection Established"));
    client.take();
    client.send(`GET /go HTTP/1.1\r\nHost: ${here(plain)}\r\n\r\n`);
    expect((await client.response()).content).toBe("hello");
    client.destroy();
  });

  test("what is neither is refused", async () => {
    const client = new RawConnection(await agreed(house.port, ["h2"]));
    client.send("PRI * HTTP/3.0\r\n\r\n");
    expect((await client.response()).status).toBeGreaterThanOrEqual(400);
    expect(await client.closed()).toBe("end");
  });

  test("the preface may come in pieces", async () => {
    const socket = await agreed(house.port, ["h2"]);
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for (const byte of preface) {
      socket.write(Buffer.from([byte]));
      await new Promise((done) => setImmediate(done));
    }
    socket.write(frame(FRAME.settings, 0, 0));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer[3]).toBe(FRAME.settings);
    socket.destroy();
  });
});
