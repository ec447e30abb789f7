// What the policy says about WebSockets, through the whole house and on every path: decisions at the handshake, limits and
// content of messages, bad frames, records with bodies, draining.
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type RawOrigin, startRawOrigin } from "../support/origin.ts";
import {
  BINARY,
  CLOSE,
  closeCode,
  closePayload,
  frame,
  framesAt,
  handshakeText,
  masked,
  openPath,
  PATHS,
  PING,
  rawWebSocket,
  startWsOrigin,
  switching,
  TEXT,
  targetOn,
  type WsOrigin,
  wsClient,
} from "../support/web-socket.ts";

const ca = new TestCa();
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const POLICY = `defaults: { action: deny }
network: { allow: [127.0.0.0/8, "::1/128"] }
secrets:
  key: { env: TEST_SECRET }
rules:
  - id: closed
    deny: HOSTS/closed/**
  - id: small
    allow: HOSTS/small/**
    limits: { request: 100B, response: 200B }
  - id: filtered
    allow: HOSTS/filtered/**
    content:
      - block: { text: malicious_pattern, message: not here }
      - block: secrets
      - redact: { pattern: '\\b\\d{3}-\\d{2}-\\d{4}\\b', with: '[redacted]' }
    record: { bodies: 64B }
  - id: watched
    allow: HOSTS/watched/**
    mode: report
    content:
      - block: { text: malicious_pattern }
  - id: open
    allow: HOSTS/open/**
`;

let house: TestHouse;
let serial = 0;
const upgradeOf = async (target: string): Promise<AuditRecord> => {
  const [record] = await house.recordsWhere((r) => r.kind === "upgrade" && r.path === target);
  return record as AuditRecord;
};

/** Origins that echo and origins of raw frames, in clear text and behind TLS. */
let echoes: Record<"plain" | "secure", WsOrigin>;
let raws: Record<"plain" | "secure", RawOrigin>;

beforeAll(async () => {
  const tls = ca.leaf("localhost");
  const script = (c: Parameters<typeof switching>[0]) => void c.socket.write(switching(c));
  echoes = { plain: await startWsOrigin(), secure: await startWsOrigin(undefined, { secure: tls }) };
  raws = { plain: await startRawOrigin(script), secure: await startRawOrigin(script, { tls }) };
  const ports = [echoes, raws].flatMap(({ plain, secure }) => [plain.port, secure.port]);
  house = await startTestHouse({
    roots: ca.cert,
    policy: POLICY.replaceAll(/HOSTS(\S+)/g, (_, path) => `[${ports.map((port) => `"localhost:${port}${path}"`)}]`),
    env: { TEST_SECRET: "s3cr3t-value-of-the-operator" },
  });
});
afterAll(async () => {
  await house.close();
  for (const { plain, secure } of [echoes, raws]) {
    await plain.close();
    await secure.close();
  }
});

describe.each(PATHS)("%s", (path) => {
  const kind = path === "intercepted wss" ? "secure" : "plain";
  let origin: WsOrigin;
  let rawOrigin: RawOrigin;
  beforeAll(() => {
    origin = echoes[kind];
    rawOrigin = raws[kind];
  });
  const target = (rule: string): string => `/${rule}/${++serial}`;

  test("the handshake is decided like any request: by path, by query, by fields", async () => {
    const secret = "s3cr3t-value-of-the-operator";
    const rows: [string, string, string][] = [
      [target("closed"), "", "not-allowed"],
      [target("other"), "", "not-allowed"],
      [`${target("filtered")}?q=malicious_pattern`, "", "content-blocked"],
      [target("filtered"), "X-A: malicious_pattern\r\n", "content-blocked"],
      [target("filtered"), `X-A: ${secret}\r\n`, "content-blocked"],
    ];
    for (const [where, fields, reason] of rows) {
      const before = origin.requests.length;
      const connection = await openPath(path, house, origin.port);
      connection.send(handshakeText(targetOn(path, origin.port, where), origin.port, fields));
      const response = await connection.response();
      expect([response.status, JSON.parse(response.content).error]).toEqual([403, reason]);
      expect(origin.requests.length).toBe(before);
      connection.destroy();
    }
  });

  test("messages over the rule's limit close with 1009, in both directions", async () => {
    const where = target("small");
    const client = await wsClient(path, house, origin.port, where);
    client.socket.send("x".repeat(100));
    await client.until(1);
    client.socket.send("x".repeat(101));
    const { code, reason } = await client.closed;
    const record = await upgradeOf(where);
    expect([code, reason]).toEqual([1009, `Sallyport: request-too-large; id=${record.id}`]);
    expect(record).toMatchObject({
      decision: "deny",
      rule: "small",
      reason: "request-too-large",
      sent: { messages: 1, complete: false },
    });
    const back = target("small");
    const frames = await rawWebSocket(path, house, rawOrigin.port, back);
    rawOrigin.conversations.at(-1)?.socket.write(frame(TEXT, "x".repeat(201)));
    expect(closeCode(await frames.until(1))).toBe(1009);
    expect((await upgradeOf(back)).reason).toBe("response-too-large");
  });

  test("a blocked message closes with 1008 on both sides, and nothing of it went on", async () => {
    for (const text of [
      "a malicious_pattern b",
      `x ${Buffer.from("s3cr3t-value-of-the-operator").toString("base64")}`,
    ]) {
      const where = target("filtered");
      const client = await wsClient(path, house, origin.port, where);
      const there = origin.sockets.at(-1) as WsOrigin["sockets"][number];
      const got: string[] = [];
      const closed = new Promise<number>((resolve) => there.on("close", resolve));
      there.on("message", (data) => got.push(String(data)));
      client.socket.send("fine");
      await client.until(1);
      client.socket.send(text);
      expect([(await client.closed).code, await closed, got]).toEqual([1008, 1008, ["fine"]]);
      const record = await upgradeOf(where);
      expect(record).toMatchObject({ decision: "deny", rule: "filtered", reason: "content-blocked" });
      expect(record.error).not.toContain("s3cr3t");
    }
  });

  test("what a rule blocks does not go on in a ping, a pong or a close frame either", async () => {
    const ways: ((socket: Awaited<ReturnType<typeof wsClient>>["socket"]) => void)[] = [
      (socket) => socket.ping("malicious_pattern"),
      (socket) => socket.pong("s3cr3t%2Dvalue-of-the-operator"),
      (socket) => socket.close(4000, "malicious_pattern"),
    ];
    for (const send of ways) {
      const where = target("filtered");
      const client = await wsClient(path, house, origin.port, where);
      const there = origin.sockets.at(-1) as WsOrigin["sockets"][number];
      const got: string[] = [];
      for (const kind of ["ping", "pong"] as const) there.on(kind, (data) => got.push(String(data)));
      const closed = new Promise<[number, string]>((resolve) =>
        there.on("close", (c, text) => resolve([c, String(text)])),
      );
      send(client.socket);
      const [code, reason] = await closed;
      expect([code, got]).toEqual([1008, []]);
      expect(reason).toContain("content-blocked");
      expect(await upgradeOf(where)).toMatchObject({ decision: "deny", rule: "filtered", reason: "content-blocked" });
      client.socket.terminate();
    }
  });

  test("redact changes messages both ways; bodies are recorded where a rule says so", async () => {
    const where = target("filtered");
    const client = await wsClient(path, house, origin.port, where);
    client.socket.send("ssn 123-45-6789");
    const [message] = await client.until(1);
    expect(message?.data.toString()).toBe("ssn [redacted]");
    client.socket.close(1000);
    await client.closed;
    const record = await upgradeOf(where);
    expect(record).toMatchObject({
      decision: "allow",
      sent: { sha256: sha256("ssn 123-45-6789"), messages: 1 },
      received: { sha256: sha256("ssn [redacted]"), messages: 1 },
      requestBody: { base64: Buffer.from("ssn 123-45-6789").toString("base64"), whole: true },
    });
    expect(record.notes.some((note) => note.startsWith("content-redacted:filtered:"))).toBe(true);
    const [handshake] = await house.recordsWhere((r) => r.kind === "exchange" && r.path === where);
    expect(handshake?.notes.some((note) => note.startsWith("content-redacted"))).toBe(false);
  });

  test("report mode lets pass and says would-deny", async () => {
    const where = target("watched");
    const client = await wsClient(path, house, origin.port, where);
    client.socket.send("malicious_pattern");
    expect((await client.until(1))[0]?.data.toString()).toBe("malicious_pattern");
    client.socket.close();
    await client.closed;
    expect(await upgradeOf(where)).toMatchObject({ decision: "would-deny", reason: null });
  });

  test.each([
    ["no mask", frame(TEXT, "x"), 1002],
    ["an extension bit", masked(TEXT, "x", { rsv: 2 }), 1002],
    ["a fragmented ping", masked(PING, "x", { fin: false }), 1002],
    ["invalid UTF-8", masked(TEXT, Buffer.from([0xc3, 0x28])), 1007],
    ["a header of 1 GiB", masked(BINARY, "", { length: 2 ** 30 }), 1009],
    ["a reserved close code", masked(CLOSE, closePayload(1006)), 1002],
  ])("%s ends it for both", async (_, bytes, code) => {
    const where = target("open");
    const client = await rawWebSocket(path, house, rawOrigin.port, where);
    const index = rawOrigin.conversations.length - 1;
    client.send(bytes);
    expect(closeCode(await client.until(1))).toBe(code);
    await expect.poll(() => closeCode(framesAt(rawOrigin, index))).toBe(code);
    expect(await upgradeOf(where)).toMatchObject({ decision: "deny", notes: [`close:proxy:${code}`] });
    client.connection.destroy();
  });

  test("300 messages at once keep their order and their content", async () => {
    const client = await wsClient(path, house, origin.port, target("open"));
    const texts = Array.from({ length: 300 }, (_, i) => `${i} ${"z".repeat((i * 37) % 5_000)}`);
    for (const text of texts) client.socket.send(text);
    const got = await client.until(300);
    expect(got.map((m) => m.data.toString())).toEqual(texts);
    client.socket.close();
    await client.closed;
  });
});

test("a draining house tells clients and origins 1001, and waits for them no longer than it must", async () => {
  const other = await startTestHouse({ roots: ca.cert });
  const origin = await startWsOrigin();
  const clients = await Promise.all(
    PATHS.filter((p) => p !== "intercepted wss").map((p) => wsClient(p, other, origin.port)),
  );
  const there = origin.sockets.map((s) => new Promise<number>((resolve) => s.on("close", resolve)));
  const began = performance.now();
  await other.close();
  expect(performance.now() - began).toBeLessThan(15_000);
  for (const client of clients) expect((await client.closed).code).toBe(1001);
  expect(await Promise.all(there)).toEqual([1001, 1001]);
  await origin.close();
});

describe("behind a next proxy, and rerouted", () => {
  let next: TestHouse;
  let first: TestHouse;
  beforeAll(async () => {
    next = await startTestHouse({ roots: ca.cert });
    const [plain, secure] = [echoes.plain.port, echoes.secure.port];
    first = await startTestHouse({
      roots: ca.cert + next.ca,
      policy: `defaults: { action: deny }
network: { allow: [127.0.0.0/8, "::1/128"] }
rules:
  - id: on
    allow: ["http://localhost:${plain}", "https://localhost:${secure}"]
    via: http://127.0.0.1:${next.port}
  - id: elsewhere
    allow: ["http://named.example"]
    to: https://localhost:${secure}
`,
    });
  });
  afterAll(async () => {
    await first.close();
    await next.close();
  });

  test.each(PATHS)("%s: both proxies read it, and record the same", async (path) => {
    const origin = echoes[path === "intercepted wss" ? "secure" : "plain"];
    const where = `/next/${++serial}`;
    const client = await wsClient(path, first, origin.port, where);
    client.socket.send("hello ".repeat(1_000));
    expect((await client.until(1))[0]?.data.length).toBe(6_000);
    client.socket.close(4001);
    expect((await client.closed).code).toBe(4001);
    const body = { messages: 1, bytes: 6_000, sha256: sha256("hello ".repeat(1_000)), complete: true };
    for (const proxy of [first, next]) {
      const [record] = await proxy.recordsWhere((r) => r.kind === "upgrade" && r.path === where);
      expect(record).toMatchObject({ sent: body, received: body, reason: null });
    }
  });

  test("ws:// goes on as wss:// where a rule says so, with its subprotocol", async () => {
    const connection = await openPath("plain ws", first, 0);
    const fields = "Sec-WebSocket-Protocol: chat\r\n";
    connection.send(handshakeText("http://named.example/", 0, fields).replace("localhost:0", "named.example"));
    const head = await connection.until((text) => text.includes("\r\n\r\n"));
    expect(head).toMatch(/^HTTP\/1\.1 101 /);
    expect(head).toMatch(/sec-websocket-protocol: chat\r\n/i);
    connection.send(masked(TEXT, "ping me"));
    await connection.until((text) => text.includes("ping me"));
    connection.destroy();
  });
});
