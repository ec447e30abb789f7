// What origins do to a proxy: early answers, broken framing, stalls, resets, floods. A broken response never looks complete,
// and a pooled connection is used again only after a byte-exact end.
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { OPEN_POLICY } from "../support/house.ts";
import { type OriginScript, origins } from "../support/origin.ts";
import { afterPause, pause } from "../support/pause.ts";
import { judge } from "./judge.ts";
import { type Case, HOST, type Played, playAll, request, type Scene, startScene, WAYS } from "./scene.ts";

const OK = "HTTP/1.1 200 OK\r\n";
const get = (at: Parameters<typeof request>[0]): string => request(at);

/** What the client would make of these bytes when the connection ended well. */
function looksComplete(text: string): boolean {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return false;
  const content = text.slice(head + 4);
  if (/\r\ntransfer-encoding: chunked\r\n/i.test(text)) return /(?:^|\r\n)0\r\n(?:.*\r\n)?\r\n$/.test(content);
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(text)?.[1];
  return length === undefined || content.length >= Number(length);
}

/** Before a status line went out: 502 (or as said), and the client's connection goes on. */
const bad = (name: string, origin: Case["origin"], reason: string, extra: Partial<Case> = {}): Case => ({
  name,
  send: get,
  ...(origin === undefined ? {} : { origin }),
  statuses: [502],
  reason,
  records: [{ kind: "exchange", decision: "allow", reason, status: 502 }],
  ...extra,
});
/** After it: the client's connection is broken so that nothing looks complete. */
const broken = (name: string, origin: Case["origin"], reason: string, extra: Partial<Case> = {}): Case => ({
  name,
  send: get,
  ...(origin === undefined ? {} : { origin }),
  statuses: [],
  ending: "broken",
  records: [{ kind: "exchange", decision: "allow", reason, status: 200, received: { complete: false } }],
  check: ({ rest }) => expect(looksComplete(rest)).toBe(false),
  ...extra,
});
const good = (name: string, origin: Case["origin"], content: string, extra: Partial<Case> = {}): Case => ({
  name,
  send: get,
  ...(origin === undefined ? {} : { origin }),
  statuses: [200],
  content,
  records: [{ kind: "exchange", decision: "allow", reason: null, received: { bytes: content.length, complete: true } }],
  ...extra,
});
const old = (at: Parameters<typeof request>[0]): string => `GET ${at.target} HTTP/1.0\r\nHost: ${at.host}\r\n\r\n`;
/** The first `count` bytes and a reset, of the TCP connection under TLS too. */
const cut =
  (bytes: string, count: number): OriginScript =>
  ({ socket }) => {
    const raw = (socket as { _parent?: Socket })._parent ?? socket;
    if (count === 0) raw.resetAndDestroy();
    else socket.write(bytes.slice(0, count), () => afterPause(20, () => raw.resetAndDestroy()));
  };
const WITH_LENGTH = `${OK}content-length: 10\r\n\r\n0123456789`;
const WITH_CHUNKS = `${OK}transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n`;
const ONE_TRAILER = `${OK}trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n`;
const WITH_TRAILERS = ONE_TRAILER.replace("7\r\n", "7\r\nSet-Cookie: no\r\n");

const cases: Case[] = [
  bad("closes without a word", origins.answerAndEnd(""), "origin-incomplete"),
  bad("resets at once", cut("", 0), "origin-incomplete"),
  bad("resets inside the status line", cut(WITH_LENGTH, 8), "origin-incomplete"),
  bad("resets inside the fields", cut(WITH_LENGTH, 25), "origin-incomplete"),
  bad("closes inside the fields", origins.answerAndEnd(WITH_LENGTH.slice(0, 25)), "origin-incomplete"),
  broken("resets inside content with a length", cut(WITH_LENGTH, WITH_LENGTH.length - 3), "origin-incomplete"),
  broken("resets inside a chunk", cut(WITH_CHUNKS, WITH_CHUNKS.length - 14), "origin-incomplete"),
  broken("resets before the last chunk", cut(WITH_CHUNKS, WITH_CHUNKS.length - 5), "origin-incomplete"),
  broken("resets inside the last chunk", cut(WITH_CHUNKS, WITH_CHUNKS.length - 2), "origin-incomplete"),
  broken("closes inside content with a length", origins.lyingLength(10, "01234"), "origin-incomplete"),
  broken("closes inside chunks", origins.answerAndEnd(WITH_CHUNKS.slice(0, -6)), "origin-incomplete"),
  broken("resets content that ends with the connection", cut(`${OK}\r\nhalf of it`, 25), "origin-incomplete"),
  broken("a broken response to HTTP/1.0 with a length", cut(WITH_LENGTH, WITH_LENGTH.length - 3), "origin-incomplete", {
    send: old,
  }),
  broken(
    "broken chunks to HTTP/1.0, which ends with the connection",
    cut(WITH_CHUNKS, WITH_CHUNKS.length - 5),
    "origin-incomplete",
    {
      send: old,
      ending: "reset",
      check: ({ rest }) => expect(rest).not.toBe(""),
    },
  ),
  bad("two lengths", origins.twoLengths("hello"), "origin-protocol"),
  good("two equal lengths", origins.answer(`${OK}content-length: 2\r\ncontent-length: 2\r\n\r\nok`), "ok", {
    check: ({ responses }) => expect(responses[0]?.raw.match(/content-length/gi)).toHaveLength(1),
  }),
  bad(
    "length and chunks",
    origins.answer(`${OK}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
    "origin-protocol",
  ),
  bad("an unknown coding", origins.answer(`${OK}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`), "origin-protocol"),
  bad(
    "chunks in HTTP/1.0",
    origins.answer("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "origin-protocol",
  ),
  bad("a bad status line", origins.answer("HTTP/1.1 20 OK\r\n\r\n"), "origin-protocol"),
  bad("HTTP/0.9", origins.answerAndEnd("<html>old</html>"), "origin-protocol"),
  bad("another protocol", origins.answer("SSH-2.0-OpenSSH_9.2\r\n"), "origin-protocol"),
  bad("HTTP/2.0 in the status line", origins.answer("HTTP/2.0 200 OK\r\n\r\n"), "origin-protocol"),
  bad("bare LF", origins.answer("HTTP/1.1 200 OK\ncontent-length: 0\n\n"), "origin-protocol"),
  bad("a folded field", origins.answer(`${OK}x: a\r\n b\r\ncontent-length: 0\r\n\r\n`), "origin-protocol"),
  bad("a negative length", origins.answer(`${OK}content-length: -1\r\n\r\n`), "origin-protocol"),
  bad("a head of 200 KiB", origins.answer(`${OK}x: ${"a".repeat(200_000)}\r\n\r\n`), "origin-protocol"),
  bad("300 fields", origins.answer(`${OK}${"x: a\r\n".repeat(300)}\r\n`), "origin-protocol"),
  broken(
    "a bad chunk size",
    origins.answer(`${OK}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n`),
    "origin-protocol",
  ),
  broken(
    "Host in the trailers",
    origins.answer(`${OK}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n`),
    "origin-protocol",
  ),
  bad("17 informational responses", origins.interim(17), "origin-protocol", {
    statuses: [...new Array<number>(16).fill(103), 502],
  }),
  bad(
    "a 101 that nobody asked for",
    origins.answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nboo"),
    "origin-protocol",
  ),
  bad(
    "an informational response with a length",
    origins.answer("HTTP/1.1 103 Early\r\ncontent-length: 3\r\n\r\nabc"),
    "origin-protocol",
  ),
  good(
    "bytes after the response are dropped with the connection",
    origins.extraBytes("hello", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    "hello",
  ),
  good(
    "bytes after the last chunk",
    origins.answer(`${WITH_CHUNKS}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil`),
    "0123456789",
  ),
  good("content that ends with the connection", origins.answerAndEnd(`${OK}\r\n0123456789`), "0123456789", {
    check: ({ responses }) => expect(responses[0]?.fields["transfer-encoding"]).toBe("chunked"),
  }),
  good("HTTP/1.0 of the origin", origins.answerAndEnd("HTTP/1.0 200 OK\r\n\r\n0123456789"), "0123456789"),
  good("chunks come as chunks", origins.answer(WITH_CHUNKS), "0123456789"),
  good("no phrase", origins.answer("HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"), ""),
  // F9
  good("103 and then the answer", origins.interim(1), "ok", {
    statuses: [103, 200],
    check: ({ responses }) => expect(responses[0]?.fields.link).toBe("</a>"),
  }),
  good("several 1xx", origins.interim(3, 102), "ok", { statuses: [102, 102, 102, 200] }),
  good("a 100 that nobody asked for", origins.interim(1, 100), "ok"),
  good("103 is not for HTTP/1.0", origins.interim(2), "ok", { send: old, ending: "end" }),
  // F10
  good("HEAD with a length", origins.answer(`${OK}content-length: 10\r\n\r\n`), "", {
    send: (at) => request(at, "", "HEAD"),
    method: "HEAD",
    check: ({ responses }) => expect(responses[0]?.fields["content-length"]).toBe("10"),
  }),
  good("HEAD with chunks", origins.answer(`${OK}transfer-encoding: chunked\r\n\r\n`), "", {
    send: (at) => request(at, "", "HEAD"),
    method: "HEAD",
  }),
  good("204 with a length", origins.answer("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"), "", {
    statuses: [204],
    check: ({ responses }) => expect(responses[0]?.fields["content-length"]).toBeUndefined(),
  }),
  good("204 with chunks", origins.answer("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n"), "", {
    statuses: [204],
    check: ({ responses }) => expect(responses[0]?.fields["transfer-encoding"]).toBeUndefined(),
  }),
  good("304 with a length", origins.answer("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n"), "", {
    statuses: [304],
  }),
  good("204 with content is another message", origins.answer("HTTP/1.1 204 No Content\r\n\r\nevil"), "", {
    statuses: [204],
  }),
  // F15, and what an origin says of its hop
  good(
    "Set-Cookie stays apart; fields of the hop and Alt-Svc go",
    origins.answer(
      `${OK}Set-Cookie: a=1\r\nX-Hop: 1\r\nConnection: X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=":443"\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n`,
    ),
    "",
    {
      check: ({ responses }) =>
        expect(responses[0]?.lines.map((line) => line.replace(/sallyport-.*/, "us"))).toEqual([
          "Set-Cookie: a=1",
          "Set-Cookie: b=2",
          "Content-Length: 0",
          "Via: 1.1 us",
        ]),
    },
  ),
  good(
    "an origin cannot have Set-Cookie dropped",
    origins.answer(`${OK}Set-Cookie: a=1\r\nConnection: Set-Cookie, Content-Length\r\nContent-Length: 0\r\n\r\n`),
    "",
    {
      check: ({ responses }) => expect(responses[0]?.fields["set-cookie"]).toBe("a=1"),
    },
  ),
  // F21
  good("HTTP/1.0 and chunks: unchunked, ended by closing", origins.answer(WITH_CHUNKS), "", {
    send: old,
    ending: "end",
    records: [{ kind: "exchange", received: { bytes: 10, complete: true } }],
    check: ({ rest, responses }) => {
      expect(rest).toBe("0123456789");
      expect(responses[0]?.fields["transfer-encoding"]).toBeUndefined();
    },
  }),
  good("HTTP/1.0 with keep-alive and a length", origins.answer(WITH_LENGTH), "0123456789", {
    send: (at) => `GET ${at.target} HTTP/1.0\r\nHost: ${at.host}\r\nConnection: keep-alive\r\n\r\n`,
    check: ({ responses }) => expect(responses[0]?.fields.connection).toBe("keep-alive"),
  }),
  ...["", "/looked"].flatMap((prefix): Case[] => [
    good(
      `trailers of the response${prefix === "" ? "" : ", with a content rule"}`,
      origins.answer(WITH_TRAILERS),
      "ok",
      {
        prefix,
        records: [{ kind: "exchange", notes: ["response-trailers-dropped"] }],
        check: ({ responses }) => expect(responses[0]?.raw).toMatch(/0\r\nX-Sum: 7\r\n\r\n$/),
      },
    ),
    good(`HTTP/1.0 and trailers${prefix === "" ? "" : ", with a content rule"}`, origins.answer(ONE_TRAILER), "", {
      prefix,
      send: old,
      ending: "end",
      records: [{ kind: "exchange", notes: ["response-trailers-dropped"], received: { bytes: 2, complete: true } }],
      check: ({ rest, responses }) => {
        expect(rest).toBe("ok");
        expect(responses[0]?.fields["content-length"]).toBeUndefined();
      },
    }),
  ]),
  // stalls: `idle` and `total` of the policy below
  bad("never answers", origins.stall(), "origin-timeout", {
    statuses: [504],
    records: [{ kind: "exchange", decision: "allow", reason: "origin-timeout", status: 504 }],
  }),
  bad("stalls inside the head", origins.stallAfter(WITH_LENGTH.slice(0, 25)), "origin-timeout", {
    statuses: [504],
    records: [{ kind: "exchange", reason: "origin-timeout", status: 504 }],
  }),
  broken("stalls inside content", origins.stallAfter(WITH_LENGTH.slice(0, -3)), "origin-timeout"),
  broken("never ends", origins.neverEnds(50), "origin-timeout"),
];

describe("malformed and unusual origins", () => {
  let scene: Scene;
  const played = new Map<string, Played>();
  beforeAll(async () => {
    scene = await startScene(({ plain, secure }) => ({
      policy: `${OPEN_POLICY.replace("}", ", limits: { idle: 4s, total: 7s } }")}rules:
  - id: looked
    allow: ["http://${HOST}:${plain}/looked/**", "https://${HOST}:${secure}/looked/**"]
    content: [{ block: { text: absent } }]
`,
    }));
    for (const each of await playAll(scene, cases)) played.set(each.title, each);
  });
  afterAll(() => scene.close());

  test.each(cases.flatMap((row) => (row.ways ?? WAYS).map((way) => `${row.name} (${way})`)))("%s", (title) =>
    judge(played.get(title) as Played),
  );

  test("nothing that an origin said unasked became an answer", () => {
    for (const { outcome } of played.values()) {
      for (const response of outcome.responses) expect(response.raw).not.toContain("evil");
      expect(outcome.rest).not.toContain("evil");
    }
  });

  test.each([
    ["after exact ends it is used again", origins.text("hello"), 1],
    ["after chunks, too", origins.answer(WITH_CHUNKS), 1],
    ["not after extra bytes", origins.extraBytes("hello", "x"), 3],
    ["not after an end by closing", origins.answerAndEnd(`${OK}\r\nhello`), 3],
    ["not when the origin says close", origins.text("hello", "Connection: close\r\n"), 3],
    ["not when HTTP/1.0 does not say keep-alive", origins.answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"), 3],
    ["not after a 204 with content", origins.answer("HTTP/1.1 204 No Content\r\n\r\nevil"), 3],
  ])("a connection to an origin: %s", async (name, script, connections) => {
    const path = `/pool-${name.replaceAll(/\W/g, "-")}`;
    scene.scripts.set(path, script);
    const client = await scene.open();
    for (let i = 0; i < 3; i++) {
      client.send(`GET http://o.test:${scene.plain.port}${path} HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n\r\n`);
      expect((await client.response()).status).toBeLessThan(300);
      await pause(30);
    }
    client.destroy();
    const used = scene.plain.conversations.filter((c) => c.bytes.toString("latin1").includes(` ${path} `));
    expect(used).toHaveLength(connections);
  });

  test("another client never gets that connection", async () => {
    const path = "/pool-clients";
    for (let i = 0; i < 2; i++) {
      const client = await scene.open();
      client.send(`GET http://o.test:${scene.plain.port}${path} HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n\r\n`);
      expect((await client.response()).status).toBe(200);
      client.destroy();
      await pause(30);
    }
    expect(scene.plain.conversations.filter((c) => c.bytes.includes(` ${path} `))).toHaveLength(2);
  });
});
