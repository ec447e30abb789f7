// What a request leaves behind on a connection that serves many of them: nothing.
import http from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { startEngine } from "../../support/engine.ts";

const POLICY = "version: 1\nnetwork: { allow: [127.0.0.0/8] }\ndefaults: { action: allow }\n";

const ask = (proxy: number, agent: http.Agent, url: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const request = http.request({
      host: "127.0.0.1",
      port: proxy,
      path: url,
      agent,
      headers: { host: new URL(url).host },
    });
    request.on("response", (response) => response.resume().on("end", () => resolve(response.statusCode ?? 0)));
    request.on("error", reject).end();
  });

test("three hundred requests on one connection take one origin connection, and leave no deadlines behind", async () => {
  const engine = await startEngine({ policy: POLICY });
  let connections = 0;
  const origin = http.createServer((_, response) => response.end("ok")).on("connection", () => connections++);
  await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const url = `http://127.0.0.1:${(origin.address() as AddressInfo).port}/`;
    for (let i = 0; i < 300; i++) expect(await ask(engine.port, agent, url)).toBe(200);
    expect(connections).toBe(1);
    expect(engine.wheel.entries).toBeLessThan(20);
  } finally {
    agent.destroy();
    origin.close().closeAllConnections();
    await engine.close();
  }
});
