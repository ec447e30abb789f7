// Upgrade (RFC 9110 section 7.8): decided like any request, relayed blindly after the 101, recorded twice: the exchange, and
// what followed it. No byte that stands next to the handshake is lost.
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { OriginScript } from "../support/origin.ts";
import { judge } from "./judge.ts";
import { type At, type Case, type Played, playAll, request, type Scene, startScene, WAYS } from "./scene.ts";

const sha256 = (text: string): string => createHash("sha256").update(text, "latin1").digest("hex");
const asks = (protocol: string): string => `Connection: Upgrade\r\nUpgrade: ${protocol}\r\nX-Raw: 13\r\n`;
const switched = (protocol: string, behind = ""): string =>
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${protocol}\r\nConnection: Upgrade\r\nX-Accept: x\r\n\r\n${behind}`;
/** Answers 101 with bytes behind it, and echoes what comes next. */
const echo =
  (protocol: string, behind = ""): OriginScript =>
  (conversation) => {
    const { socket } = conversation;
    socket.write(switched(protocol, behind));
    const at = conversation.bytes.lastIndexOf("\r\n\r\n") + 4;
    if (conversation.bytes.length > at) socket.write(conversation.bytes.subarray(at));
    socket.on("data", (b: Buffer) => socket.write(b));
  };
const exchange101 = { kind: "exchange", decision: "allow", reason: null, status: 101 };
const followed = (sent: string, received: string, reason: string | null = null): Record<string, unknown> => ({
  kind: "upgrade",
  decision: "allow",
  reason,
  status: 101,
  uninspected: true,
  sent: { bytes: sent.length, sha256: sha256(sent), complete: true },
  received: { bytes: received.length, sha256: sha256(received), complete: true },
});
/** Asks, waits for `until`, ends its side. */
const talk =
  (fields: string, sends: string, more: string, until: string): NonNullable<Case["act"]> =>
  async (client, at: At) => {
    client.send(request(at, fields) + sends);
    await client.until((text) => text.includes(" 101 "));
    client.send(more);
    await client.until((text) => text.endsWith(until));
    client.socket.end();
  };

const cases: Case[] = [
  {
    name: "bytes both ways",
    send: "",
    act: talk(asks("raw"), "", "ping", "ping"),
    origin: echo("raw"),
    statuses: [101],
    ending: "end",
    got: /\r\nX-Raw: 13\r\n[^\0]*Connection: Upgrade\r\nUpgrade: raw\r\n\r\nping$/,
    records: [exchange101, followed("ping", "ping")],
    check: ({ responses, rest }) => {
      expect(responses[0]?.fields.upgrade).toBe("raw");
      expect(responses[0]?.fields.connection).toBe("Upgrade");
      expect(responses[0]?.fields["x-accept"]).toBe("x");
      expect(rest).toBe("ping");
    },
  },
  {
    name: "bytes behind the 101",
    send: "",
    act: talk(asks("raw"), "", "ping", "ping"),
    origin: echo("raw", "first words "),
    statuses: [101],
    ending: "end",
    records: [exchange101, followed("ping", "first words ping")],
    check: ({ rest }) => expect(rest).toBe("first words ping"),
  },
  {
    name: "bytes behind the request",
    send: "",
    act: talk(asks("raw"), "early ", "ping", "early ping"),
    origin: echo("raw"),
    statuses: [101],
    ending: "end",
    records: [exchange101, followed("early ping", "early ping")],
  },
  {
    name: "of several protocols the origin's choice is told",
    send: "",
    act: talk(asks("first/1, second"), "", "ping", "ping"),
    origin: echo("second"),
    statuses: [101],
    ending: "end",
    records: [exchange101, followed("ping", "ping")],
    check: ({ responses }) => expect(responses[0]?.fields.upgrade).toBe("second"),
  },
  {
    name: "the origin declines",
    send: (at) => request(at, asks("raw")),
    statuses: [200],
    records: [{ kind: "exchange", decision: "allow", status: 200 }],
  },
  {
    name: "the origin switches to something else",
    send: (at) => request(at, asks("raw")),
    origin: echo("other"),
    statuses: [502],
    reason: "origin-protocol",
    records: [{ kind: "exchange", decision: "allow", reason: "origin-protocol", status: 502 }],
  },
  {
    name: "h2c is not passed on (F11)",
    send: (at) =>
      request(at, `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n`),
    statuses: [200],
    got: /^GET \S+ HTTP\/1\.1\r\nHost: \S+\r\nVia: [^\r]*\r\n\r\n$/,
    records: [{ kind: "exchange", status: 200 }],
  },
  {
    name: "h2c beside another protocol",
    send: (at) => request(at, asks("h2c, raw")),
    statuses: [200],
    got: /Upgrade: raw\r\n\r\n$/,
    records: [{ kind: "exchange", status: 200 }],
  },
  {
    name: "Upgrade without Connection is nothing",
    send: (at) => request(at, "Upgrade: raw\r\n"),
    origin: echo("raw"),
    statuses: [502],
    reason: "origin-protocol",
    records: [{ kind: "exchange", reason: "origin-protocol" }],
    check: ({ got }) => expect(got.split("\r\n\r\n")[0]).not.toMatch(/upgrade/i),
  },
  {
    name: "denied like any request",
    prefix: "/denied",
    send: (at) => request(at, asks("raw")),
    statuses: [403],
    reason: "not-allowed",
    got: null,
    records: [{ kind: "exchange", decision: "deny", rule: "denied" }],
  },
];

describe("upgrades", () => {
  let scene: Scene;
  const played = new Map<string, Played>();
  beforeAll(async () => {
    scene = await startScene(({ plain, secure }) => ({
      policy: `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: denied, deny: ["o.test:${plain}/denied/**", "o.test:${secure}/denied/**"] }
`,
    }));
    for (const each of await playAll(scene, cases)) played.set(each.title, each);
  });
  afterAll(() => scene.close());

  test.each(cases.flatMap((row) => (row.ways ?? WAYS).map((way) => `${row.name} (${way})`)))("%s", (title) =>
    judge(played.get(title) as Played),
  );
});
