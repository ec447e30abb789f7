// A door before a house whose proxy port speaks TLS and HTTP/2: clients of HTTP/1.1 come in, and each of their CONNECTs goes on
// as a stream of one session for each source address. So what was written for HTTP/1.1 is played over HTTP/2 as well.
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { resetConnection } from "../../src/edge/proxy/reset.ts";
import { proxySession } from "./h2-proxy.ts";

export class H2Door {
  readonly port: number;
  private readonly server: net.Server;
  private readonly sessions: Map<string, Promise<ClientHttp2Session>>;

  constructor(server: net.Server, sessions: Map<string, Promise<ClientHttp2Session>>) {
    this.server = server;
    this.sessions = sessions;
    this.port = (server.address() as net.AddressInfo).port;
  }

  async close(): Promise<void> {
    this.server.close();
    for (const session of await Promise.allSettled(this.sessions.values()))
      if (session.status === "fulfilled") session.value.destroy();
  }
}

/** `port`: of the house. What is not CONNECT goes there in HTTP/1.1, and so does everything where `http2` is false. */
export async function openH2Door(port: number, http2 = true): Promise<H2Door> {
  const sessions = new Map<string, Promise<ClientHttp2Session>>();
  const sessionFor = async (from: string): Promise<ClientHttp2Session> => {
    const old = await sessions.get(from);
    if (old !== undefined && !old.closed && !old.destroyed) return old;
    const made = proxySession(port, { from });
    sessions.set(from, made);
    return made;
  };
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => {});
    if (!http2) direct(socket, Buffer.alloc(0), port);
    else serve(socket, port, sessionFor).catch(() => socket.resetAndDestroy());
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return new H2Door(server, sessions);
}

type SessionFor = (from: string) => Promise<ClientHttp2Session>;

async function serve(socket: net.Socket, port: number, sessionFor: SessionFor): Promise<void> {
  for (;;) {
    const bytes = await head(socket);
    if (bytes === null) return void socket.destroy();
    const text = bytes.toString("latin1");
    const end = text.indexOf("\r\n\r\n") + 4;
    if (!text.startsWith("CONNECT ") || end === 3) return direct(socket, bytes, port);
    const from = socket.remoteAddress?.replace("::ffff:", "") ?? "127.0.0.1";
    const stream = (await sessionFor(from)).request(headersOf(text.slice(0, end)), {
      endStream: false,
      waitForTrailers: true,
    });
    socket.unshift(bytes.subarray(end));
    const answer = await answered(stream);
    if (Number(answer[":status"]) === 200) {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      return join(socket, stream);
    }
    const pieces: Buffer[] = [];
    for await (const piece of stream) pieces.push(piece as Buffer);
    const lines = Object.entries(answer).filter(([name]) => !name.startsWith(":"));
    socket.write(`HTTP/1.1 ${answer[":status"]} \r\n${lines.map(([n, v]) => `${n}: ${v}\r\n`).join("")}\r\n`);
    socket.write(Buffer.concat(pieces));
  }
}

function head(socket: net.Socket): Promise<Buffer | null> {
  return new Promise((resolve) => {
    let held = Buffer.alloc(0);
    const stop = (result: Buffer | null): void => {
      socket.off("data", onData).off("end", onEnd).off("close", onEnd);
      socket.pause();
      resolve(result);
    };
    const onEnd = (): void => stop(held.length > 0 ? held : null);
    const onData = (b: Buffer): void => {
      held = Buffer.concat([held, b]);
      const prefix = "CONNECT ".startsWith(held.toString("latin1", 0, 8));
      if (held.includes("\r\n\r\n") || !prefix) stop(held);
    };
    socket.on("data", onData).on("end", onEnd).on("close", onEnd);
    socket.resume();
  });
}

function headersOf(text: string): Record<string, string | string[]> {
  const [first = "", ...lines] = text.trimEnd().split("\r\n");
  const headers: Record<string, string | string[]> = { ":method": "CONNECT", ":authority": first.split(" ")[1] ?? "" };
  for (const line of lines) {
    const name = line.slice(0, line.indexOf(":")).toLowerCase();
    if (!["host", "connection", "proxy-connection"].includes(name))
      headers[name] = line.slice(line.indexOf(":") + 1).trim();
  }
  return headers;
}

function answered(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    stream.once("response", resolve).once("close", () => reject(new Error("reset")));
    stream.on("error", () => {});
  });
}

/** FIN is END_STREAM and a reset RST_STREAM, both ways. */
function join(socket: net.Socket, stream: ClientHttp2Stream): void {
  let whole = false;
  const push = stream.push;
  stream.push = function (chunk: unknown, ...rest: []): boolean {
    if (chunk === null && !this.closed) whole = true;
    return push.call(this, chunk, ...rest);
  };
  stream.on("data", (b: Buffer) => socket.write(b) || stream.pause());
  socket.on("drain", () => stream.resume());
  stream.on("end", () => {
    if (whole) socket.end();
  });
  stream.on("close", () => {
    if (!whole || stream.rstCode !== 0) resetConnection(socket);
  });
  socket.on("data", (b: Buffer) => {
    if (!stream.destroyed && !stream.closed && !stream.write(b)) socket.pause();
  });
  stream.on("drain", () => socket.resume());
  socket.on("end", () => stream.end());
  socket.on("error", () => stream.close(8));
  socket.on("close", () => {
    if (!stream.closed && !stream.writableEnded) stream.close(8);
    // As TCP does for who has closed and is sent more.
    else setTimeout(() => stream.closed || stream.close(8), 200).unref();
  });
  socket.resume();
}

function direct(socket: net.Socket, first: Buffer, port: number): void {
  const from = socket.remoteAddress?.replace("::ffff:", "") ?? "127.0.0.1";
  const raw = net.connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true, allowHalfOpen: true });
  const secured = tls.connect({ socket: raw, ALPNProtocols: ["http/1.1"], rejectUnauthorized: false });
  for (const end of [raw, secured]) end.on("error", () => resetConnection(socket));
  secured.write(first);
  socket.pipe(secured);
  secured.pipe(socket);
  socket.on("error", () => raw.resetAndDestroy());
  socket.on("close", () => raw.destroySoon());
}
