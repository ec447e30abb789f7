import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { type DialOptions, dial } from "../../../src/edge/proxy/dial.ts";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";
import { ProxyError } from "../../../src/shared/errors.ts";
import { blackHole } from "../../support/black-hole.ts";
import { TestCa } from "../../support/certificates.ts";
import { PATIENCE } from "../../support/patience.ts";

/** A port of another thread, whose connections are reset as soon as they stand. */
async function resettingPort(): Promise<number> {
  const program = `
    const { parentPort } = require("node:worker_threads");
    const server = require("node:net").createServer((socket) => socket.resetAndDestroy());
    server.listen(0, "127.0.0.1", 1024, () => parentPort.postMessage(server.address().port));`;
  const worker = new Worker(program, { eval: true });
  onTestFinished(() => void worker.terminate());
  const [port] = (await once(worker, "message")) as [number];
  return port;
}

const wheel = new TimerWheel((error) => {
  throw error;
});
afterAll(() => wheel.close());

/** Dials these addresses. */
function begin(addresses: readonly string[], port: number, options: Partial<DialOptions> = {}) {
  const checked = addresses.map((address) => ({ address, family: 4 as const }));
  return dial({ addresses: checked, port, timeout: 10_000, wheel, onread: null, tls: null, ...options });
}

/** Why dialling failed; "connected": it did not. */
async function outcome(port: number): Promise<string> {
  const dialling = begin(["127.0.0.1"], port);
  try {
    const socket = await dialling.socket;
    socket.on("error", () => {}).destroy();
    return "connected";
  } catch (error) {
    return error instanceof ProxyError ? error.reason : String(error);
  }
}

test("a connection that is reset before its address can be asked for is no prohibited address", async () => {
  const port = await resettingPort();
  const seen = new Map<string, number>();
  for (let round = 0; round < 150; round++)
    for (const reason of await Promise.all(Array.from({ length: 20 }, () => outcome(port))))
      seen.set(reason, (seen.get(reason) ?? 0) + 1);
  expect([...seen.keys()].filter((reason) => !["connected", "origin-unreachable"].includes(reason))).toEqual([]);
});

/** A silent port on 127.0.0.2. */
async function silent() {
  const hole = await blackHole("127.0.0.2");
  onTestFinished(() => hole.close());
  return hole;
}

/** A server on the same port of another address. */
async function beside(port: number, host: string, server: net.Server = net.createServer()): Promise<net.Server> {
  server.on("connection", (socket) => socket.on("error", () => {}));
  server.listen(port, host);
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return server;
}

/** Sockets of this thread, those that are still connecting too. */
const sockets = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap" || name === "TLSWrap").length;

/** Waits until there are no more sockets than that. */
async function only(count: number): Promise<number> {
  for (const end = Date.now() + PATIENCE; sockets() > count && Date.now() < end; ) await wait(20);
  return sockets();
}

describe("several addresses", () => {
  test("an address that is slow to answer goes on when the next one begins and fails", async () => {
    const hole = await silent();
    const began = Date.now();
    const dialling = begin(["127.0.0.2", "127.0.0.3"], hole.port);
    await wait(600);
    hole.accept();
    const socket = await dialling.socket;
    expect(socket.remoteAddress).toBe("127.0.0.2");
    expect(Date.now() - began).toBeGreaterThan(500);
    socket.destroy();
  });

  test("a silent address delays the next one by a moment only, and is let go", async () => {
    const hole = await silent();
    await beside(hole.port, "127.0.0.3");
    const before = sockets();
    const began = performance.now();
    const socket = await begin(["127.0.0.2", "127.0.0.3"], hole.port).socket;
    const took = performance.now() - began;
    expect(socket.remoteAddress).toBe("127.0.0.3");
    expect(took).toBeGreaterThan(240);
    expect(took).toBeLessThan(5_000);
    // Both ends of the one that won.
    expect(await only(before + 2)).toBe(before + 2);
    socket.destroy();
  });

  test("an address that refuses does not delay the next one", async () => {
    const port = ((await beside(0, "127.0.0.3")).address() as AddressInfo).port;
    const began = performance.now();
    const refusing = Array.from({ length: 12 }, (_, i) => `127.0.0.${i + 4}`);
    const socket = await begin([...refusing, "127.0.0.3"], port).socket;
    expect(performance.now() - began).toBeLessThan(2_500);
    expect(socket.remoteAddress).toBe("127.0.0.3");
    socket.destroy();
  });

  test("only the one that won begins TLS, and is read as it was told", async () => {
    const hole = await silent();
    const ca = new TestCa();
    const hellos = tls.createServer(ca.leaf("o.test"), (socket) => socket.write("hello"));
    await beside(hole.port, "127.0.0.3", hellos);
    const came: string[] = [];
    const buffer = Buffer.alloc(1_000);
    const callback = (n: number): boolean => came.push(buffer.toString("latin1", 0, n)) > 0;
    const options = { onread: { buffer, callback }, tls: { ca: ca.cert, servername: "o.test" } };
    const socket = await begin(["127.0.0.2", "127.0.0.3"], hole.port, options).socket;
    expect((socket as tls.TLSSocket).authorized).toBe(true);
    for (const end = Date.now() + PATIENCE; came.length === 0 && Date.now() < end; ) await wait(20);
    expect(came).toEqual(["hello"]);
    socket.destroy();
  });

  test("who gives up closes all of them, before one has won and after", async () => {
    const hole = await silent();
    const before = sockets();
    const dialling = begin(["127.0.0.2", "127.0.0.2"], hole.port);
    dialling.socket.catch(() => {});
    for (const end = Date.now() + PATIENCE; sockets() < before + 2 && Date.now() < end; ) await wait(20);
    dialling.abandon();
    await expect(dialling.socket).rejects.toThrow(ProxyError);
    expect(await only(before)).toBe(before);

    await beside(hole.port, "127.0.0.3");
    const listening = sockets();
    const won = begin(["127.0.0.3", "127.0.0.2"], hole.port);
    await won.socket;
    won.abandon();
    expect((await won.socket).destroyed).toBe(true);
    expect(await only(listening + 1)).toBeLessThanOrEqual(listening + 1);
  });

  test.each([
    ["refused and out of reach", ["127.0.0.4", "255.255.255.255"], "origin-refused"],
    ["out of reach and refused", ["255.255.255.255", "127.0.0.4"], "origin-refused"],
    ["out of reach, all of them", ["255.255.255.255", "255.255.255.255"], "origin-unreachable"],
  ])("the error of those that fail is the most telling one: %s", async (_name, addresses, reason) => {
    await expect(begin(addresses, 1).socket).rejects.toMatchObject({ reason });
  });

  test("there is one deadline for all of them", async () => {
    const hole = await silent();
    const before = sockets();
    const began = performance.now();
    const dialling = begin(["127.0.0.2", "127.0.0.4", "127.0.0.2", "127.0.0.2"], hole.port, { timeout: 1_000 });
    await expect(dialling.socket).rejects.toMatchObject({ reason: "origin-connect-timeout" });
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await only(before)).toBe(before);
  });
});
