// Sessions over time: PING finds an origin that is gone without a word, idle clients are asked to leave, and an origin that
// wants HTTP/1.1 gets it.
import { once } from "node:events";
import http2 from "node:http2";
import net, { type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { H2OriginSession } from "../../../../src/edge/proxy/h2/origin-session.ts";
import type { Route } from "../../../../src/edge/proxy/origin-route.ts";
import { TimerWheel } from "../../../../src/edge/proxy/timers.ts";
import { type ConnectionFacts, Exchange } from "../../../../src/exchange/exchange.ts";
import type { OpenRequest, OriginEvents } from "../../../../src/exchange/sides.ts";
import type { Policy } from "../../../../src/policy/types.ts";
import type { ProxyError } from "../../../../src/shared/errors.ts";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { answering, startH2Origin } from "./origins.ts";
import { ask, FRAME, frame, sessionThrough } from "./support.ts";

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
let house: TestHouse;
beforeAll(async () => {
  house = await startTestHouse({
    roots: testCa.cert,
    policy: `server: { idle-timeout: 1s, header-timeout: 2s }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
`,
  });
});
afterAll(() => house.close());

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

describe("an origin that is silent for 20 s is asked with PING", () => {
  /**
   * A session of ours with an origin that never answers a request, on real sockets; the test moves the wheel's clock. `dead`:
   * it does not answer anything else either.
   */
  async function silent(dead: boolean) {
    const server = dead
      ? net.createServer((socket) => socket.write(frame(FRAME.settings, 0, 0)))
      : http2.createServer();
    const sockets: Socket[] = [];
    let pings = 0;
    server.on("connection", (socket: Socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
    });
    server.on("session", (session) => {
      session.on("ping", () => pings++);
      session.on("error", () => {});
    });
    server.on("stream", (stream) => stream.on("error", () => {}));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const socket = net.connect(port, "127.0.0.1");
    await once(socket, "connect");
    const wheel = new TimerWheel(() => {});
    const head = {
      method: "GET",
      scheme: "http",
      host: "127.0.0.1",
      port,
      path: "/",
      version: "2",
      fields: [],
    } as const;
    const x = new Exchange("id", 0, 0, {} as ConnectionFacts, {} as Policy, { ...head, fields: [] }, 0);
    const request: OpenRequest = { exchange: x, length: 0, expectContinue: false, upgrade: null };
    let closed = false;
    const owner = {
      wheel,
      tick: () => performance.now(),
      sessionClosed: () => {
        closed = true;
      },
    };
    const session = new H2OriginSession(owner, "key", { socket } as unknown as Route, request, Buffer.alloc(0));
    await new Promise<void>((resolve) => session.whenSettled(() => resolve()));
    let failure: ProxyError | null = null;
    const events: Partial<OriginEvents> = {
      originFailed: (error) => {
        failure = error;
      },
    };
    session.start(request, events as OriginEvents, () => false);
    await wait(50);
    const pass = (ms: number): void => {
      wheel.now += ms;
      session.expire();
    };
    const close = (): void => {
      wheel.close();
      session.destroy();
      for (const one of sockets) one.destroy();
      server.close();
    };
    return { session, pass, close, pings: () => pings, failure: () => failure, closed: () => closed };
  }

  test("it answers: the request goes on", async () => {
    const s = await silent(false);
    s.pass(19_000);
    await wait(50);
    expect(s.pings()).toBe(0);
    s.pass(2_000);
    await wait(50);
    expect(s.pings()).toBe(1);
    s.pass(11_000);
    await wait(50);
    expect([s.failure(), s.session.usable]).toEqual([null, true]);
    s.close();
  });

  test("it does not: the request fails as a timeout of the origin, the session is gone", async () => {
    const s = await silent(true);
    s.pass(21_000);
    await wait(50);
    s.pass(9_000);
    await wait(50);
    expect([s.failure(), s.session.usable]).toEqual([null, true]);
    s.pass(2_000);
    await wait(50);
    expect(s.failure()).toMatchObject({ reason: "origin-timeout" });
    expect([s.session.usable, s.closed()]).toEqual([false, true]);
    s.close();
  });
});

describe("a client that asks nothing", () => {
  test.each([
    ["after a request", true, 1_000],
    ["from the beginning", false, 2_000],
  ] as const)("%s is told to go, and then cut off", async (_what, asks, least) => {
    const origin = await startH2Origin(answering({}, "ok"), leaf);
    const session = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca);
    if (asks) expect((await ask(session, { ":path": "/" })).status).toBe(200);
    const began = performance.now();
    const away = once(session, "goaway");
    const closed = once(session, "close");
    expect((await away)[0]).toBe(0);
    expect(performance.now() - began).toBeGreaterThan(least - 300);
    await closed;
    expect(performance.now() - began).toBeLessThan(10_000);
    await origin.close();
  });

  test("one that waits for an answer is not idle", async () => {
    const origin = await startH2Origin(
      (stream) =>
        void setTimeout(() => {
          stream.respond({ ":status": 200 });
          stream.end("late");
        }, 2_600),
      leaf,
    );
    const session = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca);
    expect((await ask(session, { ":path": "/" })).content.toString()).toBe("late");
    session.close();
    await origin.close();
  });
});

describe("HTTP_1_1_REQUIRED (RFC 9113 section 7)", () => {
  test.each([
    ["GET", null, 200],
    ["POST", "content", 502],
  ] as const)("%s", async (method, content, status) => {
    const seen: string[] = [];
    const server = http2.createSecureServer({ ...leaf, allowHTTP1: true });
    server.on("session", (session) => session.on("error", () => {}));
    server.on("stream", (stream) => {
      seen.push("2");
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_HTTP_1_1_REQUIRED);
    });
    server.on("request", (request, response) => {
      if (request.httpVersion !== "1.1") return;
      seen.push("1.1");
      response.end("by 1.1");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const session = await sessionThrough(house.port, `127.0.0.1:${port}`, house.ca);
    const first = await ask(session, { ":method": method, ":path": "/first" }, content);
    expect(first.status).toBe(status);
    expect(seen).toEqual(status === 200 ? ["2", "1.1"] : ["2"]);
    // It is remembered: the next one, with content, asks in HTTP/1.1 at once.
    const next = await ask(session, { ":method": "POST", ":path": "/next" }, "x");
    expect([next.status, next.content.toString()]).toEqual([200, "by 1.1"]);
    expect(seen).toEqual(status === 200 ? ["2", "1.1", "1.1"] : ["2", "1.1"]);
    const [record] = await house.recordsWhere((r) => r.port === port && r.path === "/first");
    expect(record?.originProtocol).toBe(status === 200 ? "1.1" : null);
    expect(record?.notes?.includes("retried:http1") ?? false).toBe(status === 200);
    session.close();
    server.close();
  });
});
