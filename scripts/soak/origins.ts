// Origins of the soak, on loopback, with and without TLS: small answers, content of any size, sinks, slow ones, echoes.
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { TestCa } from "../../test/support/certificates.ts";

export interface SoakOrigins {
  readonly plain: number;
  readonly secure: number;
  /** PEM of the CA that the one with TLS has its certificate from. */
  readonly roots: string;
  close(): Promise<void>;
}

const PIECE = Buffer.alloc(65_536, "sallyport ");

/** `/bytes/N`: N bytes; `/slow/MS`: an answer after so long; a POST is read to its end; anything else: "ok". */
function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
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
  const servers = [
    http.createServer(answer),
    https.createServer(ca.leaf("localhost", { names: ["localhost", "127.0.0.1"] }), answer),
  ];
  const sockets = new Set<Socket>();
  for (const server of servers) {
    server.keepAliveTimeout = 60_000;
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    });
    server.listen({ port: 0, host: "127.0.0.1", backlog: 2_048 });
    await once(server, "listening");
  }
  const [plain, secure] = servers.map((server) => (server.address() as AddressInfo).port) as [number, number];
  return {
    ...{ plain, secure, roots: ca.cert },
    close: async () => {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
