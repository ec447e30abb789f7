// Real origin servers: one that records the exact bytes it gets and follows a script of faults, and an ordinary node:http one.
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls, { type TlsOptions } from "node:tls";
import { freePort } from "./free-port.ts";
import { PATIENCE } from "./patience.ts";
import { afterPause } from "./pause.ts";

/** One connection as the origin saw it. */
export interface OriginConversation {
  readonly socket: Socket;
  /** Every byte so far. */
  bytes: Buffer;
  /** The client closed its side, cleanly. */
  ended: boolean;
  /** It was reset. */
  broken: boolean;
  closed: boolean;
}

/** What the origin does with a connection. It is called once a request head (or `after`) is there. */
export type OriginScript = (conversation: OriginConversation, request: number) => void | Promise<void>;

export interface RawOriginOptions {
  /** Key and certificate, for TLS. */
  readonly tls?: TlsOptions;
  /** Speaks first, before any byte came. */
  readonly greet?: boolean;
  /** Default: any that is free. */
  readonly port?: number;
}

export interface RawOrigin {
  readonly port: number;
  readonly conversations: readonly OriginConversation[];
  /** All bytes of all connections, as latin1 text. */
  text(): string;
  /** Resolves when `found` holds for what has been received. */
  until(found: (text: string) => boolean, milliseconds?: number): Promise<void>;
  close(): Promise<void>;
}

/** Starts a recording origin on 127.0.0.1. The script runs at each empty line that ends a request head. */
export async function startRawOrigin(script: OriginScript, options: RawOriginOptions = {}): Promise<RawOrigin> {
  const conversations: OriginConversation[] = [];
  const accept = (socket: Socket): void => converse(socket, conversations, script, options.greet === true);
  const server =
    options.tls === undefined
      ? net.createServer({ allowHalfOpen: true }, accept)
      : tls.createServer({ ...options.tls, allowHalfOpen: true } as TlsOptions, accept);
  server.on("tlsClientError", () => {});
  const sockets = track(server);
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const text = (): string => conversations.map((conversation) => conversation.bytes.toString("latin1")).join("");
  return {
    port: (server.address() as AddressInfo).port,
    conversations,
    text,
    until: async (found, milliseconds = PATIENCE) => {
      for (const end = Date.now() + milliseconds; !found(text()); await wait(5)) {
        if (Date.now() > end) throw new Error(`the origin got only ${JSON.stringify(text().slice(0, 2000))}`);
      }
    },
    close: () => closeAll(server, sockets),
  };
}

function converse(socket: Socket, all: OriginConversation[], script: OriginScript, greet: boolean): void {
  const conversation: OriginConversation = {
    socket,
    bytes: Buffer.alloc(0),
    ended: false,
    broken: false,
    closed: false,
  };
  all.push(conversation);
  let heads = 0;
  let seen = 0;
  const run = (): void => {
    void Promise.resolve(script(conversation, heads++)).catch((error: Error) => socket.destroy(error));
  };
  if (greet) run();
  socket.on("data", (chunk: Buffer) => {
    conversation.bytes = Buffer.concat([conversation.bytes, chunk]);
    for (
      let at = conversation.bytes.indexOf("\r\n\r\n", seen);
      at >= 0;
      at = conversation.bytes.indexOf("\r\n\r\n", seen)
    ) {
      seen = at + 4;
      if (/^[A-Z-]+ [^\r\n]* HTTP\/1\.[01]\r\n/m.test(conversation.bytes.toString("latin1", 0, seen))) run();
    }
    seen = Math.max(seen, conversation.bytes.length - 3);
  });
  socket.on("end", () => {
    conversation.ended = true;
    socket.end();
  });
  socket.on("error", () => {
    conversation.broken = true;
  });
  socket.on("close", () => {
    conversation.closed = true;
  });
}

/** The faults of origins: each makes a script. */
export const origins = {
  /** Answers every request with these bytes. */
  answer:
    (bytes: string | Buffer): OriginScript =>
    ({ socket }) => {
      socket.write(bytes);
    },
  /** A complete response of the text. */
  text: (content: string, fields = ""): OriginScript =>
    origins.answer(`HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(content)}\r\n${fields}\r\n${content}`),
  /** Sends these bytes and closes its side. */
  answerAndEnd:
    (bytes: string | Buffer): OriginScript =>
    ({ socket }) => {
      socket.end(bytes);
    },
  /** Never says anything. */
  stall: (): OriginScript => () => {},
  /** Sends these bytes and then nothing more. */
  stallAfter: (bytes: string): OriginScript => origins.answer(bytes),
  /** Sends the first `count` of these bytes and resets the connection. */
  resetAfter:
    (bytes: string, count: number): OriginScript =>
    ({ socket }) => {
      if (count === 0) socket.resetAndDestroy();
      else socket.write(bytes.slice(0, count), () => afterPause(20, () => socket.resetAndDestroy()));
    },
  /** Says more than it sends, and closes. */
  lyingLength: (said: number, content: string): OriginScript =>
    origins.answerAndEnd(`HTTP/1.1 200 OK\r\ncontent-length: ${said}\r\n\r\n${content}`),
  /** Two lengths that differ. */
  twoLengths: (content: string): OriginScript =>
    origins.answer(
      `HTTP/1.1 200 OK\r\ncontent-length: ${content.length}\r\ncontent-length: ${content.length + 5}\r\n\r\n${content}`,
    ),
  /** Chunks without end, one each `every` milliseconds, until the socket goes. */
  neverEnds:
    (every = 10): OriginScript =>
    async ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
      while (!socket.destroyed && socket.writable) {
        socket.write("4\r\nmore\r\n");
        await wait(every);
      }
    },
  /** A complete response with bytes after it that nobody asked for. */
  extraBytes: (content: string, extra: string): OriginScript =>
    origins.answer(`HTTP/1.1 200 OK\r\ncontent-length: ${content.length}\r\n\r\n${content}${extra}`),
  /** Informational responses, and then the final one. */
  interim: (count: number, status = 103): OriginScript =>
    origins.answer(
      `${`HTTP/1.1 ${status} Early\r\nlink: </a>\r\n\r\n`.repeat(count)}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok`,
    ),
  /** Server-sent events, one each `every` milliseconds. */
  events:
    (events: readonly string[], every = 50): OriginScript =>
    async ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
      for (const event of events) {
        const data = `data: ${event}\n\n`;
        socket.write(`${Buffer.byteLength(data).toString(16)}\r\n${data}\r\n`);
        await wait(every);
      }
      socket.write("0\r\n\r\n");
    },
} as const;

export interface HttpOrigin {
  readonly port: number;
  readonly requests: readonly http.IncomingMessage[];
  close(): Promise<void>;
}

/** An ordinary node:http(s) origin. Without a handler it echoes the request's content. */
export async function startHttpOrigin(
  handler: http.RequestListener = (request, response) => request.pipe(response),
  secure?: TlsOptions,
): Promise<HttpOrigin> {
  const requests: http.IncomingMessage[] = [];
  const listener: http.RequestListener = (request, response) => {
    requests.push(request);
    handler(request, response);
  };
  const server = secure === undefined ? http.createServer(listener) : https.createServer(secure, listener);
  // Node's five seconds are less than a machine with other work may need between two requests.
  server.keepAliveTimeout = 120_000;
  const sockets = track(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, requests, close: () => closeAll(server, sockets) };
}

/** A port on 127.0.0.1 where nobody listens: connections to it are refused. */
export const refusedPort = freePort;

function track(server: net.Server): Set<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  return sockets;
}

async function closeAll(server: net.Server, sockets: Set<Socket>): Promise<void> {
  const closed = once(server, "close");
  server.close();
  for (const socket of sockets) socket.destroy();
  await closed;
}
