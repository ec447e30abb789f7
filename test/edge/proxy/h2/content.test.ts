// Content rules over HTTP/2 on both sides: split DATA frames, trailers, framing of what is replaced, and what gRPC compressed.
import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { answerOf, ask, sessionThrough } from "./support.ts";

const SECRET = "s3cr3t-value-of-the-operator";
const testCa = new TestCa();
let house: TestHouse;
let origin: H2Origin;
const here = (): string => `127.0.0.1:${origin.port}`;
const open = () => sessionThrough(house.port, here(), house.ca);
const seenAt = (path: string) => origin.seen.filter((one) => one.headers[":path"] === path);

beforeAll(async () => {
  const answer = answering({ "x-a": "b" }, "hello", { "x-sum": "malicious_pattern" });
  origin = await startH2Origin((stream, seen, number) => {
    if (seen.headers[":path"]?.includes("/empty")) {
      stream.on("wantTrailers", () =>
        stream.sendTrailers({ "x-sum": seen.headers["x-bad"] === "1" ? "malicious%5Fpattern" : "fine" }),
      );
      stream.respond({ ":status": 200, "content-length": "0", "content-encoding": "gzip" }, { waitForTrailers: true });
      return stream.end();
    }
    if (seen.headers[":path"] !== "/sent/echo") return answer(stream, seen, number);
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.on("data", (bytes: Buffer) => stream.write(bytes));
    stream.on("end", () => stream.end());
  }, testCa.leaf("127.0.0.1"));
  house = await startTestHouse({
    roots: testCa.cert,
    env: { TEST_SECRET: SECRET },
    policy: `defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
secrets: { key: { env: TEST_SECRET } }
rules:
  - id: sent
    allow: https://${here()}/sent/**
    content:
      - block: { secrets: true, on: both }
      - redact: { text: hush, with: '-', on: request }
  - id: trailers
    allow: https://${here()}/trailers/**
    content: [{ block: { text: malicious_pattern, in: fields } }]
  - id: both
    allow: https://${here()}/both/**
    content: [{ block: { text: malicious_pattern } }]
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

test("a secret in DATA frames of a byte is refused, and the origin has seen nothing", async () => {
  const session = await open();
  const stream = session.request({ ":method": "POST", ":path": "/sent/split" });
  const answer = answerOf(stream);
  for (const byte of Buffer.from(`{"a":"${SECRET}"}`)) {
    if (!stream.writable) break;
    stream.write(Buffer.of(byte));
    await turn();
  }
  stream.end();
  expect((await answer).status).toBe(403);
  expect(seenAt("/sent/split")).toEqual([]);
  session.close();
});

test("what is replaced has another length, and neither its coding nor its digests", async () => {
  const session = await open();
  const headers = { ":method": "POST", ":path": "/sent/redact", "content-encoding": "gzip", "repr-digest": "x" };
  const answer = await ask(session, headers, gzipSync("a hush b"), { "content-digest": "sha-256=:x:", "x-other": "1" });
  expect([answer.status, answer.content.toString()]).toEqual([200, "hello"]);
  const [got] = seenAt("/sent/redact");
  expect(got?.content.toString()).toBe("a - b");
  expect(Object.keys({ ...got?.headers, ...got?.trailers }).filter((name) => /digest|encoding/.test(name))).toEqual([]);
  expect(got?.trailers).toMatchObject({ "x-other": "1" });
  session.close();
});

test("calls whose messages gRPC compressed are refused as gRPC clients understand", async () => {
  const session = await open();
  const headers = { ":method": "POST", ":path": "/sent/call", "content-type": "application/grpc", te: "trailers" };
  const answer = await ask(session, { ...headers, "grpc-encoding": "gzip" }, Buffer.from([1, 0, 0, 0, 1, 1]));
  expect(answer.headers["grpc-status"]).toBe("7");
  expect(seenAt("/sent/call")).toEqual([]);
  const plain = await ask(session, { ...headers, "grpc-encoding": "identity" }, Buffer.from([0, 0, 0, 0, 1, 1]));
  expect(plain.content.toString()).toBe("hello");
  session.close();
});

test("a gRPC call whose sides answer each other goes on message by message", async () => {
  const session = await open();
  const headers = { ":method": "POST", ":path": "/sent/echo", "content-type": "application/grpc", te: "trailers" };
  const stream = session.request(headers);
  const messages = ["one", "two", "three"].map((text) => Buffer.from([0, 0, 0, 0, text.length, ...Buffer.from(text)]));
  for (const message of messages) {
    const back = once(stream, "data");
    stream.write(message);
    expect((await back)[0]).toEqual(message);
  }
  const ended = new Promise((resolve) => stream.on("close", resolve));
  stream.on("error", () => {});
  stream.write(Buffer.from([0, 0, 0, 0, SECRET.length, ...Buffer.from(SECRET)]));
  await ended;
  const [record] = await house.recordsWhere((r) => r.path === "/sent/echo");
  expect(record).toMatchObject({ decision: "deny", reason: "content-blocked", rule: "sent" });
  session.close();
});

test("trailers are looked at where no rule looks at bodies, in both directions", async () => {
  const session = await open();
  const post = { ":method": "POST", ":path": "/trailers/sent" };
  const sent = await ask(session, post, "hello", { "x-t": "a malicious_pattern b" });
  expect(sent.status === 403 || !sent.whole).toBe(true);
  expect(seenAt("/trailers/sent").map((one) => one.trailers)).toEqual(seenAt("/trailers/sent").map(() => null));
  const got = await ask(session, { ":path": "/trailers/got" });
  expect(JSON.stringify(got.trailers ?? {})).not.toContain("malicious_pattern");
  expect(got.status === 502 || got.status === 403 || !got.whole).toBe(true);
  for (const path of ["/trailers/sent", "/trailers/got"]) {
    const [record] = await house.recordsWhere((r) => r.path === path);
    expect(record).toMatchObject({ decision: "deny", reason: "content-blocked", rule: "trailers" });
  }
  session.close();
});

test.each(["trailers", "both"])("trailers are looked at where there is no content before them (%s)", async (rule) => {
  const session = await open();
  const path = `/${rule}/empty`;
  const good = await ask(session, { ":path": path });
  expect([good.status, good.whole, good.trailers?.["x-sum"]]).toEqual([200, true, "fine"]);
  const bad = await ask(session, { ":path": path, "x-bad": "1" });
  expect(JSON.stringify(bad.trailers ?? {})).not.toContain("malicious");
  expect(bad.whole).toBe(false);
  const [record] = await house.recordsWhere((r) => r.path === path && r.decision === "deny");
  expect(record).toMatchObject({ decision: "deny", reason: "content-blocked", rule });
  session.close();
});

test("to a client of HTTP/1.1 they are dropped behind a length, and the length is not", async () => {
  const client = await tlsThrough(house.port, here(), { ca: house.ca });
  client.send(`GET /both/empty?1 HTTP/1.1\r\nHost: ${here()}\r\n\r\n`);
  const { raw } = await client.response();
  expect(raw).toMatch(/^HTTP\/1\.1 200 [\s\S]*content-length: 0\r\n/i);
  expect(raw).not.toMatch(/transfer-encoding|x-sum/i);
  const [record] = await house.recordsWhere((r) => r.path?.startsWith("/both/empty?") === true);
  expect(record).toMatchObject({ decision: "allow", notes: ["response-trailers-dropped"] });
  client.destroy();
});
