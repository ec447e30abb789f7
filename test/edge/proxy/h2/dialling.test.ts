// Several requests of HTTP/2 wait for one dial: whoever leaves takes nobody along, and when all have left so has the dial.
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startDns, type TestDns } from "../../../support/dns.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type RawOrigin, startRawOrigin } from "../../../support/origin.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { answerOf, ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let dns: TestDns;
let origin: H2Origin;
/** Accepts, and never says a word of TLS. */
let mute: RawOrigin;

beforeAll(async () => {
  origin = await startH2Origin(
    answering({}, "hello"),
    testCa.leaf("alone.test", { names: ["alone.test", "led.test"] }),
  );
  mute = await startRawOrigin(() => {});
  dns = await startDns((_name, type) => ({ addresses: type === "A" ? ["127.0.0.1"] : [], delay: 1_000 }));
  house = await startTestHouse({
    roots: testCa.cert,
    policy: "defaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n",
    resolver: { servers: [dns.server], deadline: 5_000 },
  });
});
afterAll(async () => {
  await house.close();
  await dns.close();
  await origin.close();
  await mute.close();
});

const exchangesOf = async (host: string, count: number) => {
  const records = await house.recordsWhere((r) => r.kind === "exchange" && r.host === host, count);
  return records.map((r) => [r.path, r.status, r.reason]).sort();
};

test("a request that comes after the only one of a dial has left begins a dial of its own", async () => {
  const session = await sessionThrough(house.port, `alone.test:${origin.port}`, house.ca);
  const first = session.request({ ":path": "/1" });
  const left = answerOf(first);
  await wait(200); // its name is being asked for
  first.close(8);
  await left;
  await wait(50);
  expect(await ask(session, { ":path": "/2" })).toMatchObject({ status: 200, whole: true });
  session.close();
  expect(await exchangesOf("alone.test", 2)).toEqual([
    ["/1", null, "client-gone"],
    ["/2", 200, null],
  ]);
});

test("a dial goes on for those who wait when the one that began it leaves", async () => {
  const session = await sessionThrough(house.port, `led.test:${origin.port}`, house.ca);
  const sessions = origin.sessions.length;
  const first = session.request({ ":path": "/1" });
  const left = answerOf(first);
  await wait(100);
  const second = ask(session, { ":path": "/2" });
  await wait(100);
  first.close(8);
  await left;
  expect(await second).toMatchObject({ status: 200, whole: true });
  session.close();
  expect(await exchangesOf("led.test", 2)).toEqual([
    ["/1", null, "client-gone"],
    ["/2", 200, null],
  ]);
  expect(origin.sessions.length).toBe(sessions + 1);
});

test("a dial is given up when the one that began it leaves, and then all who wait", async () => {
  const session = await sessionThrough(house.port, `mute.test:${mute.port}`, house.ca);
  const streams = ["/1", "/2", "/3"].map((path) => session.request({ ":path": path }));
  const left = streams.map(answerOf);
  await mute.until((text) => text.length > 0); // our ClientHello
  for (const stream of streams) {
    stream.close(8);
    await wait(50);
  }
  await Promise.all(left);
  // Otherwise it would last for the 10 seconds of the connect timeout.
  await expect.poll(() => mute.conversations.every((one) => one.closed), { timeout: 3_000 }).toBe(true);
  session.close();
  expect(await exchangesOf("mute.test", 3)).toEqual(["/1", "/2", "/3"].map((path) => [path, null, "client-gone"]));
});
