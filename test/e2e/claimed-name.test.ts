// CONNECT to an address with a name in SNI (pitfalls B5): the client put the two together, so nothing that the policy says of the name
// alone is for whoever answers at the address.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, expect, test } from "vitest";
import { selfSigned, TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { type RawResponse, tlsThrough } from "../support/raw-client.ts";

const closing: (() => unknown)[] = [];
afterAll(async () => {
  for (const close of closing.reverse()) await close();
});

async function house(policy: string, ca?: TestCa): Promise<TestHouse> {
  const made = await startTestHouse({
    policy: `network: { allow: [127.0.0.0/8] }\n${policy}`,
    ...(ca === undefined ? {} : { roots: ca.cert }),
    env: { TOKEN: "s3cr3t-t0ken-9" },
  });
  closing.push(() => made.close());
  return made;
}
async function origin(options: tls.TlsOptions): Promise<RawOrigin> {
  const made = await startRawOrigin(origins.text("ok"), { tls: options });
  closing.push(() => made.close());
  return made;
}
async function ask(to: TestHouse, port: number, name: string): Promise<RawResponse> {
  return (await askAll(to, port, name, "/"))[0] as RawResponse;
}
/** On one connection. */
async function askAll(to: TestHouse, port: number, name: string, ...paths: string[]): Promise<RawResponse[]> {
  const client = await tlsThrough(to.port, `127.0.0.1:${port}`, { ca: to.ca, servername: name });
  const responses: RawResponse[] = [];
  for (const path of paths)
    responses.push(await client.send(`GET ${path} HTTP/1.1\r\nHost: ${name}:${port}\r\n\r\n`).response());
  client.destroy();
  return responses;
}

test("an exception for the name does not excuse the address, which gets no secret", async () => {
  const attacker = await origin(selfSigned("old.test"));
  const { port } = attacker;
  const proxy = await house(`secrets: { token: { env: TOKEN } }
tls: { exceptions: [{ host: old.test, allow: [self-signed], reason: an appliance, until: 2099-01-01 }] }
rules:
  - { id: old, allow: ["https://old.test:${port}"], headers: { set: { authorization: "Bearer \${secret:token}" } } }
  - { id: address, allow: ["https://127.0.0.1:${port}"] }
`);
  const response = await ask(proxy, port, "old.test");
  expect([response.status, JSON.parse(response.content).error]).toEqual([502, "origin-certificate"]);
  expect(attacker.text()).toBe("");
});

test("our certificate for the name is not shown to the address", async () => {
  const ca = new TestCa();
  const leaf = ca.leaf("named.test");
  const shown: unknown[] = [];
  const server = tls.createServer({ ...leaf, requestCert: true, rejectUnauthorized: false }, (socket) => {
    shown.push(socket.getPeerCertificate().subject);
    socket.on("error", () => {}).once("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const ours = selfSigned("us.test");
  const dir = mkdtempSync(join(tmpdir(), "claimed-"));
  closing.push(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "cert.pem"), ours.cert);
  writeFileSync(join(dir, "key.pem"), ours.key, { mode: 0o600 });
  writeFileSync(join(dir, "roots.pem"), ca.cert);
  const proxy = await house(`tls:
  roots: [${dir}/roots.pem]
  client-certificates: [{ host: named.test, cert: ${dir}/cert.pem, key: ${dir}/key.pem }]
defaults: { action: allow }
`);
  expect((await ask(proxy, port, "named.test")).status).toBe(200);
  expect(shown).toEqual([undefined]);
});

test("where a rule sends the request elsewhere, that server has its own name", async () => {
  const ca = new TestCa();
  const elsewhere = await origin(ca.leaf("127.0.0.1"));
  const proxy = await house(
    `rules: [{ id: r, allow: ["https://front.test:4443", "https://127.0.0.1:4443"], to: "https://127.0.0.1:${elsewhere.port}" }]\n`,
    ca,
  );
  expect((await ask(proxy, 4443, "front.test")).status).toBe(200);
});

test("a connection that was verified for the address does not serve what is for the name", async () => {
  const ca = new TestCa();
  const { port } = await origin(ca.leaf("127.0.0.1"));
  const proxy = await house(
    `rules:
  - { id: moved, allow: ["https://front.test:${port}/moved", "https://127.0.0.1:${port}/moved"], to: "https://127.0.0.1:${port}" }
  - { id: rest, allow: ["https://front.test:${port}/**", "https://127.0.0.1:${port}/**"] }
`,
    ca,
  );
  const responses = await askAll(proxy, port, "front.test", "/moved", "/rest");
  expect(responses.map(({ status }) => status)).toEqual([200, 502]);
});
