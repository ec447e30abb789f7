// What is not valid HTTP/2 is a stream error (pitfalls T2): never forwarded, recorded once, and the others go on.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../../../support/origin.ts";
import { pause } from "../../../support/pause.ts";
import { answerOf, ask, FRAME, type FrameClient, frame, framesThrough, section, sessionThrough } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let origin: RawOrigin;
const here = (): string => `127.0.0.1:${origin.port}`;
/** A client, and the id of its CONNECT's record. */
async function open(): Promise<{ client: FrameClient; parent: string }> {
  const ids = (): string[] => house.records().flatMap((r) => (r.kind === "connect" ? [r.id] : []));
  const before = new Set(ids());
  const client = await framesThrough(house.port, here(), house.ca);
  for (;;) {
    const parent = ids().find((id) => !before.has(id));
    if (parent !== undefined) return { client, parent };
    await new Promise((done) => setTimeout(done, 10));
  }
}

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  origin = await startRawOrigin(origins.text("ok"), { tls: testCa.leaf("127.0.0.1") });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

type Pairs = readonly (readonly [string, string])[];
const head = (...more: Pairs): Pairs => [
  [":method", "GET"],
  [":scheme", "https"],
  [":authority", here()],
  [":path", "/bad"],
  ...more,
];
const without = (name: string, ...more: Pairs): Pairs => [...head().filter(([n]) => n !== name), ...more];
const replaced = (name: string, value: string): Pairs => head().map(([n, v]) => [n, n === name ? value : v]);

async function good(client: FrameClient, id: number): Promise<void> {
  client.send(frame(FRAME.headers, 5, id, section(replaced(":path", "/good"))));
  await client.next((f) => f.stream === id && (f.flags & 1) === 1);
}

describe("a head that is not valid is reset with PROTOCOL_ERROR", () => {
  test.each([
    ["an upper-case name", () => head(["X-Upper", "1"])],
    ["transfer-encoding", () => head(["transfer-encoding", "chunked"])],
    ["connection", () => head(["connection", "close"])],
    ["keep-alive", () => head(["keep-alive", "1"])],
    ["proxy-connection", () => head(["proxy-connection", "close"])],
    ["upgrade", () => head(["upgrade", "websocket"])],
    ["te other than trailers", () => head(["te", "gzip"])],
    ["a space in the path", () => replaced(":path", "/a b")],
    ["CRLF in the path", () => replaced(":path", "/a\r\nX: 1")],
    ["an empty path", () => replaced(":path", "")],
    ["a path without a slash", () => replaced(":path", "x")],
    ["* for GET", () => replaced(":path", "*")],
    ["a space in the method", () => replaced(":method", "GET /x HTTP/1.1")],
    ["CRLF in :authority", () => replaced(":authority", "a\r\nb")],
    ["a pseudo-field that nobody knows", () => head([":x", "1"])],
    ["a pseudo-field after others", () => [...without(":path"), ["x", "1"], [":path", "/"]] as Pairs],
    ["a pseudo-field twice", () => head([":path", "/b"])],
    ["no path", () => without(":path")],
    ["no method", () => without(":method")],
    ["no scheme", () => without(":scheme")],
    ["no name", () => without(":authority")],
    ["two lengths", () => head(["content-length", "1"], ["content-length", "2"])],
    [":status in a request", () => head([":status", "200"])],
    [":protocol without extended CONNECT", () => head([":protocol", "websocket"])],
  ] as const)("%s", async (_what, fields) => {
    const { client, parent } = await open();
    await good(client, 1);
    const before = origin.text();
    client.send(frame(FRAME.headers, 5, 3, section(fields())));
    const reset = await client.next((f) => f.type === FRAME.rst && f.stream === 3);
    expect(reset.payload.readUInt32BE(0)).toBe(1);
    expect(origin.text()).toBe(before);
    // The connection goes on, and what follows is judged by itself.
    await good(client, 5);
    client.socket.destroy();
    const records = await house.recordsWhere((r) => r.parent === parent, 3);
    expect(records.map((r) => [r.kind, r.reason, r.status, r.path]).sort()).toEqual([
      ["connection", "malformed-request", null, null],
      ["exchange", null, 200, "/good"],
      ["exchange", null, 200, "/good"],
    ]);
    expect(origin.text()).not.toContain("/bad");
  });
});

describe("a field that cannot be one never goes on (the HTTP/2 library drops it)", () => {
  test.each([
    ["CRLF in a value", ["x-bad", "1\r\nx-b: 2"]],
    ["NUL in a value", ["x-bad", "1\0"]],
    ["a colon in a name", ["x-bad:a", "1"]],
    ["a space in a name", ["x-bad a", "1"]],
  ] as const)("%s", async (_what, field) => {
    const { client } = await open();
    client.send(frame(FRAME.headers, 5, 1, section(replaced(":path", "/dropped").concat([field]))));
    await client.next((f) => f.stream === 1);
    client.socket.destroy();
    expect(origin.text()).not.toContain("x-b");
  });
});

test("a bad head with nothing after it is recorded as well", async () => {
  const { client, parent } = await open();
  client.send(frame(FRAME.headers, 5, 1, section(head(["X-Upper", "1"]))));
  await client.next((f) => f.type === FRAME.rst);
  client.socket.destroy();
  const [record] = await house.recordsWhere((r) => r.parent === parent);
  expect(record).toMatchObject({ kind: "connection", reason: "malformed-request", clientProtocol: "2" });
});

describe("heads that are reset before the first good one", () => {
  const bad = (id: number): Buffer => frame(FRAME.headers, 5, id, section(head(["X-Upper", "1"])));
  const fine = (id: number): Buffer => frame(FRAME.headers, 5, id, section(replaced(":path", "/good")));
  const ping = (): Buffer => frame(FRAME.ping, 0, 0, Buffer.alloc(8));
  const settings = (): Buffer => frame(FRAME.settings, 0, 0);
  type Sending = () => Buffer[];
  const cases: readonly (readonly [string, readonly Sending[], number, number])[] = [
    ["none; the client begins at 1", [() => [fine(1)]], 0, 1],
    ["none; the client begins at 3", [() => [fine(3)]], 0, 3],
    ["none; the client begins at 13, after SETTINGS and PING", [() => [settings()], () => [ping(), fine(13)]], 0, 13],
    ["one, together with the good one", [() => [bad(1), fine(3)]], 1, 3],
    ["one, a moment before the good one", [() => [bad(1)], () => [fine(3)]], 1, 3],
    ["one, which has the number 3", [() => [bad(3)], () => [fine(5)]], 1, 5],
    [
      "three, with SETTINGS and PING between them",
      [() => [bad(1), ping()], () => [bad(3), settings()], () => [bad(5), fine(7)]],
      3,
      7,
    ],
    [
      "two before; what follows while another stream is open may have been left out",
      [() => [bad(1), bad(3), fine(5), bad(7), fine(9)]],
      2,
      9,
    ],
    ["two before, one after", [() => [bad(1), bad(3), fine(5)], () => [bad(7), fine(9)]], 3, 9],
    [
      "two before, one after, each for itself",
      [() => [bad(1)], () => [bad(3)], () => [fine(5)], () => [bad(7)], () => [fine(9)]],
      3,
      9,
    ],
    [
      "one after, and numbers left out around it",
      [() => [bad(1), bad(3), fine(5)], () => [bad(301), fine(599)]],
      3,
      599,
    ],
  ];
  test.each(cases)("%s", async (_what, sendings, count, lastId) => {
    const { client, parent } = await open();
    for (const sending of sendings) {
      client.send(...sending());
      await pause(60);
    }
    await client.next((f) => f.stream === lastId && (f.flags & 1) === 1);
    client.socket.destroy();
    const goods = lastId === 9 || lastId === 599 ? 2 : 1;
    const records = await house.recordsWhere((r) => r.parent === parent, count + goods);
    expect(records.filter((r) => r.kind === "connection").map((r) => r.reason)).toEqual(
      Array.from({ length: count }, () => "malformed-request"),
    );
  });

  test("several, and nothing after them", async () => {
    const { client, parent } = await open();
    client.send(bad(1), bad(3));
    await pause(60);
    client.send(bad(5));
    await house.recordsWhere((r) => r.parent === parent, 3);
    client.socket.destroy();
    await house.recordsWhere((r) => r.parent === parent, 3);
  });
});

describe("numbers that a client leaves out by right are no streams (RFC 9113 section 5.1.1)", () => {
  test("many of them, with nothing else open", async () => {
    const { client, parent } = await open();
    for (const id of [1, 301, 303, 903]) await good(client, id);
    await pause(1_200);
    expect(client.closed).toBe(false);
    client.socket.destroy();
    const records = await house.recordsWhere((r) => r.parent === parent, 4);
    expect(records.map((r) => r.kind)).toEqual(["exchange", "exchange", "exchange", "exchange"]);
  });

  test("of an ordinary client that takes back requests which had to wait", async () => {
    const session = await sessionThrough(house.port, here(), house.ca);
    const before = new Set(house.records().map((r) => r.id));
    expect((await ask(session, { ":path": "/first" })).status).toBe(200);
    const asked = Array.from({ length: 250 }, () => session.request({ ":path": "/many" }));
    const answers = asked.map((stream) => answerOf(stream));
    for (const stream of asked.slice(100)) stream.close(8);
    const statuses = (await Promise.all(answers)).map((answer) => answer.status);
    expect(statuses.slice(0, 100).every((status) => status === 200)).toBe(true);
    expect((await ask(session, { ":path": "/after" })).status).toBe(200);
    session.close();
    const records = await house.recordsWhere((r) => !before.has(r.id) && r.kind !== "connect", 102);
    expect(records.filter((r) => r.kind !== "exchange")).toEqual([]);
  });
});

describe("content that is not as long as content-length says never reaches the origin as a whole request", () => {
  const post = (length: number): Buffer =>
    section([[":method", "POST"], ...without(":method", ["content-length", String(length)])]);
  test.each([
    ["too short", 10, ["12345"], true],
    ["too long in one frame", 3, ["12345"], true],
    ["too long in the second frame", 3, ["123", "45"], true],
    ["exact, and then more without an end", 3, ["123", "4"], false],
  ] as const)("%s", async (_what, length, pieces, ends) => {
    const { client, parent } = await open();
    const before = origin.conversations.length;
    client.send(frame(FRAME.headers, 4, 1, post(length)));
    for (const [i, piece] of pieces.entries())
      client.send(frame(FRAME.data, ends && i === pieces.length - 1 ? 1 : 0, 1, piece));
    const reset = await client.next((f) => f.type === FRAME.rst && f.stream === 1);
    expect(reset.payload.readUInt32BE(0)).toBe(1);
    client.socket.destroy();
    const [record] = await house.recordsWhere((r) => r.parent === parent);
    expect(record).toMatchObject({ kind: "exchange", method: "POST", reason: "malformed-request", status: null });
    expect(record?.sent.complete).toBe(false);
    for (const conversation of origin.conversations.slice(before)) {
      const text = conversation.bytes.toString("latin1");
      const sent = text.slice(text.indexOf("\r\n\r\n") + 4);
      expect(sent.length).toBeLessThan(length);
    }
  });
});

test("garbage in place of the preface ends the connection, with a record", async () => {
  const { client, parent } = await open();
  client.send(frame(FRAME.headers, 5, 2, section(head())));
  await client.gone();
  const [record] = await house.recordsWhere((r) => r.parent === parent);
  expect(record).toMatchObject({ kind: "connection", reason: "malformed-request" });
});

test("a field section over the limit is answered 431, one far over it is reset", async () => {
  const { client, parent } = await open();
  client.send(frame(FRAME.settings, 0, 0));
  const long = section(head(["x-long", "y".repeat(16_000)], ["x-more", "z".repeat(20_000)]));
  client.send(
    frame(FRAME.headers, 1, 1, long.subarray(0, 16_000)),
    frame(FRAME.continuation, 0, 1, long.subarray(16_000, 32_000)),
    frame(FRAME.continuation, 4, 1, long.subarray(32_000)),
  );
  await client.next((f) => f.stream === 1 && f.type === FRAME.headers);
  client.socket.destroy();
  const [record] = await house.recordsWhere((r) => r.parent === parent);
  expect(record).toMatchObject({ reason: "fields-too-large", status: 431 });
});
