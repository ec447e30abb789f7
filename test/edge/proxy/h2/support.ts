// HTTP/2 clients inside CONNECT: ordinary ones (node:http2), and one that sends exact frames.
import { once } from "node:events";
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import tls from "node:tls";
import { PATIENCE } from "../../../support/patience.ts";
import { connectTo, tlsThrough, tunnelThrough } from "../../../support/raw-client.ts";

export interface H2Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Flat, as received. */
  readonly raw: readonly string[];
  readonly trailers: IncomingHttpHeaders | null;
  readonly interim: readonly IncomingHttpHeaders[];
  readonly content: Buffer;
  /** True: END_STREAM came. False: it was reset, or the connection went. */
  readonly whole: boolean;
  readonly code: number;
}

/** A session through the proxy: in TLS when `ca` is given, else in clear text with prior knowledge. */
export async function sessionThrough(
  port: number,
  authority: string,
  ca: string | null,
  options: { readonly fields?: string; readonly servername?: string } & http2.SecureClientSessionOptions = {},
): Promise<ClientHttp2Session> {
  const { fields, servername, ...rest } = options;
  const opened =
    ca === null
      ? await tunnelThrough(port, authority, fields)
      : await tlsThrough(port, authority, {
          ca,
          alpn: ["h2"],
          ...(fields === undefined ? {} : { fields }),
          // The name of CONNECT stands in the leaf, whatever SNI says: this client goes on all the same.
          ...(servername === undefined ? {} : { servername, tls: { checkServerIdentity: () => undefined } }),
        });
  opened.socket.removeAllListeners("data");
  if (ca !== null && (opened.socket as tls.TLSSocket).alpnProtocol !== "h2") throw new Error("h2 was not chosen");
  const session = http2.connect(`${ca === null ? "http" : "https"}://${authority}`, {
    maxSessionMemory: 1_000,
    ...rest,
    createConnection: () => opened.socket,
  });
  session.on("error", () => {});
  return session;
}

/** Sends a request and reads its answer to the end, however it ends. */
export async function ask(
  session: ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  content: Buffer | string | null = null,
  trailers: http2.OutgoingHttpHeaders | null = null,
): Promise<H2Answer> {
  const stream = session.request(headers, { endStream: content === null, waitForTrailers: trailers !== null });
  if (trailers !== null) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  if (content !== null) stream.end(content);
  return answerOf(stream);
}

export async function answerOf(stream: ClientHttp2Stream): Promise<H2Answer> {
  let headers: IncomingHttpHeaders = {};
  let raw: readonly string[] = [];
  let trailers: IncomingHttpHeaders | null = null;
  const interim: IncomingHttpHeaders[] = [];
  const pieces: Buffer[] = [];
  let whole = false;
  const push = stream.push;
  stream.push = function (chunk: unknown, ...rest: []): boolean {
    if (chunk === null && !this.closed) whole = true;
    return push.call(this, chunk, ...rest);
  };
  stream.on("headers", (h) => interim.push(h));
  stream.on("response", (h, _flags, list?: string[]) => {
    headers = h;
    raw = list ?? [];
  });
  stream.on("trailers", (h) => {
    trailers = h;
  });
  stream.on("data", (b: Buffer) => pieces.push(b));
  stream.on("error", () => {});
  if (!stream.destroyed) await new Promise((resolve) => stream.once("close", resolve));
  const code = stream.rstCode ?? 0;
  return {
    status: Number(headers[":status"] ?? 0),
    headers,
    raw,
    trailers,
    interim,
    content: Buffer.concat(pieces),
    whole: whole && code === 0,
    code,
  };
}

// ---- exact frames -----------------------------------------------------------------------------------------------------

export const FRAME = {
  data: 0,
  headers: 1,
  rst: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;

/** One frame (RFC 9113 section 4.1). */
export function frame(type: number, flags: number, stream: number, payload: Buffer | string = ""): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** A field section without compression: literals that are never indexed (RFC 7541 section 6.2.3). */
export function section(fields: readonly (readonly [string, string])[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) parts.push(Buffer.from([0x10]), text(name), text(value));
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length: number[] = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export class FrameClient {
  readonly socket: tls.TLSSocket;
  readonly frames: Frame[] = [];
  closed = false;
  private held: Buffer = Buffer.alloc(0);

  constructor(socket: tls.TLSSocket) {
    this.socket = socket;
    socket.on("data", (b: Buffer) => this.read(b));
    socket.on("error", () => {});
    for (const event of ["end", "close"])
      socket.on(event, () => {
        this.closed = true;
      });
    this.send(Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(FRAME.settings, 0, 0));
  }

  send(...frames: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(frames));
  }

  private read(b: Buffer): void {
    this.held = Buffer.concat([this.held, b]);
    while (this.held.length >= 9) {
      const length = this.held.readUIntBE(0, 3);
      if (this.held.length < 9 + length) return;
      const payload = Buffer.from(this.held.subarray(9, 9 + length));
      const type = this.held[3] as number;
      const flags = this.held[4] as number;
      this.frames.push({ type, flags, stream: this.held.readUInt32BE(5) & 0x7fffffff, payload });
      if (type === FRAME.settings && (flags & 1) === 0) this.send(frame(FRAME.settings, 1, 0));
      this.held = this.held.subarray(9 + length);
    }
  }

  /** The first frame that fits, waiting for it. */
  async next(fits: (f: Frame) => boolean, milliseconds = PATIENCE): Promise<Frame> {
    for (const end = Date.now() + milliseconds; ; await new Promise((done) => setTimeout(done, 5))) {
      const found = this.frames.find(fits);
      if (found !== undefined) return found;
      if (Date.now() > end) throw new Error(`no such frame among ${JSON.stringify(this.frames.slice(0, 20))}`);
    }
  }

  async gone(milliseconds = PATIENCE): Promise<void> {
    for (const end = Date.now() + milliseconds; !this.closed; await new Promise((done) => setTimeout(done, 5))) {
      if (Date.now() > end) throw new Error("the connection is still open");
    }
  }
}

/** A client of exact frames inside CONNECT and TLS. */
export async function framesThrough(port: number, authority: string, ca: string): Promise<FrameClient> {
  const outer = await connectTo(port);
  outer.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  await outer.until((t) => t.includes("\r\n\r\n"));
  outer.socket.removeAllListeners("data");
  const socket = tls.connect({
    socket: outer.socket,
    ca,
    ALPNProtocols: ["h2"],
    servername: "",
    checkServerIdentity: () => undefined,
  });
  await once(socket, "secureConnect");
  return new FrameClient(socket);
}
