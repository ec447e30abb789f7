// Requests in unusual order: expectations, uploads that are answered early or broken off, half-closed connections, pipelines
// behind a refusal.
import type { Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OriginScript, origins } from "../support/origin.ts";
import { afterPause, pause } from "../support/pause.ts";
import { judge } from "./judge.ts";
import { type At, type Case, HOST, type Played, playAll, request, type Scene, startScene, WAYS } from "./scene.ts";

const upload = (fields = ""): string => `Content-Length: 4\r\n${fields}`;
const expecting = (at: At, fields = upload()): string => request(at, `${fields}Expect: 100-continue\r\n`, "POST");
const saw = { kind: "exchange", decision: "allow", reason: null, sent: { bytes: 4, complete: true } };
const hello = origins.text("hello");
const OK = "HTTP/1.1 200 OK\r\n";

/** A close alone would be a half-close: who asked might still read. */
const reset = ({ socket }: { readonly socket: Socket }): void => {
  ((socket as { _parent?: Socket })._parent ?? socket).resetAndDestroy();
  socket.destroy();
};
/** Answers when the content has come. */
const whenWhole =
  (end: string, first = ""): OriginScript =>
  async (conversation) => {
    if (first !== "") conversation.socket.write(first);
    for (let i = 0; i < 400 && !conversation.bytes.toString("latin1").includes(end); i++) await wait(10);
    if (conversation.bytes.toString("latin1").includes(end)) await hello(conversation, 0);
  };
/** Sends the head, waits for 100, then the content. */
const patient = async (client: Parameters<NonNullable<Case["act"]>>[0], at: At): Promise<void> => {
  client.send(expecting(at));
  await client.until((text) => /HTTP\/1\.1 \d{3}/.test(text));
  client.send("body");
};

const expectations: Case[] = [
  {
    name: "the origin's 100 reaches the client, once",
    send: "",
    act: patient,
    origin: whenWhole("body", "HTTP/1.1 100 Continue\r\n\r\n"),
    statuses: [100, 200],
    got: /\r\nExpect: 100-continue\r\n\r\nbody/,
    records: [saw],
  },
  {
    name: "the origin's 417 reaches the client, and the connection ends",
    send: (at) => expecting(at),
    origin: origins.answer("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n"),
    statuses: [417],
    ending: "end",
    records: [{ kind: "exchange", decision: "allow", reason: null, status: 417, sent: { bytes: 0, complete: false } }],
  },
  {
    name: "a silent origin: 100 from us after a second",
    send: "",
    act: patient,
    origin: whenWhole("body"),
    statuses: [100, 200],
    records: [saw],
  },
  {
    name: "a client that does not wait is not kept waiting",
    send: (at) => `${expecting(at)}body`,
    origin: whenWhole("body"),
    statuses: [200],
    records: [saw],
  },
  {
    name: "no 100 for HTTP/1.0",
    send: (at) =>
      `POST ${at.target} HTTP/1.0\r\nHost: ${at.host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody`,
    origin: whenWhole("body", "HTTP/1.1 100 Continue\r\n\r\n"),
    statuses: [200],
    ending: "end",
    records: [saw],
  },
  {
    name: "another expectation",
    send: (at) => request(at, upload("Expect: 200-ok\r\n"), "POST", "body"),
    statuses: [417],
    ending: "end",
    reason: "expectation-failed",
    got: null,
    records: [{ kind: "connection", reason: "expectation-failed", status: 417 }],
  },
  {
    name: "denied before any 100",
    send: (at) => expecting({ ...at, target: at.to("/denied") }),
    statuses: [403],
    ending: "end",
    reason: "not-allowed",
    got: null,
    records: [{ kind: "exchange", decision: "deny", rule: "denied", path: "/denied" }],
  },
];

const early: Case[] = [
  {
    name: "413 of the origin while the request flows: forwarded, the rest is not read, closed",
    send: (at) => request(at, "Content-Length: 1000\r\n", "POST", "some"),
    origin: origins.answer("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig"),
    statuses: [413],
    content: "big",
    ending: "end",
    records: [
      {
        kind: "exchange",
        decision: "allow",
        status: 413,
        sent: { complete: false },
        received: { bytes: 3, complete: true },
      },
    ],
    check: ({ responses }) => expect(responses[0]?.fields.connection).toBe("close"),
  },
  {
    name: "a 200 before the request is whole: both go on",
    send: "",
    act: async (client, at) => {
      client.send(request(at, upload(), "POST", "bo"));
      await client.until((text) => text.includes("he"));
      client.send("dy");
    },
    origin: async (conversation) => {
      conversation.socket.write(`${OK}content-length: 5\r\n\r\nhe`);
      for (let i = 0; i < 300 && !conversation.bytes.includes("body"); i++) await wait(10);
      conversation.socket.write("llo");
    },
    statuses: [200],
    content: "hello",
    ending: "end",
    got: "body",
    records: [{ ...saw, received: { bytes: 5, complete: true } }],
  },
  {
    name: "the client leaves inside its upload",
    send: "",
    act: async (client, at) => {
      client.send(request(at, "Content-Length: 1000\r\n", "POST", "some"));
      await arrived(at);
      client.destroy();
    },
    origin: origins.stall(),
    statuses: [],
    ending: "end",
    records: [
      { kind: "exchange", decision: "allow", reason: "client-gone", status: null, sent: { bytes: 4, complete: false } },
    ],
  },
  {
    name: "the client leaves inside its chunks: no last chunk for the origin",
    send: "",
    act: async (client, at) => {
      client.send(request(at, "Transfer-Encoding: chunked\r\n", "POST", "4\r\nsome\r\n"));
      await arrived(at);
      client.destroy();
    },
    origin: origins.stall(),
    statuses: [],
    ending: "end",
    records: [{ kind: "exchange", reason: "client-gone", sent: { bytes: 4, complete: false } }],
    check: ({ got }) => expect(got).not.toContain("\r\n0\r\n"),
  },
  {
    name: "the client leaves while it waits for the answer",
    send: "",
    act: async (client, at) => {
      client.send(request(at));
      await arrived(at);
      reset(client);
    },
    origin: origins.stall(),
    statuses: [],
    ending: "end",
    records: [
      { kind: "exchange", decision: "allow", reason: "client-gone", status: null, received: { complete: false } },
    ],
  },
  {
    name: "the client leaves inside the response",
    send: "",
    act: async (client, at) => {
      client.send(request(at));
      await client.until((text) => text.includes("more"));
      client.destroy();
    },
    origin: origins.neverEnds(20),
    statuses: [],
    ending: "end",
    records: [{ kind: "exchange", reason: "client-gone", status: 200, received: { complete: false } }],
  },
  {
    name: "the client leaves inside a head",
    send: "",
    act: async (client, at) => {
      client.send(request(at).slice(0, 20));
      await pause(50);
      client.destroy();
    },
    statuses: [],
    ending: "end",
    got: null,
    records: [{ kind: "connection", decision: "deny", reason: "client-gone" }],
  },
  {
    name: "the origin resets inside the upload",
    send: (at) => request(at, "Content-Length: 1000\r\n", "POST", "some"),
    origin: ({ socket }) => {
      afterPause(30, () => socket.destroy());
    },
    statuses: [502],
    reason: "origin-incomplete",
    ending: "end",
    records: [
      { kind: "exchange", decision: "allow", reason: "origin-incomplete", status: 502, sent: { complete: false } },
    ],
  },
  // F18
  {
    name: "FIN behind a request: it is answered",
    send: "",
    act: async (client, at) => {
      client.socket.end(request(at));
    },
    origin: async (conversation) => {
      await wait(100);
      await hello(conversation, 0);
    },
    statuses: [200],
    content: "hello",
    ending: "end",
    check: ({ responses }) => expect(responses[0]?.fields.connection).toBe("close"),
  },
  {
    name: "FIN behind a request with content",
    send: "",
    act: async (client, at) => {
      client.socket.end(request(at, upload(), "POST", "body"));
    },
    statuses: [200],
    ending: "end",
    got: /\r\n\r\nbody$/,
    records: [saw],
  },
  {
    name: "FIN behind chunks",
    send: "",
    act: async (client, at) => {
      client.socket.end(request(at, "Transfer-Encoding: chunked\r\n", "POST", "4\r\nbody\r\n0\r\n\r\n"));
    },
    origin: whenWhole("\r\n0\r\n\r\n"),
    statuses: [200],
    ending: "end",
    records: [saw],
  },
  {
    name: "FIN behind three pipelined requests: all are answered",
    send: "",
    act: async (client, at) => {
      client.socket.end(request(at).repeat(3));
    },
    statuses: [200, 200, 200],
    ending: "end",
    records: [{ kind: "exchange" }, { kind: "exchange" }, { kind: "exchange" }],
  },
  {
    name: "FIN inside the content: broken off, the origin never sees an end",
    send: "",
    act: async (client, at) => {
      client.socket.end(request(at, "Content-Length: 10\r\n", "POST", "body"));
    },
    origin: origins.stall(),
    statuses: [],
    ending: "broken",
    records: [{ kind: "exchange", reason: "client-gone", sent: { bytes: 4, complete: false } }],
  },
  // F6
  {
    name: "behind a denied request with content nothing is misread",
    send: (at) =>
      `POST ${at.to("/denied")} HTTP/1.1\r\nHost: ${at.host}\r\nContent-Length: 60\r\n\r\n${"GET http://o.test/smuggled HTTP/1.1\r\nHost: o.test\r\n\r\n".padEnd(60)}${request(at)}`,
    statuses: [403],
    ending: "end",
    got: null,
    records: [{ kind: "exchange", decision: "deny", path: "/denied" }],
  },
  {
    name: "behind a denied request without content the next one is answered",
    send: (at) => `GET ${at.to("/denied")} HTTP/1.1\r\nHost: ${at.host}\r\n\r\n${request(at)}`,
    statuses: [403, 200],
    records: [
      { kind: "exchange", decision: "deny", path: "/denied" },
      { kind: "exchange", decision: "allow" },
    ],
  },
  ...["", "/looked"].map(
    (prefix): Case => ({
      name: `trailers of the request reach the origin${prefix === "" ? "" : ", with a content rule"}`,
      prefix,
      send: (at) =>
        request(at, "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "POST", "4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n"),
      origin: whenWhole("X-Sum: 7\r\n\r\n"),
      statuses: [200],
      got: "0\r\nX-Sum: 7\r\n\r\n",
      records: [saw],
    }),
  ),
];

let scene: Scene;
const arrived = (at: At): Promise<void> =>
  (at.scheme === "https" ? scene.secure : scene.plain).until((text) => text.includes(at.path));

const cases = [...expectations, ...early];

describe("requests", () => {
  const played = new Map<string, Played>();
  beforeAll(async () => {
    scene = await startScene(({ plain, secure }) => {
      const at = (path: string): string => `["http://${HOST}:${plain}${path}", "https://${HOST}:${secure}${path}"]`;
      return {
        policy: `defaults: { action: allow, limits: { idle: 5s } }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: denied, deny: ${at("/denied")} }
  - { id: looked, allow: ${at("/looked/**")}, content: [{ block: { text: absent } }] }
`,
      };
    });
    for (const each of await playAll(scene, cases)) played.set(each.title, each);
  });
  afterAll(() => scene.close());

  test.each(cases.flatMap((row) => (row.ways ?? WAYS).map((way) => `${row.name} (${way})`)))("%s", (title) =>
    judge(played.get(title) as Played),
  );
});
