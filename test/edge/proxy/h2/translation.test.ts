// Every combination of versions on the two sides: what goes in on one comes out on the other.
import type http2 from "node:http2";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type HttpOrigin, startHttpOrigin, startRawOrigin } from "../../../support/origin.ts";
import { afterPause } from "../../../support/pause.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, sessionThrough } from "./support.ts";

const HOST = "127.0.0.1";
const testCa = new TestCa();
const leaf = testCa.leaf(HOST);
let house: TestHouse;
let h1: HttpOrigin;
let h2: H2Origin;

const FIELDS = { "content-type": "text/plain", "x-two": ["a", "b"], "set-cookie": ["a=1", "b=2; Secure"], etag: '"e"' };
const TRAILERS = { "x-sum": "42" };

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  h1 = await startHttpOrigin((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (b: Buffer) => pieces.push(b));
    request.on("end", () => {
      if (request.url === "/early") response.writeEarlyHints({ link: "</a>; rel=preload" });
      for (const [name, value] of Object.entries(FIELDS)) response.setHeader(name, value);
      if (!["/long", "/204", "/head"].includes(request.url ?? "")) response.setHeader("trailer", "x-sum");
      if (request.url === "/long") response.setHeader("content-length", 5 + Buffer.concat(pieces).length);
      if (request.url === "/204") response.statusCode = 204;
      response.write("echo:");
      response.write(Buffer.concat(pieces));
      if (request.url !== "/long") response.addTrailers(TRAILERS);
      response.end();
    });
  }, leaf);
  h2 = await startH2Origin((stream, seen, number) => {
    const path = seen.headers[":path"];
    if (path === "/early") stream.additionalHeaders({ ":status": 103, link: "</a>; rel=preload" });
    if (path === "/204") return answering({ ":status": 204 })(stream, seen, number);
    const pieces: Buffer[] = [];
    stream.on("data", (b: Buffer) => pieces.push(b));
    stream.on("end", () => {
      seen.content = Buffer.concat(pieces);
      const length = path === "/long" ? { "content-length": 5 + seen.content.length } : {};
      stream.respond({ ":status": 200, ...FIELDS, ...length }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers(path === "/long" ? {} : TRAILERS));
      stream.write("echo:");
      stream.end(seen.content);
    });
  }, leaf);
});
afterAll(async () => {
  await house.close();
  await h1.close();
  await h2.close();
});

describe.each([
  ["1.1", () => h1.port],
  ["2", () => h2.port],
] as const)("a client of HTTP/2 and an origin of HTTP/%s", (version, port) => {
  test.each([
    ["GET", "/plain", null],
    ["GET", "/long", null],
    ["POST", "/up", "some content"],
    ["POST", "/early", "x"],
    ["PUT", "/long", "y".repeat(100_000)],
  ] as const)("%s %s", async (method, path, content) => {
    const session = await sessionThrough(house.port, `${HOST}:${port()}`, house.ca);
    const answer = await ask(
      session,
      { ":method": method, ":path": path, cookie: ["a=1", "b=2"], "x-in": "1" },
      content,
    );
    session.close();
    expect(answer.status).toBe(200);
    expect(answer.whole).toBe(true);
    expect(answer.content.toString()).toBe(`echo:${content ?? ""}`);
    expect(answer.headers["set-cookie"]).toEqual(FIELDS["set-cookie"]);
    expect(answer.headers["x-two"]).toBe("a, b");
    expect(answer.headers.etag).toBe('"e"');
    expect(answer.headers.connection).toBeUndefined();
    expect(answer.headers["transfer-encoding"]).toBeUndefined();
    expect(answer.headers["content-length"]).toBe(path === "/long" ? String(5 + (content?.length ?? 0)) : undefined);
    expect(answer.trailers?.["x-sum"]).toBe(path === "/long" ? undefined : "42");
    expect(answer.interim.map((i) => i[":status"])).toEqual(path === "/early" ? [103] : []);
    const [record] = await house.recordsWhere(
      (r) => r.kind === "exchange" && r.path === path && r.method === method && r.port === port(),
    );
    expect(record).toMatchObject({ status: 200, clientProtocol: "2", originProtocol: version, reason: null });
    expect(record?.sent).toMatchObject({ bytes: content?.length ?? 0, complete: true });
    expect(record?.received).toMatchObject({ bytes: 5 + (content?.length ?? 0), complete: true });
  });

  test("HEAD and 204 have no content", async () => {
    const session = await sessionThrough(house.port, `${HOST}:${port()}`, house.ca);
    const head = await ask(session, { ":method": "HEAD", ":path": "/head" });
    expect([head.status, head.content.length, head.whole]).toEqual([200, 0, true]);
    const none = await ask(session, { ":path": "/204" });
    expect([none.status, none.content.length, none.whole]).toEqual([204, 0, true]);
    session.close();
  });

  test.each([
    ["nothing", undefined],
    ["trailers alone", { "x-after": "8" }],
  ])(
    "content that turns out to be %s ends, also when the end came before the origin was dialled",
    async (_what, trailers) => {
      const session = await sessionThrough(house.port, `${HOST}:${port()}`, house.ca);
      const answer = await ask(session, { ":method": "POST", ":path": "/t" }, "", trailers);
      expect(answer.status).toBe(200);
      session.close();
      const seen = version === "2" ? h2.seen.at(-1) : h1.requests.at(-1);
      expect(seen?.trailers ?? {}).toMatchObject(trailers ?? {});
    },
  );

  test("cookie crumbs are joined, request trailers pass", async () => {
    const session = await sessionThrough(house.port, `${HOST}:${port()}`, house.ca);
    await ask(session, { ":method": "POST", ":path": "/t", cookie: ["a=1", "b=2"], te: "trailers" }, "abc", {
      "x-after": "7",
    });
    session.close();
    if (version === "2") {
      const seen = h2.seen.at(-1);
      expect(seen?.headers).toMatchObject({ cookie: "a=1; b=2", te: "trailers", ":authority": `${HOST}:${port()}` });
      expect(seen?.trailers).toMatchObject({ "x-after": "7" });
      expect(seen?.content.toString()).toBe("abc");
    } else {
      const seen = h1.requests.at(-1);
      expect(seen?.headers).toMatchObject({ cookie: "a=1; b=2", host: `${HOST}:${port()}` });
      expect(seen?.trailers).toEqual({ "x-after": "7" });
    }
  });
});

describe("a client of HTTP/1.1 and an origin of HTTP/2 alone", () => {
  test.each([
    ["GET / HTTP/1.1\r\nHost: %\r\nX-Two: a\r\nX-Two: b\r\nUser-Agent: t\r\n\r\n", ""],
    ["POST / HTTP/1.1\r\nHost: %\r\nContent-Length: 3\r\n\r\nabc", "abc"],
    [
      "POST / HTTP/1.1\r\nHost: %\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n3\r\nabc\r\n0\r\nX-After: 7\r\n\r\n",
      "abc",
    ],
    ["POST / HTTP/1.1\r\nHost: %\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", "abc"],
  ])("%j", async (request, content) => {
    const authority = `${HOST}:${h2.port}`;
    const client = await tlsThrough(house.port, authority, { ca: house.ca });
    client.send(request.replace("%", authority));
    const answer = await client.until((text) => text.includes("0\r\nx-sum: 42\r\n\r\n"));
    expect(answer).toContain("HTTP/1.1 200 OK\r\n");
    expect(answer).toContain(`echo:`);
    expect(answer.match(/set-cookie: /g)).toHaveLength(2);
    expect(answer).toContain("Transfer-Encoding: chunked\r\n");
    const seen = h2.seen.at(-1);
    expect(seen?.content.toString()).toBe(content);
    expect(seen?.headers[":authority"]).toBe(authority);
    expect(seen?.headers.host).toBeUndefined();
    expect(seen?.headers["content-length"]).toBe(request.includes("Content-Length") ? "3" : undefined);
    if (request.includes("X-After")) expect(seen?.trailers).toMatchObject({ "x-after": "7" });
    client.destroy();
  });
});

test("in clear text with prior knowledge, both sides speak HTTP/2", async () => {
  const origin = await startH2Origin(answering({ "x-a": "1" }, "clear"), null);
  const session = await sessionThrough(house.port, `${HOST}:${origin.port}`, null);
  const answers = await Promise.all(["/1", "/2", "/3"].map((path) => ask(session, { ":path": path })));
  expect(answers.map((a) => [a.status, a.content.toString(), a.whole])).toEqual(Array(3).fill([200, "clear", true]));
  expect(origin.sessions).toHaveLength(1);
  session.close();
  const records = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port, 3);
  for (const r of records) expect(r).toMatchObject({ scheme: "http", clientProtocol: "2", originProtocol: "2" });
  await origin.close();
});

test("fields that are named like properties of every object are fields like any other", async () => {
  const text = "constructor: a\r\nConstructor: b\r\n__proto__: c\r\n";
  const got = ["constructor", "a", "constructor", "b", "__proto__", "c"];
  const odd = (raw: readonly string[]): string[] =>
    raw.filter((_, i) => ["constructor", "__proto__"].includes(raw[i - (i % 2)] as string));
  const client = await tlsThrough(house.port, `${HOST}:${h2.port}`, { ca: house.ca });
  client.send(`GET /odd HTTP/1.1\r\nHost: ${HOST}:${h2.port}\r\n${text}\r\n`);
  await client.response();
  client.destroy();
  expect(odd(h2.seen.at(-1)?.raw ?? [])).toEqual(got);

  const origin = await startRawOrigin(
    ({ socket }) => {
      socket.write(`HTTP/1.1 103 Early Hints\r\n${text}\r\n`);
      socket.write(`HTTP/1.1 200 OK\r\n${text}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${text}\r\n`);
    },
    { tls: leaf },
  );
  const session = await sessionThrough(house.port, `${HOST}:${origin.port}`, house.ca);
  const answer = await ask(session, { ":path": "/odd" });
  session.close();
  expect(answer.whole).toBe(true);
  expect(odd(answer.raw)).toEqual(got);
  for (const section of [answer.interim[0], answer.trailers])
    expect(Object.entries(section ?? {}).filter(([name]) => odd([name, ""]).length > 0)).toEqual([
      ["constructor", "a, b"],
      ["__proto__", "c"],
    ]);
  await origin.close();
});

test("property: any fields arrive at an origin of HTTP/2 as they were sent", async () => {
  const name = fc.stringMatching(/^x-[a-z0-9-]{1,20}$/);
  const value = fc.stringMatching(/^[!-~](?:[ -~]{0,30}[!-~])?$/);
  const session = await sessionThrough(house.port, `${HOST}:${h2.port}`, house.ca);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(name, value), { maxLength: 12 }), async (fields) => {
      const headers: Record<string, string[]> = {};
      for (const [n, v] of fields) headers[n] = [...(headers[n] ?? []), v];
      const answer = await ask(session, { ":path": "/p", ...headers });
      expect(answer.status).toBe(200);
      const raw = h2.seen.at(-1)?.raw ?? [];
      for (const [n, values] of Object.entries(headers)) {
        const got: string[] = [];
        for (let i = 0; i < raw.length; i += 2) if (raw[i] === n) got.push(raw[i + 1] as string);
        expect(got).toEqual(values);
      }
    }),
    { numRuns: 60 },
  );
  session.close();
});

test.each([
  ["chunks, which end later", ["Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"]],
  ["chunks, and content that it may not have", ["Transfer-Encoding: chunked\r\n\r\n", "2\r\nok\r\n0\r\n\r\n"]],
  ["no length", ["Connection: close\r\n\r\n", null]],
  ["a length of nothing", ["Content-Length: 0\r\n\r\n"]],
  ["a length, and content that it may not have", ["Content-Length: 2\r\n\r\n", "ok"]],
] as const)(
  "a 205 ends for a client of HTTP/2 with its head: %s",
  async (what, pieces) => {
    const origin = await startRawOrigin(
      ({ socket }) => {
        socket.write(`HTTP/1.1 205 Reset Content\r\n${pieces[0]}`);
        afterPause(50, () => (pieces[1] === null ? socket.end() : socket.write(pieces[1] ?? "")));
      },
      { tls: leaf },
    );
    const session = await sessionThrough(house.port, `${HOST}:${origin.port}`, house.ca);
    const began = performance.now();
    const answer = await ask(session, { ":path": "/205" });
    expect([answer.status, answer.whole, answer.content.length]).toEqual([205, true, 0]);
    expect(answer.headers["content-length"]).toBe(what === "a length of nothing" ? "0" : undefined);
    expect(performance.now() - began).toBeLessThan(3_000);
    session.close();
    const [record] = await house.recordsWhere((r) => r.port === origin.port && r.kind === "exchange");
    expect(record).toMatchObject({ status: 205, reason: null });
    await origin.close();
  },
  20_000,
);

describe("a head of more than 64 KiB goes through, and the connection lives", () => {
  const LONG = Array.from({ length: 8 }, (_, i) => [`x-long-${i}`, String(i).repeat(9_000)] as const);
  const large = { settings: { maxHeaderListSize: 1_000_000 }, maxSendHeaderBlockLength: 1_000_000 };

  test("of a response to HTTP/1.1", async () => {
    const head = ["HTTP/1.1 200 OK", ...LONG.map(([name, value]) => `${name}: ${value}`), "Content-Length: 2"].join(
      "\r\n",
    );
    const origin = await startRawOrigin(({ socket }) => void socket.write(`${head}\r\n\r\nok`), { tls: leaf });
    const session = await sessionThrough(house.port, `${HOST}:${origin.port}`, house.ca, large);
    await expectLong(session);
    await origin.close();
  });

  test("of a response to HTTP/2", async () => {
    const origin = await longH2Origin(() => Object.fromEntries(LONG));
    const session = await sessionThrough(house.port, `${HOST}:${origin.port}`, house.ca, large);
    await expectLong(session);
    await origin.close();
  });

  async function expectLong(session: http2.ClientHttp2Session): Promise<void> {
    let goodbye = false;
    session.on("goaway", () => {
      goodbye = true;
    });
    for (const path of ["/1", "/2"]) {
      const answer = await ask(session, { ":path": path });
      expect([answer.status, answer.content.toString(), answer.whole]).toEqual([200, "ok", true]);
      for (const [name, value] of LONG) expect(answer.headers[name] === value).toBe(true);
    }
    expect(goodbye).toBe(false);
    session.close();
  }

  test("of a request to HTTP/2, where the policy allows it", async () => {
    const wide = await startTestHouse({
      roots: testCa.cert,
      policy: `defaults: { action: allow, limits: { headers: 200KiB } }
network: { allow: [127.0.0.0/8] }
`,
    });
    const origin = await longH2Origin(() => ({}));
    const session = await sessionThrough(wide.port, `${HOST}:${origin.port}`, wide.ca, large);
    for (const path of ["/1", "/2"])
      expect((await ask(session, { ":path": path, ...Object.fromEntries(LONG) })).status).toBe(200);
    for (const seen of origin.seen) for (const [name, value] of LONG) expect(seen.headers[name] === value).toBe(true);
    expect(origin.sessions).toHaveLength(1);
    session.close();
    await wide.close();
    await origin.close();
  });

  /** An origin (node:http2) that takes and sends long heads. */
  async function longH2Origin(fields: () => http2.OutgoingHttpHeaders): Promise<H2Origin> {
    return startH2Origin(answering(fields(), "ok"), leaf, { maxHeaderListSize: 1_000_000 }, 1_000_000);
  }
});
