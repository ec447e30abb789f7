// A token that ends while what it opened is still open; and the key set that tokens are checked with.
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import type http from "node:http";
import http2 from "node:http2";

import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type House, startHouse } from "../../src/roles/house.ts";
import { TestCa } from "../support/certificates.ts";
import { freePort } from "../support/free-port.ts";
import { startTestHouse, TestHouse } from "../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";
import { type RawConnection, tlsThrough, tunnelThrough } from "../support/raw-client.ts";

const SECRET = "a secret of more than thirty-two bytes";
const ca = new TestCa();
/** A token whose time is up in `seconds` (and up to one more): five of tolerance are in it. */
async function tokenFor(seconds: number): Promise<string> {
  const exp = Math.ceil(Date.now() / 1000) + seconds - 5;
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime(exp)
    .sign(Buffer.from(SECRET));
  return `Proxy-Authorization: Bearer ${token}\r\n`;
}
const LIFE = 5;
const untilOver = (): Promise<void> => wait(LIFE * 1_000 + 1_100);

let origin: HttpOrigin;
let secure: HttpOrigin;
let house: TestHouse;
beforeAll(async () => {
  const ok = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    if (request.url !== "/slow") return void response.end("ok");
    response.write("begin,");
    setTimeout(() => response.end("end"), LIFE * 1_000 + 2_000);
  };
  origin = await startHttpOrigin(ok);
  secure = await startHttpOrigin(ok, ca.leaf("127.0.0.1"));
  house = await startTestHouse({
    roots: ca.cert,
    policy: `network: { allow: [127.0.0.0/8] }
defaults: { action: allow }
clients: { bot: { bearer: { secret: "${SECRET}" } } }
rules:
  - { id: blind, allow: ["https://localhost:${secure.port}"], tunnel: { reason: test, without-sni: allow } }
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
  await secure.close();
});

const ask = async (client: RawConnection, port: number, path = "/"): Promise<number> => {
  client.send(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  return (await client.response()).status;
};

describe.concurrent("a token that ends while its CONNECT is open", () => {
  test.each<["intercepted" | "clear text"]>([["intercepted"], ["clear text"]])(
    "%s: the next request is refused, and the connection ends",
    async (way) => {
      const fields = await tokenFor(LIFE);
      const { port } = way === "intercepted" ? secure : origin;
      const client =
        way === "intercepted"
          ? await tlsThrough(house.port, `127.0.0.1:${port}`, { ca: house.ca, fields })
          : await tunnelThrough(house.port, `127.0.0.1:${port}`, fields);
      expect(await ask(client, port)).toBe(200);
      expect(await ask(client, port)).toBe(200);
      await untilOver();
      expect(await ask(client, port, `/late-${way.slice(0, 5)}`)).toBe(407);
      expect(await client.closed()).toBe("end");
      const [record] = await house.recordsWhere((r) => r.path === `/late-${way.slice(0, 5)}`);
      expect(record).toMatchObject({ kind: "exchange", decision: "deny", reason: "wrong-credential", status: 407 });
      expect(record?.origin).toBeNull();
    },
  );

  test("HTTP/2: the next stream is refused, those that are open finish, and the session ends", async () => {
    const fields = await tokenFor(LIFE);
    const outer = await tlsThrough(house.port, `127.0.0.1:${secure.port}`, { ca: house.ca, fields, alpn: ["h2"] });
    outer.socket.removeAllListeners("data");
    const session = http2.connect(`https://127.0.0.1:${secure.port}`, { createConnection: () => outer.socket });
    const over = new Promise((done) => session.once("close", done));
    const get = (path: string) =>
      new Promise<{ status: number; text: string }>((done, failed) => {
        const stream = session.request({ ":path": path });
        let [status, text] = [0, ""];
        stream.on("response", (headers) => {
          status = Number(headers[":status"]);
        });
        stream.on("data", (b: Buffer) => {
          text += b.toString();
        });
        stream.on("end", () => done({ status, text })).on("error", failed);
        stream.end();
      });
    expect(await get("/")).toEqual({ status: 200, text: "ok" });
    const slow = get("/slow");
    await untilOver();
    expect((await get("/late-h2")).status).toBe(407);
    expect(await slow).toEqual({ status: 200, text: "begin,end" });
    await over;
  });

  test("a blind tunnel goes on: nobody could tell its client why it ended", async () => {
    const fields = await tokenFor(LIFE);
    const client = await tlsThrough(house.port, `localhost:${secure.port}`, {
      ca: ca.cert,
      fields,
      servername: "",
      tls: { checkServerIdentity: () => undefined },
    });
    expect(await ask(client, secure.port)).toBe(200);
    await untilOver();
    expect(await ask(client, secure.port)).toBe(200);
    client.destroy();
  });

  test("a new CONNECT with it is refused", async () => {
    const fields = await tokenFor(LIFE);
    const client = await tunnelThrough(house.port, `127.0.0.1:${origin.port}`, fields);
    expect(await ask(client, origin.port)).toBe(200);
    client.destroy();
    await untilOver();
    await expect(tunnelThrough(house.port, `127.0.0.1:${origin.port}`, fields)).rejects.toThrow(/407/);
  });
});

describe("a key set", () => {
  const keys = generateKeyPairSync("ed25519");
  const jwks = JSON.stringify({ keys: [{ ...keys.publicKey.export({ format: "jwk" }), kid: "a" }] });

  async function start(url: string, listen: number): Promise<TestHouse> {
    const dir = mkdtempSync(join(tmpdir(), "sallyport-keys-"));
    writeFileSync(
      join(dir, "policy.yaml"),
      `version: 1
network: { allow: [127.0.0.0/8] }
defaults: { action: allow }
clients: { bot: { bearer: { jwks: "${url}" } } }
`,
    );
    const own: House = await startHouse({
      configFiles: [join(dir, "policy.yaml")],
      flags: {
        listen: `127.0.0.1:${listen}`,
        admin: "127.0.0.1:0",
        data: join(dir, "data"),
        ca: join(dir, "ca"),
        logLevel: "error",
      },
      env: process.env,
    });
    return new TestHouse(dir, own);
  }
  const signed = async (): Promise<string> => {
    const exp = Math.floor(Date.now() / 1000) + 60;
    const token = new SignJWT({}).setProtectedHeader({ alg: "EdDSA", kid: "a" }).setExpirationTime(exp);
    return `Proxy-Authorization: Bearer ${await token.sign(keys.privateKey)}\r\n`;
  };

  test.each<[string, (port: number) => string]>([
    ["the proxy's own port, by address", (port) => `http://127.0.0.1:${port}/jwks`],
    ["the proxy's own port, by name", (port) => `http://localhost:${port}/jwks`],
    ["the proxy's own port, in another spelling", (port) => `http://0x7f000001:${port}/jwks`],
  ])("is never asked for at %s", async (_name, urlOf) => {
    const port = await freePort();
    const own = await start(urlOf(port), port);
    await expect(tunnelThrough(own.port, `127.0.0.1:${origin.port}`, await signed())).rejects.toThrow(/407/);
    // A request of our own would have a record as well.
    expect(await own.recordsWhere(() => true)).toMatchObject([{ kind: "connect", reason: "wrong-credential" }]);
    await own.close();
  });

  test("is asked for at another port of this machine, where the policy opens it", async () => {
    let asked = 0;
    const issuer = await startHttpOrigin((_request, response) => {
      asked++;
      response.end(jwks);
    });
    const own = await start(`http://127.0.0.1:${issuer.port}/jwks`, 0);
    const client = await tunnelThrough(own.port, `127.0.0.1:${origin.port}`, await signed());
    expect(await ask(client, origin.port)).toBe(200);
    expect(asked).toBe(1);
    client.destroy();
    await own.close();
    await issuer.close();
  });
});
