// Origins that do at random what origins do wrong, and remember who asked: reset, hang, break off, lie about a length, say GOAWAY,
// answer early, in pieces, packed.
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { WebSocketServer } from "ws";
import type { Random } from "../../test/fuzz/random.ts";
import { TestCa } from "../../test/support/certificates.ts";

export interface ChaosOrigins {
  readonly plain: number;
  readonly secure: number;
  /** HTTP/2 alone. */
  readonly modern: number;
  /** PEM. */
  readonly roots: string;
  /** How often each path was asked for. */
  readonly seen: ReadonlyMap<string, number>;
  close(): void;
}

type Asked = http.IncomingMessage | http2.Http2ServerRequest;
type Answered = http.ServerResponse | http2.Http2ServerResponse;
type Server = http.Server | http2.Http2SecureServer;

const TEXT = Buffer.alloc(300_000, "lorem ipsum ");

/** On loopback, for the name localhost. Whoever is asked for `/…/gz/…` answers packed. */
export async function startChaosOrigins(dice: Random): Promise<ChaosOrigins> {
  const ca = new TestCa("Chaos CA");
  const leaf = ca.leaf("localhost", { names: ["localhost", "127.0.0.1"] });
  const seen = new Map<string, number>();
  const answer = (asked: Asked, answered: Answered): void => {
    count(seen, asked.url ?? "");
    // Those of HTTP/2 have the same methods, and types that know fewer of them.
    misbehave(dice, asked as http.IncomingMessage, answered as http.ServerResponse);
  };
  const clear = http.createServer(answer);
  const secured = https.createServer(leaf, answer);
  const second = http2.createSecureServer({ ...leaf, allowHTTP1: false }, answer);
  for (const server of [clear, secured]) webSocketsOn(server, dice, seen);
  second.on("session", (session) => {
    session.on("error", () => {});
    if (dice.below(6) > 0) return;
    setTimeout(() => (dice.below(2) === 0 ? session.close() : session.destroy()), dice.below(200));
  });
  const servers: Server[] = [clear, secured, second];
  const sockets = new Set<Socket>();
  for (const server of servers) {
    server.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => {})));
    server.listen({ port: 0, host: "127.0.0.1", backlog: 1_024 });
    await once(server, "listening");
  }
  const [plain = 0, secure = 0, modern = 0] = servers.map((server) => (server.address() as AddressInfo).port);
  return {
    ...{ plain, secure, modern, seen, roots: ca.cert },
    close() {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const count = (seen: Map<string, number>, path: string): unknown => seen.set(path, (seen.get(path) ?? 0) + 1);

/** Ends what carries this response, without a word. */
function breakOff(request: http.IncomingMessage, dice: Random): void {
  const stream = (request as unknown as http2.Http2ServerRequest).stream as http2.ServerHttp2Stream | undefined;
  if (stream !== undefined) stream.close(dice.below(2) === 0 ? 8 : 2);
  else request.socket.destroy();
}

function misbehave(dice: Random, request: http.IncomingMessage, response: http.ServerResponse): void {
  for (const end of [request, response]) end.on("error", () => {});
  const soon = (act: () => void, within = 30): void => void setTimeout(act, dice.below(within));
  const text = TEXT.subarray(0, dice.below(5) === 0 ? TEXT.length : dice.below(3_000));
  const packed = request.url?.includes("/gz/") ?? false;
  const content = packed ? gzipSync(text) : text;
  const manner = dice.below(12);
  if (manner === 0) return breakOff(request, dice);
  if (manner === 1) return soon(() => breakOff(request, dice));
  if (manner === 2) return void request.resume(); // and never answers
  if (packed) response.setHeader("content-encoding", "gzip");
  if (manner === 3) {
    response.setHeader("content-length", content.length + 10);
    response.write(content);
    return soon(() => breakOff(request, dice));
  }
  if (manner === 4) {
    response.write(content);
    return soon(() => response.end());
  }
  if (manner === 5) return void response.end(content); // whatever is still to come
  request.resume().on("end", () => soon(() => response.end(content), 10));
}

function webSocketsOn(server: http.Server, dice: Random, seen: Map<string, number>): void {
  new WebSocketServer({ server }).on("connection", (socket, request) => {
    count(seen, request.url ?? "");
    const manner = dice.below(5);
    socket.on("error", () => {});
    socket.on("message", (data, binary) => {
      if (manner === 0) socket.terminate();
      else if (manner === 1) socket.close(4_001);
      else socket.send(data, { binary });
    });
  });
}
