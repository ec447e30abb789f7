// Limits, exact to the byte: at the limit and one above, declared and in chunks; heads and targets; time. A limit refuses and
// never truncates.
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OriginScript, origins } from "../support/origin.ts";
import { judge } from "./judge.ts";
import { type Case, HOST, type Played, playAll, request, type Scene, startScene, WAYS } from "./scene.ts";

const OK = "HTTP/1.1 200 OK\r\n";
const chunk = (bytes: number): string => `${bytes.toString(16)}\r\n${"x".repeat(bytes)}\r\n`;
const tooLarge = (name: string, send: Case["send"], extra: Partial<Case> = {}): Case => ({
  name,
  send,
  statuses: [413],
  reason: "request-too-large",
  ending: "end",
  records: [
    { kind: "exchange", decision: "deny", reason: "request-too-large", status: 413, sent: { complete: false } },
  ],
  ...extra,
});
const answerTooLarge = (name: string, origin: OriginScript, started: boolean, fields = ""): Case => ({
  name,
  send: (at) => request(at, fields),
  origin,
  statuses: started ? [] : [502],
  ...(started ? {} : { reason: "response-too-large" }),
  ending: started ? "broken" : "open",
  records: [{ kind: "exchange", reason: "response-too-large", received: { complete: !started } }],
});
const of = (n: number): string => "x".repeat(n);
const limitedCases: Case[] = [
  {
    name: "request at the limit, declared",
    send: (at) => request(at, "Content-Length: 100\r\n", "POST", of(100)),
    statuses: [200],
    records: [{ kind: "exchange", decision: "allow", sent: { bytes: 100, complete: true } }],
  },
  tooLarge(
    "request one above, declared: nothing is dialled",
    (at) => request(at, "Content-Length: 101\r\n", "POST", of(101)),
    { got: null },
  ),
  {
    name: "request at the limit, in chunks",
    send: (at) => request(at, "Transfer-Encoding: chunked\r\n", "POST", `${chunk(60)}${chunk(40)}0\r\n\r\n`),
    statuses: [200],
    records: [{ kind: "exchange", decision: "allow", sent: { bytes: 100, complete: true } }],
  },
  tooLarge(
    "request one above, in chunks",
    (at) => request(at, "Transfer-Encoding: chunked\r\n", "POST", `${chunk(60)}${chunk(41)}0\r\n\r\n`),
    {
      origin: origins.stall(),
      check: ({ got }) => expect(got).not.toMatch(/\r\n0\r\n\r\n/),
    },
  ),
  {
    name: "response at the limit, declared",
    send: (at) => request(at),
    origin: origins.text(of(200)),
    statuses: [200],
    content: of(200),
  },
  answerTooLarge("response one above, declared", origins.text(of(201)), false),
  {
    name: "response at the limit, in chunks",
    send: (at) => request(at),
    origin: origins.answer(`${OK}transfer-encoding: chunked\r\n\r\n${chunk(150)}${chunk(50)}0\r\n\r\n`),
    statuses: [200],
    content: of(200),
  },
  answerTooLarge(
    "response one above, in chunks",
    origins.answer(`${OK}transfer-encoding: chunked\r\n\r\n${chunk(150)}${chunk(51)}0\r\n\r\n`),
    true,
  ),
  answerTooLarge("response one above, ended by closing", origins.answerAndEnd(`${OK}\r\n${of(201)}`), true),
  {
    name: "HEAD of something larger is no content",
    send: (at) => request(at, "", "HEAD"),
    method: "HEAD",
    origin: origins.answer(`${OK}content-length: 5000\r\n\r\n`),
    statuses: [200],
  },
  {
    name: "fields above the rule's limit",
    send: (at) => request(at, `X: ${of(1024)}\r\n`),
    statuses: [431],
    reason: "fields-too-large",
    got: null,
    records: [{ kind: "exchange", decision: "deny", reason: "fields-too-large", status: 431 }],
  },
];

const limits: Case[] = [
  ...limitedCases.map((row): Case => ({ ...row, prefix: "/limited" })),
  {
    name: "fields above the house's limit",
    send: (at) => request(at, `X: ${of(40_000)}\r\n`),
    statuses: [431],
    reason: "fields-too-large",
    ending: "end",
    got: null,
    records: [{ kind: "connection", decision: "deny", reason: "fields-too-large", status: 431 }],
  },
  {
    name: "257 fields",
    send: (at) => request(at, "X: y\r\n".repeat(257)),
    statuses: [431],
    reason: "fields-too-large",
    ending: "end",
    got: null,
    records: [{ kind: "connection", reason: "fields-too-large" }],
  },
  {
    name: "a target above the house's limit",
    send: (at) => request({ ...at, target: `${at.target}?${of(17_000)}` }),
    statuses: [414],
    reason: "target-too-long",
    ending: "end",
    got: null,
    records: [{ kind: "connection", reason: "target-too-long", status: 414 }],
  },
  {
    name: "a head that does not come to its end in time",
    send: (at) => request(at).slice(0, -2),
    statuses: [408],
    reason: "request-timeout",
    ending: "end",
    got: null,
    records: [{ kind: "connection", decision: "deny", reason: "request-timeout", status: 408 }],
  },
  {
    name: "a head that comes byte by byte for too long",
    send: "",
    act: async (client, at) => {
      const bytes = request(at);
      const before = client.text.length;
      for (let i = 0; i < 40 && client.ending === "open" && client.text.length === before; i++) {
        client.send(bytes[i] as string);
        await wait(150);
      }
    },
    statuses: [408],
    reason: "request-timeout",
    ending: "end",
    got: null,
    records: [{ kind: "connection", reason: "request-timeout" }],
  },
  {
    name: "content that stops coming",
    send: (at) => request(at, "Content-Length: 10\r\n", "POST", "some"),
    origin: origins.stall(),
    statuses: [408],
    reason: "request-timeout",
    ending: "end",
    records: [{ kind: "exchange", decision: "deny", reason: "request-timeout", sent: { bytes: 4, complete: false } }],
  },
];

describe("limits", () => {
  let scene: Scene;
  const played = new Map<string, Played>();
  beforeAll(async () => {
    scene = await startScene(({ plain, secure }) => {
      const at = (path: string): string => `["http://${HOST}:${plain}${path}", "https://${HOST}:${secure}${path}"]`;
      return {
        policy: `server: { header-timeout: 4s, connections-per-client: 3 }
defaults: { action: allow, limits: { idle: 4s } }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: limited, allow: ${at("/limited/**")}, limits: { request: 100B, response: 200B, headers: 1KiB } }
`,
      };
    });
    for (const each of await playAll(scene, limits)) played.set(each.title, each);
  });
  afterAll(() => scene.close());

  test.each(limits.flatMap((row) => (row.ways ?? WAYS).map((way) => `${row.name} (${way})`)))("%s", (title) =>
    judge(played.get(title) as Played),
  );

  test("one connection too many of a client is answered 503; others, and its own when one is gone, are served", async () => {
    const address = scene.newAddress();
    const get = `GET http://${HOST}:${scene.plain.port}/count HTTP/1.1\r\nHost: ${HOST}:${scene.plain.port}\r\n\r\n`;
    const three = await Promise.all([1, 2, 3].map(() => scene.open(address)));
    for (const client of three) expect((await client.send(get).response()).status).toBe(200);
    const fourth = await scene.open(address);
    const refused = await fourth.send(get).response();
    expect(refused.status).toBe(503);
    expect(refused.fields["x-sallyport-decision"]).toMatch(/reason=busy$/);
    expect(await fourth.closed()).toBe("end");
    fourth.destroy();
    const other = await scene.open();
    expect((await other.send(get).response()).status).toBe(200);
    three[0]?.socket.end();
    await three[0]?.closed();
    await wait(100);
    const again = await scene.open(address);
    expect((await again.send(get).response()).status).toBe(200);
    for (const client of [...three, other, again]) client.destroy();
    const records = (await scene.settled()).filter((r) => r.address === address);
    expect(records.filter((r) => r.reason === "busy")).toHaveLength(1);
    expect(records.filter((r) => r.kind === "exchange")).toHaveLength(4);
  });

  test("a connection that says nothing is closed and leaves no record", async () => {
    const address = scene.newAddress();
    const silent = await scene.open(address);
    expect(await silent.closed()).toBe("end");
    expect((await scene.settled()).filter((r) => r.address === address)).toHaveLength(0);
  });

  test("silence inside CONNECT and inside TLS is closed in time", async () => {
    const address = scene.newAddress();
    const inside = await scene.connect(`${HOST}:${scene.secure.port}`, address);
    const hello = await scene.connect(`${HOST}:${scene.secure.port}`, address);
    hello.send(Buffer.from([22, 3, 1, 0, 200, 1]));
    expect(await inside.closed()).not.toBe("open");
    expect(await hello.closed()).not.toBe("open");
    const records = (await scene.settled()).filter((r) => r.address === address);
    expect(records.filter((r) => r.kind === "connect")).toHaveLength(2);
    expect(
      records
        .filter((r) => r.kind === "connection")
        .map((r) => r.reason)
        .sort(),
    ).toEqual(["client-tls-failed", "request-timeout"]);
  });
});
