// What a WebSocket held is free soon after its end: a house that serves many short ones keeps none of them.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { startTestHouse } from "../support/house.ts";
import { startWsOrigin, wsClient } from "../support/web-socket.ts";

const COUNT = 20;

test("connections of WebSockets that ended in order are free within seconds", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const house = await startTestHouse();
  const origin = await startWsOrigin();
  const held: WeakRef<Socket>[] = [];
  const opened = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    if (socket.localPort === house.port) held.push(new WeakRef(socket));
  };
  subscribe("net.server.socket", opened);
  for (let i = 0; i < COUNT; i++) {
    const client = await wsClient("plain ws", house, origin.port);
    client.socket.send("hello");
    await client.until(1);
    client.socket.close(1000);
    expect((await client.closed).code).toBe(1000);
  }
  unsubscribe("net.server.socket", opened);
  expect(held).toHaveLength(COUNT);
  const left = (): number => {
    collect();
    return held.filter((socket) => socket.deref() !== undefined).length;
  };
  // The last one may still be on a stack.
  await expect.poll(left, { timeout: 15_000, interval: 250 }).toBeLessThanOrEqual(2);
  await origin.close();
  await house.close();
});
