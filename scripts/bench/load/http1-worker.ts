// Load over HTTP/1.1: one request at a time on a connection that is kept, or on a new one each time.
import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { LARGE_BYTES, payload, SMALL_BYTES, sha256 } from "../payload.ts";
import { openConnection, type Way } from "./connect.ts";
import { ResponseReader } from "./response-reader.ts";
import type { Tally, Worker } from "./run.ts";

const EXCHANGE_MS = 60_000;
const SLICE = 256 * 1024;
const small = payload(SMALL_BYTES);
let large: { readonly bytes: Buffer; readonly digest: string } | null = null;

/** Made when first asked for: hashing 64 MiB is nothing that other loads should wait for. */
function largePayload(): { readonly bytes: Buffer; readonly digest: string } {
  if (large === null) {
    const bytes = payload(LARGE_BYTES);
    large = { bytes, digest: sha256(bytes) };
  }
  return large;
}

export class Http1Worker implements Worker {
  private readonly way: Way;
  private readonly head: string;
  private readonly reader = new ResponseReader();
  private socket: Socket | null = null;
  /** A response has come on this connection. */
  private kept = false;
  private settle: ((error: Error | null) => void) | null = null;
  private watchdog: NodeJS.Timeout | null = null;

  constructor(way: Way) {
    this.way = way;
    this.head = requestHead(way);
    if (way.job.content !== "small") largePayload();
  }

  async open(): Promise<void> {
    if (!this.way.job.fresh) this.use(await openConnection(this.way));
  }

  async once(tally: Tally): Promise<void> {
    const started = performance.now();
    if (this.socket === null) {
      if (!this.way.job.fresh) tally.reopened += 1;
      this.use(await openConnection(this.way));
    }
    tally.add(await this.exchangeAgain(tally), started);
    if (this.way.job.fresh || this.reader.closes) this.drop();
  }

  close(): void {
    this.drop();
    if (this.watchdog !== null) clearTimeout(this.watchdog);
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.end();
    socket?.destroySoon();
  }

  private use(socket: Socket): void {
    this.socket = socket;
    this.kept = false;
    socket.on("data", (chunk: Buffer) => {
      if (this.socket !== socket) return;
      try {
        if (this.settle === null) throw new Error("bytes that nobody asked for");
        if (this.reader.feed(chunk)) this.settle(null);
      } catch (error) {
        this.fail(error as Error);
      }
    });
    const closed = (error?: Error): void => {
      if (this.socket !== socket) return;
      this.socket = null;
      // Between two responses a proxy may close: the next request opens another connection.
      if (this.settle !== null)
        this.settle(
          this.reader.end()
            ? null
            : (error ?? new Error(`closed within a response (${this.reader.status}, ${this.reader.received} bytes)`)),
        );
    };
    socket.on("error", closed);
    socket.on("end", () => closed());
    socket.on("close", () => closed());
  }

  private fail(error: Error): void {
    this.settle?.(error);
    this.socket?.destroy();
  }

  /** A proxy may close a kept connection just when a request is on its way: as clients do, ask once more on a new one. */
  private async exchangeAgain(tally: Tally): Promise<number> {
    try {
      return await this.exchange();
    } catch (error) {
      if (!this.kept || this.reader.status !== 0 || this.socket !== null) throw error;
      tally.reopened += 1;
      this.use(await openConnection(this.way));
      return await this.exchange();
    }
  }

  /** One request and its response, checked; the bytes of content that travelled. */
  private exchange(): Promise<number> {
    const { content } = this.way.job;
    const check = content === "small" ? this.expectSmall() : this.expectDigest(content);
    return new Promise<number>((resolve, reject) => {
      this.settle = (error) => {
        this.settle = null;
        if (error !== null) return reject(error);
        try {
          resolve(check());
          this.kept = true;
        } catch (wrong) {
          reject(wrong as Error);
        }
      };
      this.arm();
      this.socket?.write(this.head, "latin1");
      if (content === "up") this.upload(this.socket as Socket, 0);
    });
  }

  /** One timer for a worker's life: a timer for each request would be work of its own. */
  private arm(): void {
    if (this.watchdog === null) {
      this.watchdog = setTimeout(() => this.fail(new Error(`no response within ${EXCHANGE_MS} ms`)), EXCHANGE_MS);
    } else this.watchdog.refresh();
  }

  private upload(socket: Socket, from: number): void {
    const { bytes } = largePayload();
    for (let at = from; at < bytes.length && !socket.destroyed; at += SLICE) {
      if (!socket.write(bytes.subarray(at, at + SLICE))) {
        socket.once("drain", () => this.upload(socket, at + SLICE));
        return;
      }
    }
  }

  private expectSmall(): () => number {
    let at = 0;
    let equal = true;
    let text = "";
    this.reader.begin((view) => {
      if (this.reader.status !== 200 && text.length < 200) text += view.toString("latin1", 0, 200);
      equal &&= view.compare(small, at, Math.min(at + view.length, small.length)) === 0;
      at += view.length;
    });
    return () => {
      if (text !== "") throw new Error(`status ${this.reader.status}: ${text}`);
      this.mustBe(200, small.length);
      if (!equal) throw new Error("the content is not what the origin sent");
      return small.length;
    };
  }

  private expectDigest(content: "up" | "down"): () => number {
    const { digest } = largePayload();
    const hash = createHash("sha256");
    let answer = "";
    this.reader.begin((view) => {
      if (content === "down") hash.update(view);
      else if (answer.length < 200) answer += view.toString("latin1");
    });
    return () => {
      this.mustBe(200, content === "down" ? LARGE_BYTES : digest.length);
      const got = content === "down" ? hash.digest("hex") : answer;
      if (got !== digest) throw new Error(`the digest is ${got.slice(0, 64)}, not ${digest}`);
      return LARGE_BYTES;
    };
  }

  private mustBe(status: number, length: number): void {
    if (this.reader.status !== status) throw new Error(`status ${this.reader.status} instead of ${status}`);
    if (this.reader.received !== length) throw new Error(`${this.reader.received} bytes instead of ${length}`);
  }
}

function requestHead({ job, authority }: Way): string {
  const path = job.content === "down" ? "/large" : job.content === "up" ? "/up" : "/small";
  const target = job.way === "plain" ? `http://${authority}${path}` : path;
  const framing = job.content === "up" ? `content-length: ${LARGE_BYTES}\r\n` : "";
  return `${job.content === "up" ? "POST" : "GET"} ${target} HTTP/1.1\r\nhost: ${authority}\r\nuser-agent: bench\r\naccept: */*\r\n${framing}\r\n`;
}
