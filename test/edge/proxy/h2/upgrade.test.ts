// An origin that chooses HTTP/2 whenever it is offered, and a client of HTTP/1.1 that asks for a WebSocket after other things:
// the session that is open already cannot carry an upgrade.
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse } from "../../../support/house.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { echo, wsClient } from "../../../support/web-socket.ts";

test("a WebSocket gets a connection of its own, and the session goes on", async () => {
  const ca = new TestCa();
  const house = await startTestHouse({ roots: ca.cert });
  const server = http2.createSecureServer({ ...ca.leaf("localhost"), allowHTTP1: true }, (_, response) => {
    response.end("content");
  });
  const webSockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => webSockets.handleUpgrade(request, socket, head, echo));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const get = async (path: string): Promise<void> => {
    const client = await tlsThrough(house.port, `localhost:${port}`, { ca: house.ca });
    client.send(`GET ${path} HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\n\r\n`);
    expect(await client.until((text) => text.includes("content"))).toContain("HTTP/1.1 200 ");
  };
  await get("/before");
  const { socket, until, closed } = await wsClient("intercepted wss", house, port, "/ws");
  socket.send("text");
  expect((await until(1))[0]?.data.toString()).toBe("text");
  await get("/after");
  socket.close(1000);
  expect((await closed).code).toBe(1000);
  const exchanges = await house.recordsWhere((r) => r.kind === "exchange", 3);
  expect(exchanges.map((r) => [r.path, r.status, r.clientProtocol, r.originProtocol])).toEqual([
    ["/before", 200, "1.1", "2"],
    ["/ws", 101, "1.1", "1.1"],
    ["/after", 200, "1.1", "2"],
  ]);
  await house.recordsWhere((r) => r.kind === "upgrade");
  await house.close();
  webSockets.close();
  server.close();
});
