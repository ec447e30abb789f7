// What a request leaves behind on a connection that serves many of them: nothing.
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import type { Turns, Work } from "../../../src/exchange/turns.ts";
import { TestCa } from "../../support/certificates.ts";
import { startEngine } from "../../support/engine.ts";
import { startTestHouse } from "../../support/house.ts";
import { startRawOrigin } from "../../support/origin.ts";
import { connectTo, tlsThrough } from "../../support/raw-client.ts";

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

test("an exchange that fails while its response is still searched leaves alone who has its connection by then", async () => {
  const waiting: Work[] = [];
  const turns: Turns = { take: (work) => void waiting.push(work) };
  const origin = await startRawOrigin(async ({ socket }, request) => {
    if (request === 1) await wait(500);
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  });
  const rule = `{ id: r, allow: "http://127.0.0.1:${origin.port}/**", content: [{ block: { text: absent } }] }`;
  const engine = await startEngine({
    policy: `version: 1\nnetwork: { allow: [127.0.0.0/8] }\nrules: [${rule}]\n`,
    turns,
  });
  const url = `http://127.0.0.1:${origin.port}/`;
  const ask = `GET ${url} HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`;
  const [first, second] = [await connectTo(engine.port), await connectTo(engine.port)];
  try {
    first.send(ask);
    while (waiting.length === 0) await wait(5);
    second.send(ask);
    await origin.until((text) => text.split("\r\n\r\n").length === 3);
    first.socket.resetAndDestroy();
    while (waiting.length < 2) await wait(5);
    for (const work of waiting) while (work.step());
    expect((await second.response()).content).toBe("hello");
    expect(origin.conversations).toHaveLength(1);
  } finally {
    second.destroy();
    await origin.close();
    await engine.close();
  }
});

test("what an origin sends between two requests is the answer to neither", async () => {
  const engine = await startEngine({ policy: POLICY });
  const origin = await startRawOrigin(({ socket, bytes }) => {
    const { length } = bytes.toString("latin1").split("\r\n\r\n");
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal`);
    expect(length).toBe(2); // each connection serves one request here
  });
  const client = await connectTo(engine.port);
  const ask = `GET http://127.0.0.1:${origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`;
  try {
    expect((await client.send(ask).response()).content).toBe("real");
    for (let i = 0; i < 20; i++) {
      // Both are there when the proxy looks: the request first, for which no byte has left when it sees what the origin sent.
      client.send(ask);
      origin.conversations.at(-1)?.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
      expect((await client.response()).content).toBe("real");
    }
    // Nothing was asked twice, then: what went to another connection had not left.
    expect(engine.sink.records.flatMap(({ notes }) => notes)).toEqual([]);
  } finally {
    client.destroy();
    await engine.close();
    await origin.close();
  }
});

describe("a request that a kept connection took with it", () => {
  test.each([
    ["GET", "", 200, "again", ["retried:stale"]],
    ["GET", "hello", 502, "", []],
    ["POST", "", 502, "", []],
  ] as const)("%s with content of %j", async (method, content, status, answer, notes) => {
    const house = await startTestHouse();
    const asked: string[] = [];
    const origin = await startRawOrigin(({ socket, bytes }) => {
      const [head = "", body = ""] = bytes.toString("latin1").split("\r\n\r\n").slice(-2);
      if (head.includes("/second") && body === content && asked.push(head) === 1) return void socket.destroy();
      if (head.includes("/second")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    });
    const host = `127.0.0.1:${origin.port}`;
    const client = await connectTo(house.port);
    const ask = (verb: string, path: string, text: string) =>
      client
        .send(
          `${verb} http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
        )
        .response();
    expect((await ask("GET", "/first", "")).content).toBe("first");
    const response = await ask(method, "/second", content);
    expect(response.status).toBe(status);
    if (answer !== "") expect(response.content).toBe(answer);
    const [record] = await house.recordsWhere((r) => r.path === "/second");
    expect(record?.notes).toEqual(notes);
    expect(asked).toHaveLength(status === 200 ? 2 : 1);
    client.destroy();
    await house.close();
    await origin.close();
  });
});

/** Answers each request at once, from a thread of its own: an answer can be there before the proxy's next turn. */
const PROMPT_ORIGIN = `
  const { parentPort, workerData } = require("node:worker_threads");
  let connections = 0;
  const server = require("node:tls").createServer(workerData, (socket) => {
    connections++;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      for (const _ of bytes.toString("latin1").match(/\\r\\n\\r\\n/g) ?? [])
        socket.write("HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok");
    });
  });
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
  parentPort.on("message", () => parentPort.postMessage(connections));
`;

test("sixteen clients that ask without a pause inside TLS keep their origin connections", async () => {
  const testCa = new TestCa();
  const origin = new Worker(PROMPT_ORIGIN, { eval: true, workerData: testCa.leaf("localhost") });
  const listens = once(origin, "message");
  const house = await startTestHouse({ roots: testCa.cert });
  try {
    const [port] = await listens;
    const asking = Array.from({ length: 16 }, async () => {
      const client = await tlsThrough(house.port, `localhost:${port}`, { ca: house.ca });
      for (let i = 0; i < 50; i++) {
        const { status } = await client.send(`GET /${i} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`).response();
        expect(status).toBe(200);
      }
      client.destroy();
    });
    await Promise.all(asking);
    origin.postMessage("how many?");
    const [connections] = await once(origin, "message");
    // One for each, and now and then another where an answer came before its request was known to have left.
    expect(connections).toBeLessThan(80);
  } finally {
    await origin.terminate();
    await house.close();
  }
});
