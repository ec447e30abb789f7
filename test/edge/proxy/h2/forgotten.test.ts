// Sessions that ended before the other side acknowledged our SETTINGS, as an attacker would end them, and those that waited for a
// session with an origin that lives on: none stays in memory.

import type { ClientHttp2Session } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import v8 from "node:v8";
import { afterAll, beforeAll, expect, test } from "vitest";
import { H2ClientSession } from "../../../../src/edge/proxy/h2/client-session.ts";
import { H2OriginSession } from "../../../../src/edge/proxy/h2/origin-session.ts";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { PATIENCE } from "../../../support/patience.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { startH2Origin } from "./origins.ts";
import { ask, FRAME, frame, section, sessionThrough } from "./support.ts";

const SESSIONS = 20;
const INTERNAL_ERROR = Buffer.from([0, 0, 0, 0, 0, 0, 0, 2]);

const testCa = new TestCa();
let house: TestHouse;
let origin: tls.Server;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const here = (): string => `127.0.0.1:${(origin.address() as { port: number }).port}`;

const head = (): Buffer =>
  section([
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", here()],
    [":path", "/"],
  ]);

/** Speaks HTTP/2, acknowledges no SETTINGS, and answers the first request with GOAWAY and the end. */
function rude(socket: tls.TLSSocket): void {
  socket.on("error", () => {});
  socket.write(frame(FRAME.settings, 0, 0));
  let held = Buffer.alloc(0);
  socket.on("data", (b) => {
    held = Buffer.concat([held, b]);
    for (let at = 24; at + 9 <= held.length; at += 9 + held.readUIntBE(at, 3))
      if (held[at + 3] === FRAME.headers) socket.end(frame(FRAME.goaway, 0, 0, INTERNAL_ERROR));
  });
}

beforeAll(async () => {
  origin = tls.createServer({ ...testCa.leaf("127.0.0.1"), ALPNProtocols: ["h2"] }, rude);
  await new Promise<void>((done) => origin.listen(0, "127.0.0.1", done));
  house = await startTestHouse({
    roots: testCa.cert,
    policy: "defaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n",
  });
});
afterAll(async () => {
  await house.close();
  origin.close();
});

/** How many there are after a full garbage collection: waits until they are few, since the last may be about to end. */
async function left(made: typeof H2ClientSession | typeof H2OriginSession): Promise<number> {
  for (const end = Date.now() + PATIENCE; ; await wait(200)) {
    const count = v8.queryObjects(made, { format: "count" }) as number;
    if (count <= 2 || Date.now() > end) return count;
  }
}

test("with origins", async () => {
  for (let i = 0; i < SESSIONS; i++) {
    const session = await sessionThrough(house.port, here(), house.ca);
    const answer = await ask(session, { ":path": "/" });
    expect(answer.status).toBe(502);
    session.destroy();
  }
  expect(await left(H2OriginSession)).toBeLessThanOrEqual(2);
});

test("with clients", async () => {
  for (let i = 0; i < SESSIONS; i++) {
    const client = await tlsThrough(house.port, here(), { ca: house.ca, alpn: ["h2"] });
    client.send(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0), frame(FRAME.headers, 5, 1, head())]));
    await client.until((text) => text.length > 0);
    client.send(frame(FRAME.goaway, 0, 0, INTERNAL_ERROR));
    client.socket.end();
    await client.closed();
  }
  expect(await left(H2ClientSession)).toBeLessThanOrEqual(2);
});

test("with clients that waited together for a session with an origin that lives on", async () => {
  const modern = await startH2Origin((stream, seen) => {
    if (seen.headers[":path"] === "/stays") return stream.respond({ ":status": 200 });
    stream.respond({ ":status": 200 });
    stream.end("hello");
  }, testCa.leaf("127.0.0.1"));
  const there = `127.0.0.1:${modern.port}`;
  const sessions = await Promise.all(
    Array.from({ length: SESSIONS }, () => sessionThrough(house.port, there, house.ca)),
  );
  const stays = (sessions[0] as ClientHttp2Session).request({ ":path": "/stays" }).on("error", () => {});
  const answers = await Promise.all(sessions.map((session) => ask(session, { ":path": "/" })));
  expect(answers.map(({ status }) => status)).toEqual(Array(SESSIONS).fill(200));
  expect(modern.sessions).toHaveLength(1);
  for (const session of sessions.slice(1)) session.destroy();
  expect(await left(H2ClientSession)).toBeLessThanOrEqual(2);
  expect(stays.closed).toBe(false);
  sessions[0]?.destroy();
  await modern.close();
});
