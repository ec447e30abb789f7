// Bytes that turn into line breaks when a text is cut to one byte a character: between HTTP/2, which allows them, and
// HTTP/1.1, where they would begin a field, a response or a request of the attacker's.
import http2 from "node:http2";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { tlsThrough } from "../support/raw-client.ts";

const ca = new TestCa();
/** U+010D U+010A in UTF-8, as the one-byte text that node:http2 sends as it is: cut to its low bytes it is CR LF. */
const HIDDEN = Buffer.from("\u010d\u010a").toString("latin1");
const PAYLOADS = [HIDDEN, `\u0085`, "\u00e4\u00ff"].map(
  (bytes) => `a${bytes}x-injected: 1${bytes}${bytes}GET /smuggled HTTP/1.1`,
);

let plain: RawOrigin;
let secure: RawOrigin;
let evil: http2.Http2SecureServer;
let house: TestHouse;
beforeAll(async () => {
  plain = await startRawOrigin(origins.text("ok"));
  secure = await startRawOrigin(origins.text("ok"), { tls: ca.leaf("127.0.0.1") });
  evil = http2.createSecureServer(ca.leaf("127.0.0.1"));
  evil.on("stream", (stream, headers) => {
    const value = PAYLOADS[Number(String(headers[":path"]).slice(1))] as string;
    stream.additionalHeaders({ ":status": 103, "x-evil": value });
    stream.respond({ ":status": 200, "x-evil": value, "content-type": value }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-evil": value }));
    stream.end("ok");
  });
  await new Promise<void>((done) => evil.listen(0, "127.0.0.1", done));
  house = await startTestHouse({ roots: ca.cert });
});
afterAll(async () => {
  await house.close();
  evil.close();
  await plain.close();
  await secure.close();
});

describe.each(PAYLOADS.map((payload, i) => [i, payload] as const))("payload %i", (i, payload) => {
  test("a client of HTTP/2 cannot smuggle a line to an origin of HTTP/1.1", async () => {
    const authority = `127.0.0.1:${secure.port}`;
    const outer = await tlsThrough(house.port, authority, { ca: house.ca, alpn: ["h2"] });
    outer.socket.removeAllListeners("data");
    const session = http2.connect(`https://${authority}`, { createConnection: () => outer.socket });
    session.on("error", () => {});
    await new Promise<void>((done) => {
      const stream = session.request({ ":path": `/${i}`, "x-evil": payload, cookie: payload });
      stream.on("error", () => {});
      stream.on("close", () => done());
      stream.resume();
      stream.end();
    });
    session.destroy();
    expect(secure.text()).toContain(`GET /${i} HTTP/1.1`);
    expect(secure.text()).not.toMatch(/\r\nx-injected|\nx-injected|\rx-injected|\nGET \/smuggled/);
  });

  test("an origin of HTTP/2 cannot split the response of a client of HTTP/1.1", async () => {
    const authority = `127.0.0.1:${(evil.address() as { port: number }).port}`;
    const client = await tlsThrough(house.port, authority, { ca: house.ca, alpn: ["http/1.1"] });
    client.send(`GET /${i} HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
    await client.closed();
    expect(client.text).toContain("HTTP/1.1 200");
    expect(client.text).not.toMatch(/[\r\n]x-injected|[\r\n]GET \/smuggled/);
    client.destroy();
  });
});
