// Load over HTTP/2: one connection, a fixed number of streams at once on it.
import http2, { type ClientHttp2Session } from "node:http2";
import type { TLSSocket } from "node:tls";
import { payload, SMALL_BYTES } from "../payload.ts";
import { openConnection, type Way } from "./connect.ts";
import type { Tally, Worker } from "./run.ts";

const STREAM_MS = 30_000;
const small = payload(SMALL_BYTES);

/** Thrown when the proxy speaks HTTP/1.1 alone. */
export const NO_HTTP2 = "the proxy does not offer HTTP/2";

/** Shares its connection with the other workers of the same `Http2Line`. */
export class Http2Worker implements Worker {
  private readonly line: Http2Line;

  constructor(line: Http2Line) {
    this.line = line;
  }

  open(): Promise<void> {
    return this.line.open();
  }

  async once(tally: Tally): Promise<void> {
    const started = performance.now();
    tally.add(await this.line.get("/small"), started);
  }

  close(): void {
    this.line.close();
  }
}

export class Http2Line {
  private readonly way: Way;
  private session: ClientHttp2Session | null = null;
  private opening: Promise<void> | null = null;

  constructor(way: Way) {
    this.way = way;
  }

  open(): Promise<void> {
    this.opening ??= this.connect();
    return this.opening;
  }

  close(): void {
    this.session?.destroy();
    this.session = null;
  }

  /** One GET, checked: the bytes of its content. */
  get(path: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const stream = (this.session as ClientHttp2Session).request({ ":path": path, ":authority": this.way.authority });
      let status: number | undefined;
      let at = 0;
      let equal = true;
      stream.setTimeout(STREAM_MS, () => stream.destroy(new Error(`no response within ${STREAM_MS} ms`)));
      stream.on("response", (fields) => {
        status = fields[":status"];
      });
      stream.on("data", (chunk: Buffer) => {
        equal &&= chunk.compare(small, at, Math.min(at + chunk.length, small.length)) === 0;
        at += chunk.length;
      });
      stream.on("error", reject);
      stream.on("close", () => {
        if (status === 200 && at === small.length && equal) resolve(at);
        else reject(new Error(`HTTP/2: status ${status}, ${at} bytes, ${equal ? "the right ones" : "wrong ones"}`));
      });
      stream.end();
    });
  }

  private async connect(): Promise<void> {
    const socket = (await openConnection(this.way, ["h2", "http/1.1"])) as TLSSocket;
    if (socket.alpnProtocol !== "h2") {
      socket.destroy();
      throw new Error(NO_HTTP2);
    }
    const session = http2.connect(`https://${this.way.authority}`, { createConnection: () => socket });
    session.on("error", () => session.destroy());
    this.session = session;
  }
}
