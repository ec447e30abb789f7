// What was written to a stream and never sent, because the stream was reset: node:http2 counts it as memory of the session for
// ever, and in the end refuses every stream. Who cancels much, and not too fast, is served all the same.
import type { ClientHttp2Session } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type H2Origin, startH2Origin } from "./origins.ts";
import { ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
/** A filter holds such a content until it is whole, and then writes it in one piece. */
const CONTENT = Buffer.alloc(60_000, "x");
const AT_ONCE = 60;
/** Resets of one connection that are no abuse. */
const BORNE = 5 * AT_ONCE;

let house: TestHouse;
let origin: H2Origin;

beforeAll(async () => {
  // Takes nothing of what is sent to it.
  origin = await startH2Origin(
    (stream, { headers }) => {
      if (headers[":method"] === "POST") return void stream.once("data", () => stream.pause());
      stream.respond({ ":status": 200 });
      stream.end(headers[":path"] === "/small" ? "small" : CONTENT);
    },
    leaf,
    { initialWindowSize: 0 },
  );
  house = await startTestHouse({
    roots: testCa.cert,
    policy: `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: all, allow: "https://127.0.0.1:${origin.port}/**", content: [{ block: { text: never-there } }] }
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

/** A client that opens a session when the last one is not to be used any more, as clients do. */
class Client {
  readonly sessions: ClientHttp2Session[] = [];
  /** The error codes with which sessions were ended. */
  readonly farewells: number[] = [];
  private current: ClientHttp2Session | null = null;

  async session(): Promise<ClientHttp2Session> {
    const { current } = this;
    if (current !== null && !current.closed && !current.destroyed) return current;
    const options = { settings: { initialWindowSize: 10 } };
    const opened = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca, options);
    opened.on("goaway", (code) => this.farewells.push(code));
    this.current = opened;
    this.sessions.push(opened);
    return opened;
  }

  leave(): void {
    this.current?.destroy();
    this.current = null;
  }
}

test("downloads", async () => {
  const client = new Client();
  for (let cancelled = 0; cancelled < BORNE; cancelled += AT_ONCE) {
    const session = await client.session();
    const streams = Array.from({ length: AT_ONCE }, () => session.request({ ":path": "/large" }));
    await Promise.all(
      streams.map((stream) => {
        stream.on("error", () => {});
        return new Promise((done) => stream.once("response", done).once("close", done));
      }),
    );
    expect(streams.filter(({ destroyed }) => destroyed)).toEqual([]);
    await wait(100);
    for (const stream of streams) stream.close(8);
    await wait(50);
  }
  expect((await ask(await client.session(), { ":path": "/small" })).content.toString()).toBe("small");
  expect(client.sessions.length).toBeGreaterThan(1);
  expect(new Set(client.farewells)).toEqual(new Set([0]));
  client.leave();
});

test("uploads", async () => {
  const client = new Client();
  const uploads = (): number => origin.seen.filter(({ headers }) => headers[":path"] === "/up").length;
  for (let cancelled = 0; cancelled < 2 * BORNE; cancelled += AT_ONCE) {
    if (cancelled === BORNE) client.leave();
    const session = await client.session();
    const streams = Array.from({ length: AT_ONCE }, () => {
      const stream = session.request({ ":method": "POST", ":path": "/up" });
      stream.on("error", () => {});
      stream.end(CONTENT);
      return stream;
    });
    const wanted = cancelled + AT_ONCE;
    for (const end = Date.now() + 10_000; uploads() < wanted && Date.now() < end; ) await wait(20);
    await wait(100);
    for (const stream of streams) stream.close(8);
    await wait(50);
    expect((await ask(await client.session(), { ":path": "/small" })).content.toString()).toBe("small");
  }
  expect(origin.sessions.length).toBeGreaterThan(1);
  client.leave();
});
