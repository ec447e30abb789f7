// The same bad streams through the running engine to a recording origin: whatever comes in, the origin gets whole, clear
// requests and nothing else, each decided and recorded; and the engine lives.
import { randomInt } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Engine, startEngine } from "../support/engine.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { connectTo } from "../support/raw-client.ts";
import { llhttpRequests } from "./llhttp-reading.ts";
import { readRequests } from "./our-reading.ts";
import { Random } from "./random.ts";
import { Streams } from "./streams.ts";

const STREAMS = 1500;
const AT_ONCE = 20;

let origin: RawOrigin;
let engine: Engine;
beforeAll(async () => {
  origin = await startRawOrigin(origins.text("ok"));
  engine = await startEngine({
    policy: "version: 1\ndefaults: { action: allow }\nnetwork: { allow: [127.0.0.1/32] }\n",
  });
});
afterAll(async () => {
  await engine?.close();
  await origin?.close();
});

/** Sends one stream and waits until the engine has closed the connection, or has said all it will. */
async function send(text: string): Promise<void> {
  const client = await connectTo(engine.port);
  client.send(text);
  client.socket.end();
  await client.closed(1500).catch(() => {});
  client.destroy();
}

test("a fixed and a random seed", { timeout: 180_000 }, async () => {
  const seed = Number(process.env.FUZZ_SEED ?? randomInt(2 ** 31));
  console.log(`engine fuzz: seeds 7 and ${seed}`);
  for (const random of [new Random(7), new Random(seed)]) {
    const streams = new Streams(random, `127.0.0.1:${origin.port}`);
    for (let done = 0; done < STREAMS; done += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, () => send(streams.requests())));
    }
  }
  // The engine lives and serves.
  const client = await connectTo(engine.port);
  client.send(`GET http://127.0.0.1:${origin.port}/last HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`);
  expect((await client.response()).content).toBe("ok");
  client.destroy();
  await checkOrigin();
  expect(engine.complaints).toEqual([]);
});

/** What the origin got is read alike by both parsers, without an error, and every request of it is on record as allowed. */
async function checkOrigin(): Promise<void> {
  const allowed = new Map<string, number>();
  for (const record of engine.sink.records) {
    // A body whose framing breaks after the head has gone out is recorded as refused, with the origin that saw its beginning.
    if (record.kind !== "exchange" || (record.decision !== "allow" && record.origin === null)) continue;
    const key = withoutQuery(`${record.method} ${record.path}`);
    allowed.set(key, (allowed.get(key) ?? 0) + 1);
  }
  const streams = origin.conversations.map((conversation) => conversation.bytes);
  const theirs = await llhttpRequests(streams);
  let requests = 0;
  streams.forEach((bytes, i) => {
    const ours = readRequests(bytes);
    expect(ours.status, bytes.toString("latin1")).not.toMatch(/^error/);
    expect(theirs[i]?.messages.map(shape), bytes.toString("latin1")).toEqual(ours.messages.map(shape));
    for (const { line } of ours.messages) {
      requests++;
      const key = withoutQuery(line.slice(0, line.lastIndexOf(" ")));
      allowed.set(key, (allowed.get(key) ?? 0) - 1);
    }
  });
  expect(requests).toBeGreaterThan(STREAMS / 2);
  expect([...allowed].filter(([, left]) => left < 0)).toEqual([]);
}

/** Values of a query are not on record. */
const withoutQuery = (text: string): string => text.split("?", 1)[0] as string;

const shape = ({ line, body, complete }: { line: string; body: string; complete: boolean }): object => ({
  line,
  body,
  complete,
});
