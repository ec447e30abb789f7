// A client that opens connections and says nothing: the limit holds without a word from it.
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { OPEN_POLICY, startTestHouse } from "../support/house.ts";

test("silent connections of one client stay near the limit, and another client is served", async () => {
  const house = await startTestHouse({ policy: `server: { connections-per-client: 5 }\n${OPEN_POLICY}` });
  const sockets = Array.from({ length: 200 }, () => {
    const socket = net.connect({ port: house.port, host: "127.0.0.1" });
    socket.on("error", () => {});
    socket.resume();
    return socket;
  });
  try {
    const open = (): number => sockets.filter((socket) => !socket.destroyed).length;
    await expect.poll(open).toBeLessThanOrEqual(37);
    await wait(300);
    expect(open()).toBeGreaterThanOrEqual(5); // those within the limit are not touched
    const other = net.connect({ port: house.port, host: "127.0.0.1", localAddress: "127.0.0.3" });
    const answered = new Promise<string>((done) => other.once("data", (b: Buffer) => done(b.toString())));
    other.write("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
    expect(await answered).toMatch(/^HTTP\/1\.1 502 /);
    other.destroy();
  } finally {
    for (const socket of sockets) socket.destroy();
    await house.close();
  }
});
