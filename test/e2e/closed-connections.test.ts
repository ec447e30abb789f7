// What node:tls hangs on a connection outlives it until V8 marks its old generation. Nothing of ours may hang there with it.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";
import { PATIENCE } from "../support/patience.ts";
import { connectTo, tunnelThrough } from "../support/raw-client.ts";

let house: TestHouse;
let origin: HttpOrigin;
const accepted: Socket[] = [];
const remember = (message: unknown): void => {
  const { socket } = message as { socket: Socket };
  if (socket.localPort === house.port) accepted.push(socket);
};
beforeAll(async () => {
  house = await startTestHouse();
  origin = await startHttpOrigin((_request, response) => response.end("hello"));
  subscribe("net.server.socket", remember);
});
afterAll(async () => {
  unsubscribe("net.server.socket", remember);
  await origin.close();
  await house.close();
});

/** The kinds of things of ours that a socket's own properties lead to. */
const ours = (socket: Socket): string[] =>
  Reflect.ownKeys(socket)
    .map((key) => (socket as unknown as Record<PropertyKey, { constructor?: { name: string } } | null>)[key])
    .map((value) => value?.constructor?.name ?? "")
    .filter((name) => name === "ClientConnection");

const GET = (port: number): string => `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;

test("while it is open its owner hangs on it, and once it has closed nothing does", async () => {
  const client = await connectTo(house.port);
  client.send(`${GET(origin.port)}\r\n`);
  expect((await client.response()).content).toBe("hello");
  const [socket] = accepted.splice(0) as [Socket];
  expect(ours(socket)).toEqual(["ClientConnection"]);
  client.socket.destroy();
  await expect.poll(() => ours(socket), { timeout: PATIENCE }).toEqual([]);
});

test("once a connection is given to what is inside a CONNECT, its first owner is free", async () => {
  const client = await tunnelThrough(house.port, `127.0.0.1:${origin.port}`);
  const [socket] = accepted.splice(0) as [Socket];
  await expect.poll(() => ours(socket), { timeout: PATIENCE }).toEqual([]);
  expect(socket.destroyed).toBe(false);
  client.socket.destroy();
});
