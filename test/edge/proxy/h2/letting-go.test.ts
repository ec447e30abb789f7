// Streams that are over while something in them was neither read nor sent: node:http2 keeps such a stream for ever, and with it
// a place in its session. Each ends soon, its session lives on, and nobody else notices.
import http2, { type ClientHttp2Session, type ServerHttp2Stream } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type H2Handler, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, sessionThrough } from "./support.ts";

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = http2.constants;
const CONTENT = Buffer.alloc(200_000, "x");

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
/** In this one nothing ends because of the idle limit; in the other one everything does that does not end before. */
let patient: TestHouse;
let impatient: TestHouse;
const opened: { close(): unknown }[] = [];

const houseOf = (idle: number): Promise<TestHouse> =>
  startTestHouse({
    roots: testCa.cert,
    policy: `defaults: { action: allow, limits: { idle: ${idle}s } }\nnetwork: { allow: [127.0.0.0/8] }\n`,
  });
beforeAll(async () => {
  patient = await houseOf(60);
  impatient = await houseOf(1);
});
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});
afterAll(async () => {
  await patient.close();
  await impatient.close();
});

async function origin(handler: H2Handler, settings: http2.Settings = {}): Promise<H2Origin> {
  const made = await startH2Origin(handler, leaf, settings);
  opened.push(made);
  return made;
}

async function client(
  house: TestHouse,
  { port }: H2Origin,
  settings: http2.Settings = {},
): Promise<ClientHttp2Session> {
  const session = await sessionThrough(house.port, `127.0.0.1:${port}`, house.ca, { settings });
  opened.push({ close: () => session.destroy() });
  return session;
}

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 15_000; !holds(); await wait(20)) if (Date.now() > end) throw new Error(what);
}

/** Takes a little of the content, and no more; gives no END_STREAM of its own until told. */
function takingLittle(stream: ServerHttp2Stream): void {
  stream.once("data", () => stream.pause());
}

test("a response that came whole and was not read any more leaves nothing in the session with the origin", async () => {
  const whole: H2Handler = (stream) => {
    stream.respond({ ":status": 200 });
    stream.end(CONTENT);
  };
  const from = await origin(whole);
  const session = await client(patient, from, { initialWindowSize: 1_000 });
  const stream = session.request({ ":path": "/unread" });
  stream.on("error", () => {});
  // END_STREAM came from the origin, and nearly all of the content waits in the proxy.
  await until(() => from.seen[0]?.code === NGHTTP2_NO_ERROR, "the origin was not asked");
  stream.close(NGHTTP2_CANCEL);
  await patient.recordsWhere((r) => r.path === "/unread" && r.reason === "client-gone");
  const [kept] = from.sessions;
  expect(kept?.destroyed).toBe(false);
  // A session of the old policy closes with its last stream.
  await patient.house.reload();
  await until(() => kept?.destroyed === true, "a stream that nobody reads keeps the session open");
});

test("an answer before all was read ends the stream, and the client's session serves on after the idle limit", async () => {
  const early: H2Handler = (stream, seen) => {
    stream.respond({ ":status": 200 });
    stream.end(seen.headers[":path"]?.toString());
  };
  const from = await origin(early, { initialWindowSize: 1_000 });
  const session = await client(impatient, from);
  let farewell = false;
  for (const event of ["goaway", "close"])
    session.on(event, () => {
      farewell = true;
    });
  const answer = await ask(session, { ":method": "POST", ":path": "/early" }, CONTENT);
  expect([answer.status, answer.content.toString(), answer.whole]).toEqual([200, "/early", true]);
  for (const end = Date.now() + 5_000; Date.now() < end; await wait(500))
    expect((await ask(session, { ":path": "/another" })).status).toBe(200);
  expect(farewell).toBe(false);
});

test("the rest of an upload is given up where the origin has answered and gives it no room", async () => {
  const ends: number[] = [];
  const answered: H2Handler = (stream) => {
    takingLittle(stream);
    stream.on("close", () => ends.push(stream.rstCode ?? -1));
    stream.respond({ ":status": 200 });
    stream.end("enough");
  };
  const from = await origin(answered, { initialWindowSize: 20_000 });
  const session = await client(patient, from);
  const answer = await ask(session, { ":method": "POST", ":path": "/enough" }, CONTENT);
  expect([answer.status, answer.content.toString()]).toEqual([200, "enough"]);
  await until(() => ends.length > 0, "the origin still waits for the rest");
  expect(ends).toEqual([NGHTTP2_CANCEL]);
});

test("a client that resets with NO_ERROR while it reads nothing is noticed", async () => {
  const ends: number[] = [];
  const endless: H2Handler = (stream) => {
    stream.respond({ ":status": 200 });
    const more = (): void => {
      while (!stream.destroyed && stream.write(CONTENT));
      if (!stream.destroyed) stream.once("drain", more);
    };
    more();
    stream.on("close", () => ends.push(stream.rstCode ?? -1));
  };
  const session = await client(patient, await origin(endless), { initialWindowSize: 1_000 });
  const stream = session.request({ ":path": "/no-error" });
  stream.on("error", () => {});
  await new Promise((done) => stream.once("response", done));
  await wait(100);
  stream.close(NGHTTP2_NO_ERROR);
  await until(() => ends.length > 0, "the origin still sends");
  const [record] = await patient.recordsWhere((r) => r.path === "/no-error");
  expect(record).toMatchObject({ status: 200, reason: "client-gone" });
  expect(record?.received.complete).toBe(false);
});

test.each(["/before", "/inside"])(
  "an origin that resets with NO_ERROR %s its answer, and reads nothing, is noticed",
  async (path) => {
    const resetting: H2Handler = (stream) => {
      takingLittle(stream);
      if (path === "/inside") {
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.write("a part");
      }
      setTimeout(() => stream.close(NGHTTP2_NO_ERROR), 300);
    };
    const from = await origin(resetting, { initialWindowSize: 20_000 });
    const session = await client(patient, from);
    const answer = await Promise.race([ask(session, { ":method": "POST", ":path": path }, CONTENT), wait(15_000)]);
    expect(answer?.status).toBe(path === "/inside" ? 200 : 502);
    expect(answer?.whole).toBe(path !== "/inside");
    const [record] = await patient.recordsWhere((r) => r.path === path);
    expect(record?.reason).toBe("origin-incomplete");
  },
);

test("node:http2 closes no stream by itself: its reset would overtake an END_STREAM that has to wait", async () => {
  const closed: string[] = [];
  let prototype: ServerHttp2Stream | null = null;
  const from = await origin((stream) => {
    prototype = Object.getPrototypeOf(Object.getPrototypeOf(stream));
    stream.resume();
    stream.respond({ ":status": 200 });
    stream.write("some");
    setTimeout(() => stream.end("more"), 50);
  });
  const session = await client(patient, from);
  expect((await ask(session, { ":path": "/" })).whole).toBe(true);
  // What its streams inherit `close` from; the origin's own streams read, and need none.
  const shared = prototype as unknown as ServerHttp2Stream;
  const { close } = shared;
  shared.close = function (this: ServerHttp2Stream, ...args: [number?]) {
    if (args[0] === undefined) closed.push(String(this.id));
    close.apply(this, args);
  };
  try {
    const answers = await Promise.all([1, 2, 3].map((i) => ask(session, { ":path": `/${i}` })));
    expect(answers.map(({ whole, content }) => [whole, content.toString()])).toEqual(Array(3).fill([true, "somemore"]));
    await wait(100);
  } finally {
    shared.close = close;
  }
  expect(closed).toEqual([]);
});
