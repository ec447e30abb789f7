// Names on an HTTP/2 connection inside CONNECT (pitfalls B2, B3, B6, B8, B9): each stream is judged by itself.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { origins, startRawOrigin } from "../../../support/origin.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let origin: H2Origin;
const here = (): string => `127.0.0.1:${origin.port}`;

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  origin = await startH2Origin(answering({}, "ok"), testCa.leaf("127.0.0.1"));
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

test.each([
  ["the same name", (): object => ({ ":authority": here() }), 200, null],
  ["host in place of :authority", () => ({ ":authority": undefined, host: here() }), 200, null],
  ["both, equal", () => ({ ":authority": here(), host: here() }), 200, null],
  ["another spelling of the address", () => ({ ":authority": `0x7f.1:${origin.port}` }), 200, null],
  ["B8: another :authority", () => ({ ":authority": "other.example" }), 421, "misdirected"],
  ["B3: another host field", () => ({ ":authority": undefined, host: "other.example" }), 421, "misdirected"],
  ["B6: another port", () => ({ ":authority": "127.0.0.1:1" }), 421, "misdirected"],
  ["B6: the scheme's own port", () => ({ ":authority": "127.0.0.1" }), 421, "misdirected"],
  ["another scheme", () => ({ ":authority": here(), ":scheme": "http" }), 421, "misdirected"],
  ["B9: :authority and host differ", () => ({ ":authority": here(), host: "b.example" }), 400, "malformed-request"],
  ["userinfo", () => ({ ":authority": `u@${here()}` }), 400, "malformed-request"],
  ["* for OPTIONS", () => ({ ":method": "OPTIONS", ":path": "*" }), 200, null],
  ["a fragment", () => ({ ":path": "/a#b" }), 400, "malformed-request"],
  ["TRACE", () => ({ ":method": "TRACE" }), 405, "method-not-allowed"],
  ["a method that nobody knows", () => ({ ":method": "FROB" }), 501, "not-implemented"],
  ["an expectation that nobody knows", () => ({ expect: "more" }), 417, "expectation-failed"],
] as const)("%s", async (_what, headers, status, reason) => {
  const old = new Set(house.records().map((r) => r.id));
  const session = await sessionThrough(house.port, here(), house.ca);
  const parent = (await house.recordsWhere((r) => r.kind === "connect" && !old.has(r.id)))[0]?.id;
  const before = origin.seen.length;
  const first = await ask(session, { ":path": "/before" });
  const answer = await ask(session, { ":path": "/this", ...headers() });
  const after = await ask(session, { ":path": "/after" });
  expect([first.status, answer.status, after.status]).toEqual([200, status, 200]);
  expect(origin.seen.length - before).toBe(status === 200 ? 3 : 2);
  session.close();
  const records = await house.recordsWhere((r) => r.parent === parent, 3);
  expect(records.map((r) => r.reason)).toEqual([null, reason, null]);
  if (reason !== null) {
    expect(answer.headers["x-sallyport-decision"]).toContain(`reason=${reason}`);
    expect(records[1]).toMatchObject({ status, decision: "deny", clientProtocol: "2" });
  }
});

test("CONNECT on a stream is answered 405", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  const stream = session.request({ ":method": "CONNECT", ":authority": "b.example:443" }, { endStream: true });
  const status = await new Promise((resolve) => stream.on("response", (h) => resolve(h[":status"])));
  expect(status).toBe(405);
  session.close();
});

test("B2: SNI other than CONNECT: every stream is answered 421", async () => {
  const session = await sessionThrough(house.port, `localhost:${origin.port}`, house.ca, { servername: "b.example" });
  const before = origin.seen.length;
  for (const authority of [`localhost:${origin.port}`, "b.example"])
    expect((await ask(session, { ":authority": authority })).status).toBe(421);
  expect(origin.seen.length).toBe(before);
  session.close();
});

describe("B5: CONNECT to an address with a name in SNI: the origin sees the name, as the client said it", () => {
  const named = testCa.leaf("o.test");

  test("an origin of HTTP/2", async () => {
    const other = await startH2Origin(answering({}, "ok"), named);
    const session = await sessionThrough(house.port, `127.0.0.1:${other.port}`, house.ca, { servername: "o.test" });
    const name = `o.test:${other.port}`;
    expect((await ask(session, { ":authority": name })).status).toBe(200);
    expect((await ask(session, { ":authority": undefined, host: `O.TEST:${other.port}` })).status).toBe(200);
    expect((await ask(session, { ":authority": `127.0.0.1:${other.port}` })).status).toBe(200);
    expect(other.seen.map((s) => [s.headers[":authority"], s.headers.host])).toEqual([
      [name, undefined],
      [name, undefined],
      [`127.0.0.1:${other.port}`, undefined],
    ]);
    session.close();
    await other.close();
  });

  test("an origin of HTTP/1.1, which clients of HTTP/1.1 ask in the same words", async () => {
    const other = await startRawOrigin(origins.text("ok"), { tls: named });
    const authority = `127.0.0.1:${other.port}`;
    const name = `o.test:${other.port}`;
    const session = await sessionThrough(house.port, authority, house.ca, { servername: "o.test" });
    expect((await ask(session, { ":authority": name, ":path": "/2" })).status).toBe(200);
    session.close();
    const client = await tlsThrough(house.port, authority, { ca: house.ca, servername: "o.test" });
    client.send(`GET /1 HTTP/1.1\r\nHost: ${name}\r\n\r\n`);
    await other.until((text) => text.includes("GET /1 "));
    client.socket.destroy();
    const hosts = [...other.text().matchAll(/^GET \/\d HTTP\/1\.1\r\nHost: (.*)\r\n/gm)].map((found) => found[1]);
    expect(hosts).toEqual([name, name]);
    expect(other.text().match(/host:/gi)).toHaveLength(2);
    await other.close();
  });
});

test("B5: so does the origin of a rule that keeps Host", async () => {
  const other = await startRawOrigin(origins.text("ok"));
  const kept = await startTestHouse({
    policy: `network: { allow: [127.0.0.0/8] }
rules: [{ id: r, allow: ["https://o.test:4443", "https://127.0.0.1:4443"], to: { url: "http://127.0.0.1:${other.port}", host: keep } }]
`,
  });
  const authority = "127.0.0.1:4443";
  const session = await sessionThrough(kept.port, authority, kept.ca, { servername: "o.test" });
  expect((await ask(session, { ":authority": "o.test:4443", ":path": "/2" })).status).toBe(200);
  expect((await ask(session, { ":authority": authority, ":path": "/3" })).status).toBe(200);
  session.close();
  const client = await tlsThrough(kept.port, authority, { ca: kept.ca, servername: "o.test" });
  client.send("GET /1 HTTP/1.1\r\nHost: o.test:4443\r\n\r\n");
  expect((await client.response()).status).toBe(200);
  client.socket.destroy();
  const hosts = [...other.text().matchAll(/^GET \/\d HTTP\/1\.1\r\nHost: (.*)\r\n/gim)].map((found) => found[1]);
  expect(hosts).toEqual(["o.test:4443", authority, "o.test:4443"]);
  await Promise.all([kept.close(), other.close()]);
});

test("T5: extended CONNECT is not advertised, and push is not asked for", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  await ask(session, { ":path": "/" });
  expect(session.remoteSettings.enableConnectProtocol ?? false).toBe(false);
  expect(session.remoteSettings.maxConcurrentStreams).toBe(100);
  session.close();
  expect(origin.sessions.at(-1)?.remoteSettings.enablePush).toBe(false);
});
