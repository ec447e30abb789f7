import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { dial } from "../../../src/edge/proxy/dial.ts";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";
import { ProxyError } from "../../../src/shared/errors.ts";

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

/** Why dialling failed; "connected": it did not. */
async function outcome(port: number): Promise<string> {
  const addresses = [{ address: "127.0.0.1", family: 4 as const }];
  try {
    const socket = await dial({ addresses, port, timeout: 10_000, wheel, onread: null, tls: null }).socket;
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
