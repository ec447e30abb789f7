// Flow and endings: nothing stalls (T1), memory follows the slow reader, a broken response never looks complete, requests
// are sent again only where they were not processed (T4), and no two clients share a session (T9).
import type { ServerHttp2Stream } from "node:http2";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../../../support/origin.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { answering, type H2Handler, type H2Origin, startH2Origin } from "./origins.ts";
import { answerOf, ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
let house: TestHouse;
const closing: { close(): Promise<void> }[] = [];
const opened = async <T extends { close(): Promise<void> }>(one: Promise<T>): Promise<T> => {
  const made = await one;
  closing.push(made);
  return made;
};
const at = (origin: { readonly port: number }): string => `127.0.0.1:${origin.port}`;

beforeAll(async () => {
  house = await startTestHouse({
    roots: testCa.cert,
    policy: `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
clients:
  one: { password: one }
  two: { password: two }
`,
  });
});
afterAll(async () => {
  await house.close();
  for (const one of closing) await one.close();
});

const MB10 = 10 * 1024 * 1024;

describe("T1: 10 MB each way", () => {
  test.each(["2", "1.1"] as const)("through HTTP/2 inside CONNECT, origin of HTTP/%s", async (version) => {
    const echo: H2Handler = (stream) => {
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
    };
    const origin =
      version === "2"
        ? await opened(startH2Origin(echo, leaf))
        : await opened((await import("../../../support/origin.ts")).startHttpOrigin(undefined, leaf));
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const body = Buffer.alloc(MB10, "0123456789abcdef");
    const answers = await Promise.all([1, 2].map((i) => ask(session, { ":method": "POST", ":path": `/${i}` }, body)));
    for (const answer of answers) {
      expect(answer.whole).toBe(true);
      expect(answer.content.equals(body)).toBe(true);
    }
    session.close();
    const records = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port, 2);
    for (const r of records) {
      expect(r.originProtocol).toBe(version);
      expect([r.sent.bytes, r.received.bytes, r.sent.sha256]).toEqual([MB10, MB10, r.received.sha256]);
    }
  });
});

test("a slow reader bounds what is read from the origin", async () => {
  let given = 0;
  const origin = await opened(
    startH2Origin((stream) => {
      stream.respond({ ":status": 200 });
      const more = (): void => {
        while (given < 64 * 1024 * 1024 && !stream.destroyed) {
          given += 65_536;
          if (!stream.write(Buffer.alloc(65_536))) return void stream.once("drain", more);
        }
        if (!stream.destroyed) stream.end();
      };
      more();
    }, leaf),
  );
  const session = await sessionThrough(house.port, at(origin), house.ca);
  const stream = session.request({ ":path": "/slow" });
  stream.on("error", () => {});
  await new Promise((done) => setTimeout(done, 700));
  expect(given).toBeLessThan(4 * 1024 * 1024);
  // Others on the same connection are not held up.
  expect((await ask(session, { ":method": "HEAD", ":path": "/head" })).status).toBe(200);
  stream.close(8);
  session.close();
  const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.path === "/slow");
  expect(record).toMatchObject({ reason: "client-gone", status: 200 });
  expect(record?.received.complete).toBe(false);
});

const part = (then: (stream: ServerHttp2Stream) => void, length = false): H2Handler => {
  return (stream) => {
    // Otherwise node:http2 sends END_STREAM before RST_STREAM.
    const options = { waitForTrailers: !length };
    stream.respond({ ":status": 200, ...(length ? { "content-length": 10 } : {}) }, options);
    stream.write("part");
    setTimeout(() => then(stream), 40);
  };
};

describe("a response that breaks never looks complete", () => {
  const broken: [string, () => Promise<{ port: number; close(): Promise<void> }>][] = [
    [
      "RST_STREAM(NO_ERROR)",
      () =>
        startH2Origin(
          part((s) => s.destroy()),
          leaf,
        ),
    ],
    [
      "RST_STREAM(CANCEL)",
      () =>
        startH2Origin(
          part((s) => s.close(8)),
          leaf,
        ),
    ],
    [
      "RST_STREAM(INTERNAL_ERROR)",
      () =>
        startH2Origin(
          part((s) => s.close(2)),
          leaf,
        ),
    ],
    [
      "RST_STREAM with a content-length",
      () =>
        startH2Origin(
          part((s) => s.destroy(), true),
          leaf,
        ),
    ],
    [
      "the connection gone",
      async () => {
        const origin: H2Origin = await startH2Origin(
          part(() => origin.cut()),
          leaf,
        );
        return origin;
      },
    ],
    [
      "GOAWAY with an error",
      () =>
        startH2Origin(
          part((s) => s.session?.destroy(undefined, 2)),
          leaf,
        ),
    ],
    [
      "less than content-length",
      () =>
        startH2Origin(
          part((s) => s.end(), true),
          leaf,
        ),
    ],
    ["an origin of HTTP/1.1 that lies", () => startRawOrigin(origins.lyingLength(10, "part"), { tls: leaf })],
    [
      "an origin of HTTP/1.1 without a last chunk",
      () =>
        startRawOrigin(origins.answerAndEnd("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n"), {
          tls: leaf,
        }),
    ],
  ];
  test.each(broken)("%s", async (_what, start) => {
    const origin = await opened(start());
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const answer = await ask(session, { ":path": "/h2" });
    expect([answer.status, answer.whole]).toEqual([200, false]);
    expect(answer.code).not.toBe(0);
    session.close();
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    expect(record?.reason).toMatch(/^origin-(?:incomplete|protocol)$/);
    expect(record?.received.complete).toBe(false);
  });

  test.each(broken.slice(0, 7))("%s, for a client of HTTP/1.1", async (_what, start) => {
    const origin = await opened(start());
    const client = await tlsThrough(house.port, at(origin), { ca: house.ca });
    client.send(`GET /h1 HTTP/1.1\r\nHost: ${at(origin)}\r\n\r\n`);
    await client.closed();
    expect(client.text).not.toContain("\r\n0\r\n\r\n");
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    expect(record?.received.complete).toBe(false);
    expect(record?.originProtocol).toBe("2");
  });
});

test("a response of which every declared byte came is whole, also when RST_STREAM(NO_ERROR) stands for its end", async () => {
  const origin = await opened(
    startH2Origin((s) => {
      s.respond({ ":status": 200, "content-length": "5" }, { waitForTrailers: true });
      s.write("hello", () => setTimeout(() => s.destroy(), 20));
    }, leaf),
  );
  const session = await sessionThrough(house.port, at(origin), house.ca);
  const answer = await ask(session, { ":path": "/" });
  expect([answer.status, answer.whole, answer.content.toString()]).toEqual([200, true, "hello"]);
  session.close();
  const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
  expect(record).toMatchObject({ decision: "allow", reason: null, received: { bytes: 5, complete: true } });
});

describe("before a response, the client is told with a status", () => {
  test.each([
    ["a reset", (s: ServerHttp2Stream) => s.close(2), 502, "origin-incomplete"],
    ["RST_STREAM(NO_ERROR)", (s: ServerHttp2Stream) => s.destroy(), 502, "origin-incomplete"],
    ["GOAWAY with an error", (s: ServerHttp2Stream) => s.session?.destroy(), 502, "origin-incomplete"],
    ["a protocol error", (s: ServerHttp2Stream) => s.close(1), 502, "origin-protocol"],
  ] as const)("%s", async (_what, fault, status, reason) => {
    const origin = await opened(startH2Origin((s) => setTimeout(() => fault(s), 10), leaf));
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const answer = await ask(session, { ":method": "POST", ":path": "/" }, "x");
    expect([answer.status, answer.whole]).toEqual([status, true]);
    session.close();
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    expect(record?.reason).toBe(reason);
  });
});

describe("T4: what the origin did not process is sent once more, where that is safe", () => {
  const refusing =
    (fault: (s: ServerHttp2Stream) => void, times: number): H2Handler =>
    (stream, seen, n) => {
      if (n < times) fault(stream);
      else answering({}, "ok")(stream, seen, n);
    };
  test.each([
    ["GET, refused once", "GET", null, 1, (s: ServerHttp2Stream) => s.close(7), 200, 2],
    ["GET, refused twice", "GET", null, 2, (s: ServerHttp2Stream) => s.close(7), 502, 2],
    ["DELETE without content, refused", "DELETE", null, 1, (s: ServerHttp2Stream) => s.close(7), 200, 2],
    ["POST with content, refused", "POST", "x", 1, (s: ServerHttp2Stream) => s.close(7), 200, 2],
    ["POST with content, refused twice", "POST", "x", 2, (s: ServerHttp2Stream) => s.close(7), 502, 2],
    [
      "POST with much content, refused at once",
      "POST",
      "x".repeat(60_000),
      1,
      (s: ServerHttp2Stream) => s.close(7),
      200,
      2,
    ],
    ["POST with content, reset with another code", "POST", "x", 1, (s: ServerHttp2Stream) => s.close(8), 502, 1],
    ["GET, reset with another code", "GET", null, 1, (s: ServerHttp2Stream) => s.close(8), 502, 1],
  ] as const)("%s", async (_what, method, content, times, fault, status, requests) => {
    const origin = await opened(startH2Origin(refusing(fault, times), leaf));
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const answer = await ask(session, { ":method": method, ":path": "/" }, content);
    expect(answer.status).toBe(status);
    expect(origin.seen).toHaveLength(requests);
    session.close();
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    if (requests === 2) expect(record?.notes).toContain("retried:refused");
    if (requests === 2 && status === 200) expect(origin.seen[1]?.content.toString()).toBe(content ?? "");
  });

  test("content that is still coming goes on where it was, trailers too", async () => {
    const origin = await opened(
      startH2Origin((stream, seen, n) => {
        if (n > 0) return answering({}, "ok")(stream, seen, n);
        let bytes = 0;
        stream.on("data", (b: Buffer) => {
          bytes += b.length;
          if (bytes === 1_000) stream.close(7);
        });
      }, leaf),
    );
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const stream = session.request({ ":method": "POST", ":path": "/" }, { endStream: false, waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
    const answer = answerOf(stream);
    const piece = Buffer.alloc(1_000, "y");
    for (let i = 0; i < 300; i++) {
      stream.write(piece);
      if (i < 20) await new Promise((done) => setTimeout(done, 5));
    }
    stream.end();
    expect((await answer).status).toBe(200);
    expect(origin.seen).toHaveLength(2);
    expect(origin.seen[1]?.content.equals(Buffer.alloc(300_000, "y"))).toBe(true);
    expect(origin.seen[1]?.trailers?.["x-sum"]).toBe("7");
    session.close();
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    expect(record).toMatchObject({ status: 200, sent: { bytes: 300_000, complete: true } });
  });

  test.each([
    ["the origin has begun to answer", 1_000, true],
    ["more was sent than is kept", 200_000, false],
  ] as const)("not when %s", async (_what, size, answers) => {
    const origin = await opened(
      startH2Origin((stream) => {
        let bytes = 0;
        stream.on("data", (b: Buffer) => {
          bytes += b.length;
          if (bytes < size) return;
          if (answers) stream.additionalHeaders({ ":status": 103 });
          setTimeout(() => stream.close(7), 50);
        });
      }, leaf),
    );
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const stream = session.request({ ":method": "POST", ":path": "/" }, { endStream: false });
    stream.write(Buffer.alloc(size));
    expect((await answerOf(stream)).status).toBe(502);
    expect(origin.seen).toHaveLength(1);
    session.close();
  });

  test.each([
    ["GET", null],
    ["POST", "content"],
  ] as const)("GOAWAY below a stream: %s is sent again on another session", async (method, content) => {
    const origin = await opened(
      startH2Origin((stream, seen, n) => {
        if (n === 1) stream.session?.goaway(0, 1);
        else answering({}, "ok")(stream, seen, n);
      }, leaf),
    );
    const session = await sessionThrough(house.port, at(origin), house.ca);
    expect((await ask(session, { ":path": "/1" })).status).toBe(200);
    expect((await ask(session, { ":path": "/2", ":method": method }, content)).status).toBe(200);
    expect(origin.seen.map((s) => s.headers[":path"])).toEqual(["/1", "/2", "/2"]);
    expect(origin.seen[2]?.content.toString()).toBe(content ?? "");
    session.close();
  });

  test("a session that went while it was idle costs a safe request nothing", async () => {
    const origin = await opened(startH2Origin(answering({}, "ok"), leaf));
    const session = await sessionThrough(house.port, at(origin), house.ca);
    expect((await ask(session, { ":path": "/1" })).status).toBe(200);
    origin.sessions[0]?.close();
    expect((await ask(session, { ":path": "/2" })).status).toBe(200);
    origin.sessions[1]?.destroy();
    expect((await ask(session, { ":path": "/3" })).status).toBe(200);
    session.close();
  });
});

describe("T9: sessions with origins", () => {
  const as = (name: string): string =>
    `Proxy-Authorization: Basic ${Buffer.from(`${name}:${name}`).toString("base64")}\r\n`;

  test("are never shared by two clients, and are shared by the streams of one", async () => {
    const origin = await opened(startH2Origin(answering({}, "ok"), leaf));
    const of: Record<string, Set<unknown>> = {};
    for (const name of ["one", "two", "one"]) {
      const session = await sessionThrough(house.port, at(origin), house.ca, { fields: as(name) });
      await Promise.all([1, 2, 3].map((i) => ask(session, { ":path": `/${name}/${i}` })));
      session.close();
    }
    for (const seen of origin.seen) {
      const name = String(seen.headers[":path"]).split("/")[1] as string;
      of[name] ??= new Set();
      of[name].add(seen.session);
    }
    expect([of.one?.size, of.two?.size]).toEqual([1, 1]);
    expect([...(of.one ?? [])].some((s) => of.two?.has(s))).toBe(false);
  });

  test("open as many streams as the origin bears", async () => {
    let open = 0;
    let most = 0;
    const origin = await opened(
      startH2Origin(
        (stream) => {
          most = Math.max(most, ++open);
          setTimeout(() => {
            open--;
            if (!stream.destroyed) {
              stream.respond({ ":status": 200 });
              stream.end("ok");
            }
          }, 20);
        },
        leaf,
        { maxConcurrentStreams: 5 },
      ),
    );
    const session = await sessionThrough(house.port, at(origin), house.ca);
    await ask(session, { ":path": "/first" });
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(session, { ":path": `/${i}` })));
    expect(answers.every((a) => a.status === 200)).toBe(true);
    expect(most).toBeLessThanOrEqual(20);
    session.close();
  });
});

test("a client that goes on sending after its whole answer is told that it need not (RFC 9113 section 8.1)", async () => {
  const origin = await opened(
    startH2Origin((stream) => {
      stream.resume();
      stream.respond({ ":status": 200 });
      stream.end("enough");
    }, leaf),
  );
  const session = await sessionThrough(house.port, at(origin), house.ca);
  const stream = session.request({ ":method": "POST", ":path": "/" }, { endStream: false });
  const sending = setInterval(() => stream.write("more"), 50);
  const answer = await answerOf(stream);
  clearInterval(sending);
  expect([answer.status, answer.whole, answer.content.toString()]).toEqual([200, true, "enough"]);
  session.close();
});

describe("a client that leaves", () => {
  test.each(["2", "1.1"] as const)("takes its request from an origin of HTTP/%s", async (version) => {
    const origin: H2Origin | RawOrigin =
      version === "2"
        ? await opened(startH2Origin((s) => s.resume(), leaf))
        : await opened(startRawOrigin(origins.stall(), { tls: leaf }));
    const session = await sessionThrough(house.port, at(origin), house.ca);
    const stream = session.request({ ":path": "/left" });
    const answer = answerOf(stream);
    const arrived = (): boolean => ("seen" in origin ? origin.seen.length > 0 : origin.text().includes("/left"));
    while (!arrived()) await new Promise((done) => setTimeout(done, 5));
    stream.close(8);
    await answer;
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
    expect(record).toMatchObject({ reason: "client-gone", status: null });
    const left = (): boolean =>
      "seen" in origin ? origin.seen[0]?.code === 8 : origin.conversations[0]?.closed === true;
    for (let i = 0; i < 200 && !left(); i++) await new Promise((done) => setTimeout(done, 5));
    expect(left()).toBe(true);
    session.close();
  });
});

test.each(["end", "destroy"] as const)("a client whose connection goes (%s) takes its requests along", async (how) => {
  const origin = await opened(startH2Origin((s) => s.resume(), leaf));
  const session = await sessionThrough(house.port, at(origin), house.ca);
  const answers = [1, 2, 3].map((i) => ask(session, { ":path": `/gone/${i}` }));
  while (origin.seen.length < 3) await new Promise((done) => setTimeout(done, 5));
  if (how === "end") session.close();
  session.destroy();
  await Promise.all(answers);
  const records = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port, 3);
  expect(records.map((r) => r.reason)).toEqual(["client-gone", "client-gone", "client-gone"]);
});

test("draining: GOAWAY, and the stream that is open finishes", async () => {
  const own = await startTestHouse({ roots: testCa.cert });
  const origin = await opened(
    startH2Origin((stream) => {
      setTimeout(() => {
        stream.respond({ ":status": 200 });
        stream.end("late");
      }, 400);
    }, leaf),
  );
  const session = await sessionThrough(own.port, at(origin), own.ca);
  const away = new Promise((resolve) => session.once("goaway", (code) => resolve(code)));
  const answer = ask(session, { ":path": "/late" });
  await new Promise((done) => setTimeout(done, 150));
  const drained = own.close();
  expect(await away).toBe(0);
  expect((await answer).content.toString()).toBe("late");
  await drained;
});
