// Clients that read late: what was answered waits for them while they take some of it, nobody writes past it, and what has to be cut
// off is reset.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { selfSigned } from "../support/certificates.ts";
import { type Engine, startEngine } from "../support/engine.ts";
import { closeOf, connectOver, proxySession } from "../support/h2-proxy.ts";
import { startTestHouse } from "../support/house.ts";
import { startRawOrigin } from "../support/origin.ts";
import { blackHole, type Rig, startRig } from "./rig.ts";

const OPEN = "defaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n";
const dir = mkdtempSync(join(tmpdir(), "late-"));
afterAll(() => rmSync(dir, { recursive: true }));

let engine: Engine;
beforeAll(async () => {
  const leaf = selfSigned("proxy.test");
  writeFileSync(join(dir, "cert.pem"), leaf.cert);
  writeFileSync(join(dir, "key.pem"), leaf.key);
  engine = await startEngine({ policy: `version: 1\n${OPEN}` });
});
afterAll(() => engine.close());

// Over HTTP/2 a client takes as many bytes as it says, and the system holds none of the others.
const LITTLE = 100_000;
const AT_ONCE = 1_000;

/** Inside a CONNECT, a response that the client begins to read some time after it is recorded. */
async function readLate(patience: string, request: string, head: string, after: number) {
  const small = await startRawOrigin(({ socket }) => {
    socket.end(`HTTP/1.1 200 OK\r\n${head}\r\n${"z".repeat(LITTLE)}`);
  });
  const house = await startTestHouse({
    policy: `server: { tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true }, idle-timeout: ${patience} }\n${OPEN}`,
  });
  const session = await proxySession(house.port, { settings: { initialWindowSize: AT_ONCE } });
  const authority = `127.0.0.1:${small.port}`;
  const { stream } = await connectOver(session, authority);
  const ended = closeOf(stream);
  let bytes = 0;
  stream.write(request.replaceAll("HOST", authority));
  const [record] = await house.recordsWhere((r) => r.kind === "exchange");
  await wait(after);
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  const code = await ended;
  session.destroy();
  await Promise.all([house.close(), small.close()]);
  return { record, bytes, code };
}

test.each([
  ["of HTTP/1.0, content without a length", "GET / HTTP/1.0\r\nHost: HOST\r\n\r\n", "Connection: close\r\n"],
  [
    "that wants the connection closed",
    "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    `Content-Length: ${LITTLE}\r\n`,
  ],
])("a client %s, that pauses for longer than we linger, gets all of it", async (_, request, head) => {
  const { record, bytes, code } = await readLate("8s", request, head, 3_500);
  expect([record?.status, record?.received.complete, code]).toEqual([200, true, 0]);
  expect(bytes).toBeGreaterThan(LITTLE);
});

test("a client that takes nothing for the idle timeout is cut off so that its content cannot look complete", async () => {
  const { bytes, code } = await readLate("1s", "GET / HTTP/1.0\r\nHost: HOST\r\n\r\n", "Connection: close\r\n", 5_000);
  expect(bytes).toBeLessThan(LITTLE);
  expect(code).not.toBe(0);
});

test("what is asked for behind a response that is still being read comes behind it, a CONNECT too", async () => {
  const content = Buffer.alloc(8_000_000, "x");
  const origin = await startRawOrigin(({ socket, bytes }) => {
    const size = Number([...bytes.toString("latin1").matchAll(/GET \/(\d+)/g)].at(-1)?.[1]);
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
    socket.write(content.subarray(0, size));
  });
  const authority = `127.0.0.1:${origin.port}`;
  // Nobody knows how much the system holds of a connection: of some of these we hold the end.
  const sizes = Array.from({ length: 150 }, (_, i) => (i + 1) * 37_000);
  const ends = await Promise.all(
    sizes.map(async (size) => {
      const socket = net.connect({ port: engine.port, host: "127.0.0.1" }).pause();
      const get = `GET http://${authority}/${size} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
      socket.write(`${get}CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
      await wait(1_500);
      let end = "";
      let bytes = 0;
      for await (const chunk of socket) {
        bytes += chunk.length;
        end = (end + chunk.toString("latin1")).slice(-100);
        if (end.includes("Established\r\n\r\n")) break;
      }
      socket.destroy();
      return { end, missing: bytes < size };
    }),
  );
  for (const { end, missing } of ends) {
    expect(end).toMatch(/^x+HTTP\/1\.1 200 Connection Established\r\n\r\n$/);
    expect(missing).toBe(false);
  }
  await origin.close();
});

test.each([2_000, 200])(
  "a client that asks %i times, ends, and reads nothing is not asked for more, and gets it all when it reads",
  async (asked) => {
    const small = await startRawOrigin(({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n${"y".repeat(60_000)}`);
    });
    const client = net.connect({ port: engine.port, host: "127.0.0.1", allowHalfOpen: true }).pause();
    const authority = `127.0.0.1:${small.port}`;
    const ask = `GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
    client.end(ask.repeat(asked));
    const count = (): number => small.text().split("\r\n\r\n").length - 1;
    let answered = 0;
    for (let last = -1; answered !== last; answered = count()) {
      last = answered;
      await wait(1_500);
    }
    // What the system and two writes hold, and no more.
    expect(answered * 60_000).toBeLessThan(40e6);
    let bytes = 0;
    client.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    client.resume();
    while (bytes < asked * 60_000) await wait(50);
    client.destroy();
    await small.close();
  },
);

test("a tunnel is dialled as long as the connect timeout says, whatever the header timeout is", async () => {
  const hole = await blackHole();
  const rig: Rig = await startRig({
    policy: `server: { header-timeout: 1s, connect-timeout: 3s }
network: { allow: [127.0.0.0/8] }
rules: [{ id: t, allow: ["hole.test:${hole.port}"], tunnel: { reason: test } }]
`,
  });
  const client = await rig.open("127.79.5.1");
  client.send(`CONNECT hole.test:${hole.port} HTTP/1.1\r\nHost: x\r\n\r\n`);
  expect((await client.response()).status).toBe(504);
  const [record] = await rig.house.recordsWhere((r) => r.kind === "connect");
  expect(record?.reason).toBe("origin-connect-timeout");
  client.destroy();
  await rig.close();
  await hole.close();
});
