// The origin: HTTP/1.1 by hand on plain and TLS sockets (so that it is never what is measured), HTTP/2 and WebSocket by
// libraries. A process of its own, started by main.ts, which gets its ports in one message.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import net, { type AddressInfo, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { WebSocketServer } from "ws";
import { LARGE_BYTES, type OriginPorts, payload, SMALL_BYTES } from "./payload.ts";

const small = payload(SMALL_BYTES);
const large = payload(LARGE_BYTES);
const FIELDS = "content-type: application/octet-stream\r\ncache-control: no-store\r\n";
const SMALL = Buffer.concat([
  Buffer.from(`HTTP/1.1 200 OK\r\n${FIELDS}content-length: ${small.length}\r\n\r\n`),
  small,
]);
const SLICE = 256 * 1024;
const LONGEST_HEAD = 16 * 1024;

interface Conversation {
  readonly socket: Socket;
  /** Bytes of a request head that has not ended yet. */
  head: Buffer | null;
  /** Bytes of the request's content that are still to come; null: a head comes. */
  left: number | null;
  hash: ReturnType<typeof createHash> | null;
}

function converse(socket: Socket): void {
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  const c: Conversation = { socket, head: null, left: null, hash: null };
  socket.on("data", (chunk: Buffer) => {
    let rest: Buffer | null = chunk;
    while (rest !== null && rest.length > 0) rest = c.left === null ? readHead(c, rest) : readContent(c, rest);
  });
}

/** Answers or begins to read content; gives what follows the head, or null when the head is not whole. */
function readHead(c: Conversation, chunk: Buffer): Buffer | null {
  const bytes = c.head === null ? chunk : Buffer.concat([c.head, chunk]);
  const end = bytes.indexOf("\r\n\r\n");
  c.head = end < 0 ? bytes : null;
  if (end < 0) {
    if (bytes.length > LONGEST_HEAD) c.socket.destroy();
    return null;
  }
  const text = bytes.toString("latin1", 0, end);
  if (text.startsWith("GET ")) answer(c.socket, text.includes("/large", 4));
  else beginContent(c, text);
  return bytes.subarray(end + 4);
}

function beginContent(c: Conversation, head: string): void {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  // A proxy that sends uploads chunked would be measured at other work than the rest: it is told, and fails.
  if (length === undefined) return void c.socket.end("HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n");
  if (/\r\nexpect: *100-continue/i.test(head)) c.socket.write("HTTP/1.1 100 Continue\r\n\r\n");
  c.left = Number(length);
  c.hash = createHash("sha256");
}

function readContent(c: Conversation, chunk: Buffer): Buffer {
  const left = c.left as number;
  const own = chunk.length <= left ? chunk : chunk.subarray(0, left);
  c.hash?.update(own);
  c.left = left - own.length;
  if (c.left === 0) {
    const digest = c.hash?.digest("hex") ?? "";
    c.socket.write(`HTTP/1.1 200 OK\r\n${FIELDS}content-length: ${digest.length}\r\n\r\n${digest}`);
    c.left = null;
  }
  return chunk.subarray(own.length);
}

function answer(socket: Socket, isLarge: boolean): void {
  if (!isLarge) return void socket.write(SMALL);
  socket.write(`HTTP/1.1 200 OK\r\n${FIELDS}content-length: ${large.length}\r\n\r\n`);
  let at = 0;
  const more = (): void => {
    while (at < large.length && !socket.destroyed) {
      const slice = large.subarray(at, at + SLICE);
      at += slice.length;
      if (!socket.write(slice)) return void socket.once("drain", more);
    }
  };
  more();
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host: "127.0.0.1", backlog: 2048 }, resolve);
  });
  return (server.address() as AddressInfo).port;
}

/** Opens every port with this key and certificate (PEM). */
async function openOrigin(key: string, cert: string): Promise<OriginPorts> {
  const credentials = { key, cert };
  const secure = (): Server => tls.createServer({ ...credentials, ALPNProtocols: ["http/1.1"] }, converse);
  const h2 = http2.createSecureServer({ ...credentials, allowHTTP1: true }, (_request, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": small.length });
    response.end(small);
  });
  h2.on("sessionError", () => {});
  const web = https.createServer(credentials);
  const sockets = new WebSocketServer({ server: web as never, perMessageDeflate: false });
  sockets.on("connection", (socket) => {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
    socket.on("error", () => socket.terminate());
  });
  return {
    plain: await listen(net.createServer(converse)),
    tls: await listen(secure()),
    opaque: await listen(secure()),
    h2: await listen(h2),
    websocket: await listen(web),
  };
}

const [keyFile = "", certFile = ""] = process.argv.slice(2);
process.send?.(await openOrigin(readFileSync(keyFile, "utf8"), readFileSync(certFile, "utf8")));
process.on("disconnect", () => process.exit(0));
