// A credential that was taken away: what is open since before it was says nothing any more.

import { writeFileSync } from "node:fs";
import http2 from "node:http2";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";
import { type RawConnection, tlsThrough, tunnelThrough } from "../support/raw-client.ts";

const ca = new TestCa();
const credential = (password: string): string =>
  `Proxy-Authorization: Basic ${Buffer.from(`agent:${password}`).toString("base64")}\r\n`;
const policy = (clients: string, server = ""): string => `${server}network: { allow: [127.0.0.0/8] }
defaults: { action: allow }
clients: ${clients}
`;
const BEFORE = "{ agent: { password: before-it } }";

let origin: HttpOrigin;
let secure: HttpOrigin;
let house: TestHouse;
beforeEach(async () => {
  const ok = (_request: unknown, response: { end(text: string): void }) => response.end("ok");
  origin = await startHttpOrigin(ok);
  secure = await startHttpOrigin(ok, ca.leaf("127.0.0.1"));
  house = await startTestHouse({ policy: policy(BEFORE), roots: ca.cert });
});
afterEach(async () => {
  await house.close();
  await origin.close();
  await secure.close();
});

const reload = async (text: string): Promise<void> => {
  writeFileSync(house.policyFile, `version: 1\ntls: { roots: [${house.dir}/roots.pem] }\n${text}`);
  await house.house.reload();
};
const get = async (client: RawConnection, port: number): Promise<number> => {
  client.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  return (await client.response()).status;
};

const CHANGES: [string, string, number][] = [
  ["nothing", policy(BEFORE), 200],
  ["another client", policy("{ agent: { password: before-it }, other: { password: other-one } }"), 200],
  ["its password", policy("{ agent: { password: after-it } }"), 407],
  ["its address", policy("{ agent: { password: before-it, addresses: [10.0.0.0/8] } }"), 407],
  ["its name", policy("{ agents: { password: before-it } }"), 407],
];
describe.each(CHANGES)("a reload that changes %s", (_what, after, status) => {
  test("an intercepted connection that was open", async () => {
    const client = await tlsThrough(house.port, `127.0.0.1:${secure.port}`, {
      ca: house.ca,
      fields: credential("before-it"),
    });
    expect(await get(client, secure.port)).toBe(200);
    await reload(after);
    expect(await get(client, secure.port)).toBe(status);
    if (status === 407) {
      expect(await client.closed()).toBe("end");
      const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.status === 407);
      expect(record).toMatchObject({ decision: "deny", reason: "wrong-credential" });
    }
    client.destroy();
  });

  test("clear text inside CONNECT", async () => {
    const client = await tunnelThrough(house.port, `127.0.0.1:${origin.port}`, credential("before-it"));
    expect(await get(client, origin.port)).toBe(200);
    await reload(after);
    expect(await get(client, origin.port)).toBe(status);
    client.destroy();
  });

  test("HTTP/2", async () => {
    const outer = await tlsThrough(house.port, `127.0.0.1:${secure.port}`, {
      ca: house.ca,
      fields: credential("before-it"),
      alpn: ["h2"],
    });
    outer.socket.removeAllListeners("data");
    const session = http2.connect(`https://127.0.0.1:${secure.port}`, { createConnection: () => outer.socket });
    const ask = () =>
      new Promise<number>((done, failed) => {
        const stream = session.request({ ":path": "/" });
        stream.on("response", (headers) => done(Number(headers[":status"])));
        stream.on("error", failed);
        stream.resume();
        stream.end();
      });
    expect(await ask()).toBe(200);
    await reload(after);
    expect(await ask()).toBe(status);
    session.destroy();
  });
});

test("who was anonymous is asked who he is once the policy wants to know", async () => {
  const client = await tlsThrough(house.port, `127.0.0.1:${secure.port}`, { ca: house.ca });
  expect(await get(client, secure.port)).toBe(200);
  await reload(policy(BEFORE, "server: { authentication: required }\n"));
  expect(await get(client, secure.port)).toBe(407);
  client.destroy();
});
