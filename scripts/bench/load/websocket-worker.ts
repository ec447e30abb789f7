// Load of WebSocket messages: one message of 1 KiB goes, its echo comes, the next goes.
import { WebSocket } from "ws";
import { payload, SMALL_BYTES } from "../payload.ts";
import { openConnection, type Way } from "./connect.ts";
import type { Tally, Worker } from "./run.ts";

const ECHO_MS = 30_000;
const small = payload(SMALL_BYTES);

export class WebSocketWorker implements Worker {
  private readonly way: Way;
  private socket: WebSocket | null = null;
  private settle: ((error: Error | null) => void) | null = null;
  private watchdog: NodeJS.Timeout | null = null;

  constructor(way: Way) {
    this.way = way;
  }

  async open(): Promise<void> {
    const connection = await openConnection(this.way);
    const socket = new WebSocket(`wss://${this.way.authority}/echo`, {
      createConnection: () => connection as never,
      perMessageDeflate: false,
      handshakeTimeout: ECHO_MS,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    socket.on("error", (error) => this.settle?.(error));
    socket.on("close", () => this.settle?.(new Error("closed within an echo")));
    socket.on("message", (data: Buffer) => this.settle?.(small.equals(data) ? null : new Error("a wrong echo")));
    this.socket = socket;
  }

  async once(tally: Tally): Promise<void> {
    const started = performance.now();
    await new Promise<void>((resolve, reject) => {
      this.settle = (error) => {
        this.settle = null;
        if (error === null) resolve();
        else reject(error);
      };
      this.watchdog ??= setTimeout(() => this.settle?.(new Error(`no echo within ${ECHO_MS} ms`)), ECHO_MS);
      this.watchdog.refresh();
      this.socket?.send(small);
    });
    tally.add(small.length, started);
  }

  close(): void {
    if (this.watchdog !== null) clearTimeout(this.watchdog);
    this.socket?.terminate();
  }
}
