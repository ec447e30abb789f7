// Origins of the soak, on loopback, with and without TLS, and of HTTP/2 alone: small answers, content of any size, sinks, slow
// ones, WebSockets that echo.
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { WebSocketServer } from "ws";
import { TestCa } from "../../test/support/certificates.ts";

export interface SoakOrigins {
  readonly plain: number;
  readonly secure: number;
  /** TLS, and HTTP/2 alone. */
  readonly modern: number;
  /** PEM of the CA that the one with TLS has its certificate from. */
  readonly roots: string;
  close(): Promise<void>;
}

const PIECE = Buffer.alloc(65_536, "sallyport ");

type Answered = http.ServerResponse | http2.Http2ServerResponse;

/** `/bytes/N`: N bytes; `/slow/MS`: an answer after so long; a POST is read to its end; anything else: "ok". */
function answer(asked: http.IncomingMessage | http2.Http2ServerRequest, answered: Answered): void {
  // Those of HTTP/2 have the same methods, and types that know fewer of them.
  const request = asked as http.IncomingMessage;
  const response = answered as http.ServerResponse;
  request.on("error", () => {});
  response.on("error", () => {});
  const [, verb, value] = (request.url ?? "").split("/");
  if (verb === "bytes") return sendBytes(response, Number(value));
  if (verb === "slow") return void setTimeout(() => response.end("slow"), Number(value));
  if (request.method !== "POST") return void response.end("ok");
  let bytes = 0;
  request.on("data", (b: Buffer) => {
    bytes += b.length;
  });
  request.on("end", () => response.end(String(bytes)));
}

function sendBytes(response: http.ServerResponse, total: number): void {
  response.setHeader("content-length", total);
  let left = total;
  const more = (): void => {
    while (left > 0) {
      const piece = left >= PIECE.length ? PIECE : PIECE.subarray(0, left);
      left -= piece.length;
      if (!response.write(piece)) return void response.once("drain", more);
    }
    response.end();
  };
  more();
}

/** Names: 127.0.0.1 and localhost. */
export async function startOrigins(): Promise<SoakOrigins> {
  const ca = new TestCa("Soak CA");
  const leaf = ca.leaf("localhost", { names: ["localhost", "127.0.0.1"] });
  const clear = http.createServer({ keepAliveTimeout: 60_000 }, answer);
  const secured = https.createServer({ ...leaf, keepAliveTimeout: 60_000 }, answer);
  const servers = [clear, secured, http2.createSecureServer({ ...leaf, allowHTTP1: false }, answer)];
  for (const server of [clear, secured]) webSocketsOn(server);
  const sockets = new Set<Socket>();
  for (const server of servers) {
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    });
    server.listen({ port: 0, host: "127.0.0.1", backlog: 2_048 });
    await once(server, "listening");
  }
  const portOf = (server: (typeof servers)[number]): number => (server.address() as AddressInfo).port;
  const [plain = 0, secure = 0, modern = 0] = servers.map(portOf);
  return {
    ...{ plain, secure, modern, roots: ca.cert },
    close: async () => {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function webSocketsOn(server: http.Server): void {
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  });
}
