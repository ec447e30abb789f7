// A house that drains while a tunnel is being dialled, and a client that has left by then: each has its record, and the
// house does not wait for the dial.
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { pause } from "../support/pause.ts";
import { blackHole, type Client, type Rig, startRig } from "./rig.ts";

let hole: Awaited<ReturnType<typeof blackHole>>;
let rig: Rig;
const clients: Client[] = [];

beforeAll(async () => {
  hole = await blackHole();
});
afterAll(() => hole.close());
beforeEach(async () => {
  rig = await startRig({
    policy: `server: { opaque: tunnel }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: ["blind.test:${hole.port}", "late-blind.test:${hole.port}"], tunnel: { reason: test } }
`,
    dns: (name, type) => ({
      addresses: type === "A" ? ["127.0.0.1"] : [],
      ...(name.startsWith("late") ? { delay: 2_000 } : {}),
    }),
  });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await rig.close();
});

/** Whose address it is. */
let address = "";
const tunnels = () =>
  rig.house
    .records()
    .filter((r) => r.address === address && r.uninspected)
    .map((r) => [r.kind, r.reason, r.status]);

async function opaque(host: string): Promise<Client> {
  address = rig.newAddress();
  const client = await rig.connect(`${host}:${hole.port}`, address);
  clients.push(client);
  client.send("\x00\x01binary");
  await pause(200);
  return client;
}

/** How long the house takes to drain, in milliseconds. */
async function drained(): Promise<number> {
  const began = performance.now();
  await rig.house.house.drain();
  return performance.now() - began;
}

test.each(["o.test", "late.test"])("opaque bytes on their way to %s: the dial ends, and is recorded", async (host) => {
  const client = await opaque(host);
  expect(await drained()).toBeLessThan(5_000);
  expect(tunnels()).toEqual([["connect", "shutting-down", 200]]);
  expect(await client.closed()).not.toBe("open");
});

test("the client of opaque bytes has left, and the name that it wanted is still being asked for", async () => {
  const client = await opaque("late.test");
  client.reset();
  await pause(100);
  await drained();
  expect(tunnels()).toEqual([["connect", "client-gone", 200]]);
});

test("the client of a blind tunnel has left, and the name that it wanted is still being asked for", async () => {
  address = rig.newAddress();
  const client = await rig.open(address);
  client.send(`CONNECT late-blind.test:${hole.port} HTTP/1.1\r\nHost: late-blind.test\r\n\r\n`);
  for (const end = Date.now() + 5_000; rig.dns.questions.length === 0 && Date.now() < end; ) await wait(10);
  client.reset();
  if (!client.raw.destroyed) await once(client.raw, "close");
  await pause(100);
  await drained();
  expect(rig.house.records().map((r) => [r.kind, r.reason, r.status])).toEqual([["connect", "client-gone", null]]);
});
