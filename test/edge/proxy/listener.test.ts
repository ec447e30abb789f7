// TLS to the proxy itself: a handshake that fails has its record, one that stalls ends and counts, and resets are resets.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { selfSigned } from "../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../../support/origin.ts";
import { pause } from "../../support/pause.ts";
import { RawConnection } from "../../support/raw-client.ts";

let house: TestHouse;
let origin: RawOrigin;
const dir = mkdtempSync(join(tmpdir(), "sallyport-listener-"));
const proxy = selfSigned("proxy.test");

beforeAll(async () => {
  writeFileSync(join(dir, "cert.pem"), proxy.cert);
  writeFileSync(join(dir, "key.pem"), proxy.key);
  origin = await startRawOrigin(origins.text("hello"));
  house = await startTestHouse({
    policy: `server: { tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem }, header-timeout: 3s, connections-per-client: 3 }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
  rmSync(dir, { recursive: true });
});

const dial = (localAddress: string): net.Socket =>
  net.connect({ port: house.port, host: "127.0.0.1", localAddress }).on("error", () => {});

async function ask(localAddress: string): Promise<number> {
  const socket = tls.connect({ socket: dial(localAddress), ca: proxy.cert, servername: "proxy.test" });
  const client = new RawConnection(socket);
  client.send(`GET http://127.0.0.1:${origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`);
  const { status } = await client.response();
  client.destroy();
  return status;
}

test("a request is served", async () => {
  expect(await ask("127.0.0.2")).toBe(200);
});

test("an origin-form request is told to use https", async () => {
  const socket = tls.connect({ socket: dial("127.0.0.7"), ca: proxy.cert, servername: "proxy.test" });
  const client = new RawConnection(socket);
  client.send("GET / HTTP/1.1\r\nHost: proxy.test:8443\r\n\r\n");
  expect((await client.response()).content).toContain("such as https://proxy.test:8443,");
  client.destroy();
});

test("a handshake that fails is recorded; a connection that says nothing is not", async () => {
  dial("127.0.0.3").end("GET / HTTP/1.1\r\n\r\n");
  dial("127.0.0.4").end();
  const [record] = await house.recordsWhere((r) => r.address === "127.0.0.3");
  expect(record).toMatchObject({ kind: "connection", decision: "deny", reason: "client-tls-failed", status: null });
  expect(house.records().filter((r) => r.address === "127.0.0.4")).toEqual([]);
});

test("handshakes that stall count as connections, and end", async () => {
  const stalled = [1, 2, 3].map(() => dial("127.0.0.5"));
  for (const socket of stalled) socket.write(Buffer.from("16030100f0010000ec0303", "hex"));
  await pause(100);
  expect(await ask("127.0.0.5")).toBe(503);
  expect(await ask("127.0.0.6")).toBe(200);
  await expect.poll(() => stalled.every((socket) => socket.destroyed)).toBe(true);
  await expect.poll(() => ask("127.0.0.5")).toBe(200);
});
