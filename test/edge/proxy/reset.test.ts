// A reset is seen as one, and TLS on top of it may be in the middle of anything: its handshake, a write, a read.
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endedInOrder } from "../../../src/edge/proxy/ending.ts";
import { resetConnection, resetUnder } from "../../../src/edge/proxy/reset.ts";
import { selfSigned } from "../../support/certificates.ts";

let secureContext: tls.SecureContext;
beforeAll(() => {
  secureContext = tls.createSecureContext(selfSigned("a.test"));
});
const servers: net.Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

async function portOf(accept: (raw: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (raw) => {
    raw.on("error", () => {});
    accept(raw);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

type Moment = (secured: tls.TLSSocket, act: () => void) => void;
const MOMENTS: [string, Moment][] = [
  ["inside the handshake's own callback", (secured, act) => secured.once("secure", act)],
  [
    "with a write under way",
    (secured, act) =>
      secured.once("secure", () => {
        secured.write(Buffer.alloc(4_000_000));
        setTimeout(act, 2);
      }),
  ],
  ["inside a read", (secured, act) => secured.once("data", act)],
  [
    "when its end is about to leave",
    (secured, act) =>
      secured.once("secure", () => {
        secured.end();
        process.nextTick(act);
      }),
  ],
];

test.each(MOMENTS)("TLS is broken off %s, and the process lives", async (_when, moment) => {
  let closed = 0;
  const port = await portOf((raw) => {
    raw.on("close", () => closed++);
    const secured = new tls.TLSSocket(raw, { isServer: true, secureContext });
    secured.on("error", () => {});
    secured.resume();
    moment(secured, () => resetUnder(raw, secured));
  });
  for (let i = 0; i < 20; i++) {
    const client = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
    client.on("error", () => {});
    client.once("secureConnect", () => client.write("x"));
    client.resume();
    await new Promise((resolve) => client.once("close", resolve));
    expect(client.destroyed).toBe(true);
    await expect.poll(() => closed, { timeout: 10_000 }).toBe(i + 1);
  }
});

test.each([
  ["before the end leaves", (act: () => void) => process.nextTick(act)],
  ["after it", (act: () => void) => setTimeout(act, 50)],
] as const)("a connection that is ended and reset %s is closed", async (_when, then) => {
  const port = await portOf((raw) => raw.resume());
  const errors: Error[] = [];
  const client = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  client.on("error", (error) => errors.push(error));
  await once(client, "connect");
  const closed = once(client, "close");
  client.end();
  then(() => resetConnection(client));
  await closed; // by the handle, once its descriptor is closed
  expect(errors).toEqual([]);
});

test.each([
  ["a FIN", "end", (raw: net.Socket) => raw.end("0123456789")],
  [
    "a reset right behind the bytes",
    "ECONNRESET",
    (raw: net.Socket) => raw.write("0123456789", () => resetConnection(raw)),
  ],
] as const)("the end of a connection by %s is told apart: %s", async (_how, expected, act) => {
  const port = await portOf((raw) => raw.once("data", () => act(raw)));
  const client = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  client.write("go");
  let bytes = "";
  client.on("data", (b: Buffer) => {
    bytes += b.toString();
  });
  const outcome = await new Promise((resolve) => {
    client.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    client.on("end", () => endedInOrder(client, () => resolve("end")));
  });
  expect([outcome, bytes]).toEqual([expected, "0123456789"]);
  client.destroy();
});
