// A client made of sockets: sends exact bytes through a proxy (plain, or in CONNECT with TLS) and gives back the exact answer.
import { once } from "node:events";
import net, { type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { PATIENCE } from "./patience.ts";

/** How the connection ended, seen from the client. */
export type Ending = "open" | "end" | "reset";

/** A connection whose received bytes pile up. */
export class RawConnection {
  readonly socket: Socket;
  bytes: Buffer = Buffer.alloc(0);
  ending: Ending = "open";
  error: NodeJS.ErrnoException | null = null;
  private taken = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
    });
    socket.on("end", () => {
      if (this.ending === "open") this.ending = "end";
    });
    socket.on("error", (error) => {
      this.error = error;
      this.ending = "reset";
    });
    socket.on("close", () => {
      if (this.ending === "open") this.ending = "end";
    });
  }

  get text(): string {
    return this.bytes.toString("latin1");
  }

  send(bytes: string | Buffer): this {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
    return this;
  }

  /** Waits until `found` holds for the text received since the last `take`. */
  async until(found: (text: string) => boolean, milliseconds = PATIENCE): Promise<string> {
    for (const end = Date.now() + milliseconds; ; await wait(2)) {
      const text = this.text.slice(this.taken);
      if (found(text)) return text;
      if (this.ending !== "open" || Date.now() > end) {
        throw new Error(`got only ${JSON.stringify(text.slice(0, 2000))} (${this.ending} ${this.error?.code ?? ""})`);
      }
    }
  }

  /** One response with a content-length, with chunks, or without content; what comes after stays for the next call. */
  async response(milliseconds = PATIENCE, method = "GET"): Promise<RawResponse> {
    const text = await this.until((received) => sizeOf(received, method) !== null, milliseconds);
    const size = sizeOf(text, method) as number;
    this.taken += size;
    return readResponse(text.slice(0, size));
  }

  /** Forgets what came so far. */
  take(): void {
    this.taken = this.bytes.length;
  }

  /** Waits until the other side has closed or reset. */
  async closed(milliseconds = PATIENCE): Promise<Ending> {
    for (const end = Date.now() + milliseconds; this.ending === "open"; await wait(2)) {
      if (Date.now() > end)
        throw new Error(`still open after ${milliseconds} ms; got ${JSON.stringify(this.text.slice(0, 500))}`);
    }
    return this.ending;
  }

  destroy(): void {
    this.socket.destroy();
  }
}

export interface RawResponse {
  readonly status: number;
  readonly phrase: string;
  /** Lower-case names; the last value wins; see `lines` for all. */
  readonly fields: Readonly<Record<string, string>>;
  readonly lines: readonly string[];
  /** The content, with its framing taken off. */
  readonly content: string;
  /** The exact bytes, as latin1 text. */
  readonly raw: string;
}

/** Connects to a port of 127.0.0.1. */
export async function connectTo(port: number, host = "127.0.0.1"): Promise<RawConnection> {
  const socket = net.connect({ port, host, allowHalfOpen: true });
  await once(socket, "connect");
  socket.setNoDelay(true);
  return new RawConnection(socket);
}

export interface ThroughOptions {
  /** Certificates to trust (PEM). */
  readonly ca?: string | readonly string[];
  /** SNI; "" for none. Default: the host of the authority. */
  readonly servername?: string;
  /** Extra field lines of the CONNECT, each with CRLF. */
  readonly fields?: string;
  readonly alpn?: readonly string[];
  readonly tls?: tls.ConnectionOptions;
}

/** CONNECT to `authority` through the proxy, without TLS inside. Throws when the answer is not 200. */
export async function tunnelThrough(proxyPort: number, authority: string, fields = ""): Promise<RawConnection> {
  const connection = await connectTo(proxyPort);
  connection.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`);
  const head = await connection.until((text) => text.includes("\r\n\r\n"));
  if (!/^HTTP\/1\.[01] 200 /.test(head)) throw new Error(`CONNECT was answered ${head.split("\r\n")[0]}`);
  connection.take();
  return connection;
}

/** CONNECT and a TLS handshake inside; bytes are those of the inside. */
export async function tlsThrough(
  proxyPort: number,
  authority: string,
  options: ThroughOptions = {},
): Promise<RawConnection & { readonly socket: tls.TLSSocket }> {
  const outer = await tunnelThrough(proxyPort, authority, options.fields);
  outer.socket.removeAllListeners("data");
  const host = authority.slice(0, authority.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  const name = options.servername ?? (net.isIP(host) > 0 ? "" : host);
  const socket = tls.connect({
    socket: outer.socket,
    host,
    ...(name === "" ? {} : { servername: name }),
    ...(options.ca === undefined ? {} : { ca: options.ca as string | string[] }),
    ...(options.alpn === undefined ? {} : { ALPNProtocols: [...options.alpn] }),
    ...options.tls,
  });
  await once(socket, "secureConnect");
  return new RawConnection(socket) as RawConnection & { readonly socket: tls.TLSSocket };
}

/** Bytes of the first complete response in the text, informational ones skipped as responses of their own; null: not yet. */
function sizeOf(text: string, method: string): number | null {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return null;
  const fields = text.slice(0, head + 2).toLowerCase();
  const status = Number(/^http\/1\.[01] (\d{3})/.exec(fields)?.[1]);
  const start = head + 4;
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return start;
  if (/\r\ntransfer-encoding: *chunked *\r\n/.test(fields)) return chunkedEnd(text, start);
  const length = Number(/\r\ncontent-length: *(\d+) *\r\n/.exec(fields)?.[1] ?? 0);
  return text.length >= start + length ? start + length : null;
}

function chunkedEnd(text: string, start: number): number | null {
  for (let i = start; ; ) {
    const line = text.indexOf("\r\n", i);
    if (line < 0) return null;
    const size = Number.parseInt(text.slice(i, line), 16);
    if (Number.isNaN(size)) throw new Error(`bad chunk ${JSON.stringify(text.slice(i, line))}`);
    if (size === 0) {
      const end = text.startsWith("\r\n", line + 2) ? line + 2 : text.indexOf("\r\n\r\n", line + 2) + 2;
      return end < line + 2 || text.length < end + 2 ? null : end + 2;
    }
    i = line + 2 + size + 2;
    if (i > text.length) return null;
  }
}

function readResponse(raw: string): RawResponse {
  const end = raw.indexOf("\r\n\r\n");
  const [first = "", ...lines] = raw.slice(0, end).split("\r\n");
  const [, status = "0", phrase = ""] = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(first) ?? [];
  const fields: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    fields[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const body = raw.slice(end + 4);
  const content = fields["transfer-encoding"] === "chunked" ? unchunk(body) : body;
  return { status: Number(status), phrase, fields, lines, content, raw };
}

function unchunk(body: string): string {
  let content = "";
  for (let i = 0; i < body.length; ) {
    const line = body.indexOf("\r\n", i);
    const size = Number.parseInt(body.slice(i, line), 16);
    if (!(size > 0)) break;
    content += body.slice(line + 2, line + 2 + size);
    i = line + 2 + size + 2;
  }
  return content;
}
