// HTTP/2 in clear text that comes together with its CONNECT, over TLS to the proxy's port: Node's TLS takes one write at a time,
// and the process ended when the session wrote before the answer to CONNECT had left.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../../../support/origin.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { FRAME, frame, section } from "./support.ts";

const LARGE = 8_000_000;
const testCa = new TestCa();
const folder = mkdtempSync(join(tmpdir(), "sallyport-at-once-"));
let house: TestHouse;
let origin: H2Origin;
let large: HttpOrigin;

beforeAll(async () => {
  const { cert, key } = testCa.leaf("127.0.0.1");
  writeFileSync(join(folder, "cert.pem"), cert);
  writeFileSync(join(folder, "key.pem"), key, { mode: 0o600 });
  house = await startTestHouse({
    policy: `server: { header-timeout: 4s, tls: { cert: ${folder}/cert.pem, key: ${folder}/key.pem } }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
`,
  });
  origin = await startH2Origin(answering({}, "hello"), null);
  large = await startHttpOrigin((_request, response) => response.end(Buffer.alloc(LARGE)));
});
afterAll(async () => {
  await house.close();
  await origin.close();
  await large.close();
  rmSync(folder, { recursive: true });
});

const connectText = (): string => `CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`;
const beginning = (path: string): Buffer =>
  Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(FRAME.settings, 0, 0),
    frame(
      FRAME.headers,
      5,
      1,
      section([
        [":method", "GET"],
        [":scheme", "http"],
        [":authority", `127.0.0.1:${origin.port}`],
        [":path", path],
      ]),
    ),
  ]);

async function secured(): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port: house.port, host: "127.0.0.1", ca: testCa.cert });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

test("CONNECT, preface and request in one write are answered", async () => {
  for (let i = 0; i < 10; i++) {
    const socket = await secured();
    socket.write(Buffer.concat([Buffer.from(connectText()), beginning(`/${i}`)]));
    let got = "";
    socket.on("data", (bytes: Buffer) => {
      got += bytes.toString("latin1");
    });
    for (const end = Date.now() + 5_000; !got.includes("hello") && Date.now() < end; ) await wait(5);
    expect(got).toMatch(/^HTTP\/1\.1 200 .*hello/s);
    socket.destroy();
  }
  await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port, 10);
});

test("behind an answer that is not read yet it waits", async () => {
  const socket = await secured();
  const at = `127.0.0.1:${large.port}`;
  const first = `GET http://${at}/ HTTP/1.1\r\nHost: ${at}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(first + connectText()), beginning("/later")]));
  await wait(500);
  const pieces: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => pieces.push(bytes));
  const end = (): string => Buffer.concat(pieces.slice(-20)).toString("latin1");
  for (const until = Date.now() + 10_000; !end().includes("hello") && Date.now() < until; ) await wait(10);
  expect(Buffer.concat(pieces).length).toBeGreaterThan(LARGE);
  expect(end()).toContain("hello");
  socket.destroy();
});
