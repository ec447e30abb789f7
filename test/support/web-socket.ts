// WebSockets for tests: frames made and read by hand, an origin and clients of the `ws` package, and the three paths through
// the proxy on which a WebSocket can run.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import type { TlsOptions } from "node:tls";
import { type ServerOptions, WebSocket, WebSocketServer } from "ws";
import type { TestCa } from "./certificates.ts";
import type { OriginConversation, RawOrigin } from "./origin.ts";
import { PATIENCE } from "./patience.ts";
import { connectTo, type RawConnection, tlsThrough, tunnelThrough } from "./raw-client.ts";

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

export interface FrameOptions {
  readonly fin?: boolean;
  /** RSV1 to RSV3 as a number: 4, 2, 1. */
  readonly rsv?: number;
  /** True: masked with a random key, as clients do. */
  readonly mask?: boolean;
  /** What the header says; default: the payload's length. */
  readonly length?: number;
}

/** The bytes of one frame (RFC 6455 section 5.2). */
export function frame(opcode: number, payload: string | Uint8Array = "", options: FrameOptions = {}): Buffer {
  const data = Buffer.from(payload);
  const length = options.length ?? data.length;
  const first = ((options.fin ?? true) ? 0x80 : 0) | ((options.rsv ?? 0) << 4) | opcode;
  const masked = options.mask ? 0x80 : 0;
  let head: Buffer;
  if (length < 126) head = Buffer.from([first, masked | length]);
  else if (length < 65_536) head = Buffer.from([first, masked | 126, length >> 8, length & 255]);
  else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = masked | 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  if (!options.mask) return Buffer.concat([head, data]);
  const key = randomBytes(4);
  return Buffer.concat([head, key, data.map((byte, i) => byte ^ (key[i % 4] as number))]);
}

/** As a client sends it. */
export const masked = (opcode: number, payload: string | Uint8Array = "", options: FrameOptions = {}): Buffer =>
  frame(opcode, payload, { ...options, mask: true });

export const closePayload = (code: number, reason = ""): Buffer =>
  Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]);

export interface ReadFrame {
  readonly fin: boolean;
  readonly rsv: number;
  readonly opcode: number;
  /** The masking key, or null. */
  readonly key: Buffer | null;
  /** Unmasked. */
  readonly payload: Buffer;
}

/** Every whole frame in the bytes. */
export function readFrames(bytes: Buffer): ReadFrame[] {
  const frames: ReadFrame[] = [];
  for (let at = 0; at + 2 <= bytes.length; ) {
    const first = bytes[at] as number;
    const second = bytes[at + 1] as number;
    let length = second & 127;
    let next = at + 2;
    if (length === 126) {
      if (next + 2 > bytes.length) break;
      length = bytes.readUInt16BE(next);
      next += 2;
    } else if (length === 127) {
      if (next + 8 > bytes.length) break;
      length = Number(bytes.readBigUInt64BE(next));
      next += 8;
    }
    const key = second & 0x80 ? bytes.subarray(next, next + 4) : null;
    if (key !== null) next += 4;
    if (next + length > bytes.length) break;
    const data = Buffer.from(bytes.subarray(next, next + length));
    const payload = key === null ? data : Buffer.from(data.map((byte, i) => byte ^ (key[i % 4] as number)));
    frames.push({ fin: (first & 0x80) !== 0, rsv: (first >> 4) & 7, opcode: first & 15, key, payload });
    at = next + length;
  }
  return frames;
}

/** The code of the close frame among them, or null. */
export function closeCode(frames: readonly ReadFrame[]): number | null {
  const found = frames.find(({ opcode }) => opcode === CLOSE);
  if (found === undefined) return null;
  return found.payload.length < 2 ? 1005 : found.payload.readUInt16BE(0);
}

// ---- origins ------------------------------------------------------------------------------------------------------------

export interface WsOrigin {
  readonly port: number;
  /** Every connection so far. */
  readonly sockets: readonly WebSocket[];
  readonly requests: readonly http.IncomingMessage[];
  close(): Promise<void>;
}

/** An origin of the `ws` package. Without a handler it echoes. */
export async function startWsOrigin(
  handler: (socket: WebSocket) => void = echo,
  options: ServerOptions & { readonly secure?: TlsOptions } = {},
): Promise<WsOrigin> {
  const { secure, ...rest } = options;
  const server = secure === undefined ? http.createServer() : https.createServer(secure);
  const sockets: WebSocket[] = [];
  const requests: http.IncomingMessage[] = [];
  const ws = new WebSocketServer({ perMessageDeflate: true, ...rest, server });
  ws.on("connection", (socket, request) => {
    sockets.push(socket);
    requests.push(request);
    socket.on("error", () => {});
    handler(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    requests,
    close: async () => {
      for (const socket of ws.clients) socket.terminate();
      ws.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

export function echo(socket: WebSocket): void {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
}

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** The 101 that answers the last request head of a raw origin. */
export function switching({ bytes }: OriginConversation, fields = ""): string {
  const keys = [...bytes.toString("latin1").matchAll(/sec-websocket-key: *(\S+)/gi)];
  const accept = createHash("sha1")
    .update(`${keys.at(-1)?.[1]}${GUID}`)
    .digest("base64");
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${fields}\r\n`;
}

/** The frames that a raw origin got on its connection `index`. */
export function framesAt(origin: RawOrigin, index: number): ReadFrame[] {
  const bytes = origin.conversations[index]?.bytes ?? Buffer.alloc(0);
  const end = bytes.indexOf("\r\n\r\n");
  return end < 0 ? [] : readFrames(bytes.subarray(end + 4));
}

// ---- clients ------------------------------------------------------------------------------------------------------------

export const PATHS = ["plain ws", "intercepted wss", "ws inside CONNECT"] as const;
export type PathName = (typeof PATHS)[number];

export interface Through {
  /** The proxy's port, and its CA in PEM. */
  readonly port: number;
  readonly ca: string;
}

/** A connection through the proxy on which an HTTP request to the origin can be sent. */
export function openPath(path: PathName, proxy: Through, origin: number): Promise<RawConnection> {
  if (path === "plain ws") return connectTo(proxy.port);
  if (path === "ws inside CONNECT") return tunnelThrough(proxy.port, `localhost:${origin}`);
  return tlsThrough(proxy.port, `localhost:${origin}`, { ca: proxy.ca });
}

export const targetOn = (path: PathName, origin: number, target: string): string =>
  path === "plain ws" ? `http://localhost:${origin}${target}` : target;

/** What the origin needs to speak TLS, on the path that is intercepted. */
export const secureOn = (path: PathName, ca: TestCa): { secure?: TlsOptions } =>
  path === "intercepted wss" ? { secure: ca.leaf("localhost") } : {};

/** The request of an opening handshake. */
export const handshakeText = (target: string, origin: number, fields = "", key = "dGhlIHNhbXBsZSBub25jZQ=="): string =>
  `GET ${target} HTTP/1.1\r\nHost: localhost:${origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n${fields}\r\n`;

/** A client of raw frames: what it gets after the 101. */
export class FrameClient {
  readonly connection: RawConnection;
  private readonly start: number;
  constructor(connection: RawConnection, start: number) {
    this.connection = connection;
    this.start = start;
  }
  get frames(): ReadFrame[] {
    return readFrames(this.connection.bytes.subarray(this.start));
  }
  send(...frames: Buffer[]): this {
    this.connection.send(Buffer.concat(frames));
    return this;
  }
  /** Waits until that many frames are there. */
  async until(count: number, milliseconds = PATIENCE): Promise<ReadFrame[]> {
    for (const end = Date.now() + milliseconds; this.frames.length < count; await wait(2)) {
      if (Date.now() > end || this.connection.ending !== "open") {
        if (this.frames.length >= count) break;
        throw new Error(`${this.frames.length} frames instead of ${count} (${this.connection.ending})`);
      }
    }
    return this.frames;
  }
}

/** Does the opening handshake by hand. `early`: bytes that are sent together with it. */
export async function rawWebSocket(
  path: PathName,
  proxy: Through,
  origin: number,
  target = "/",
  fields = "",
): Promise<FrameClient> {
  const connection = await openPath(path, proxy, origin);
  connection.send(handshakeText(targetOn(path, origin, target), origin, fields));
  const text = await connection.until((received) => received.includes("\r\n\r\n"));
  if (!text.startsWith("HTTP/1.1 101 ")) throw new Error(text.slice(0, 400));
  const head = connection.bytes.indexOf("HTTP/1.1 101 ");
  return new FrameClient(connection, connection.bytes.indexOf("\r\n\r\n", head) + 4);
}

export interface WsClient {
  readonly socket: WebSocket;
  readonly messages: readonly { readonly data: Buffer; readonly binary: boolean }[];
  /** Waits for that many messages. */
  until(count: number, milliseconds?: number): Promise<readonly { readonly data: Buffer; readonly binary: boolean }[]>;
  /** The code and reason with which it ended. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

/** A client of the `ws` package. */
export async function wsClient(
  path: PathName,
  proxy: Through,
  origin: number,
  target = "/",
  options: WebSocket.ClientOptions = {},
): Promise<WsClient> {
  const { socket: raw } = await openPath(path, proxy, origin);
  raw.removeAllListeners("data");
  const socket = new WebSocket(`ws://localhost:${origin}${target}`, {
    ...options,
    createConnection: () => raw,
    finishRequest: (request) => {
      request.path = targetOn(path, origin, target);
      request.end();
    },
  });
  const messages: { data: Buffer; binary: boolean }[] = [];
  socket.on("message", (data, binary) => messages.push({ data: data as Buffer, binary }));
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  await once(socket, "open");
  socket.on("error", () => {});
  const until = async (count: number, milliseconds = PATIENCE) => {
    for (const end = Date.now() + milliseconds; messages.length < count; await wait(2))
      if (Date.now() > end) throw new Error(`${messages.length} messages instead of ${count}`);
    return messages;
  };
  return { socket, messages, until, closed };
}
