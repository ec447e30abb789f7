// An address that is silent: a SYN to it is never answered, or only from some time on.
import { once } from "node:events";
import net, { type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { PATIENCE } from "./patience.ts";

export interface BlackHole {
  readonly port: number;
  /** From now on it accepts: what waits comes through when the system sends its SYN again. */
  accept(): void;
  close(): Promise<void>;
}

/** A port whose queue of connections is full. */
export async function blackHole(host = "127.0.0.1"): Promise<BlackHole> {
  const program = `
    const { parentPort, workerData } = require("node:worker_threads");
    const server = require("node:net").createServer((socket) => socket.on("error", () => {}));
    server.listen({ port: 0, host: workerData.host, backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      Atomics.wait(workerData.gate, 0, 0);
    });`;
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(program, { eval: true, workerData: { host, gate } });
  const [port] = (await once(worker, "message")) as [number];
  const fill: Socket[] = [];
  for (const end = Date.now() + PATIENCE; ; ) {
    const socket = net.connect({ port, host }).on("error", () => {});
    fill.push(socket);
    await wait(300);
    if (socket.connecting) break;
    if (Date.now() > end) throw new Error("the queue of connections does not fill");
  }
  return {
    port,
    accept: () => {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    },
    close: async () => {
      for (const socket of fill) socket.destroy();
      await worker.terminate();
    },
  };
}
