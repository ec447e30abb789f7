// Clients of the soak: one connection, one request at a time, counting instead of keeping; sessions of HTTP/2; WebSockets.
import { once } from "node:events";
import http2, { type ClientHttp2Session } from "node:http2";
import net, { type Socket } from "node:net";
import tls from "node:tls";
import { WebSocket } from "ws";

export interface Answer {
  readonly status: number;
  /** Bytes of content. */
  readonly bytes: number;
}

export class SoakClient {
  readonly socket: Socket;
  private head = "";
  private inside = false;
  private status = 0;
  private left = 0;
  private bytes = 0;
  private waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | null = null;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (b: Buffer) => this.read(b));
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("closed")));
  }

  /** Sends one request and waits for its whole answer. Rejects when it breaks off. */
  ask(head: string, content?: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      if (this.socket.destroyed) return this.fail(new Error("closed"));
      this.socket.write(head, "latin1");
      if (content !== undefined) this.socket.write(content);
    });
  }

  /** The same, with `total` bytes of content in pieces, at the pace of the other side. */
  async upload(head: string, total: number, piece: Buffer): Promise<Answer> {
    const answer = this.ask(head);
    answer.catch(() => {});
    for (let left = total; left > 0 && !this.socket.destroyed; left -= piece.length) {
      const part = left >= piece.length ? piece : piece.subarray(0, left);
      if (!this.socket.write(part)) await Promise.race([once(this.socket, "drain"), answer]);
    }
    return answer;
  }

  destroy(): void {
    this.socket.destroy();
  }

  private read(b: Buffer): void {
    let from = 0;
    while (from < b.length) {
      if (!this.inside) {
        const before = this.head.length;
        this.head += b.toString("latin1", from);
        const end = this.head.indexOf("\r\n\r\n");
        if (end < 0) return;
        from += end + 4 - before;
        this.status = Number(this.head.slice(9, 12));
        this.left = Number(/\r\ncontent-length: *(\d+)/i.exec(this.head)?.[1] ?? 0);
        this.bytes = 0;
        this.head = "";
        this.inside = true;
      }
      const n = Math.min(this.left, b.length - from);
      this.left -= n;
      this.bytes += n;
      from += n;
      if (this.left > 0) return;
      this.inside = false;
      const { waiting } = this;
      this.waiting = null;
      waiting?.resolve({ status: this.status, bytes: this.bytes });
    }
  }

  private fail(error: Error): void {
    const { waiting } = this;
    this.waiting = null;
    waiting?.reject(error);
  }
}

export async function connectTo(port: number, localAddress = "127.0.0.1"): Promise<SoakClient> {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress, noDelay: true });
  await once(socket, "connect");
  return new SoakClient(socket);
}

/** CONNECT; throws unless it is answered 200. */
export async function tunnelTo(port: number, authority: string, localAddress?: string): Promise<Socket> {
  const client = await connectTo(port, localAddress);
  const { status } = await client.ask(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  if (status !== 200) {
    client.destroy();
    throw new Error(`CONNECT ${authority}: ${status}`);
  }
  client.socket.removeAllListeners("data").removeAllListeners("error").removeAllListeners("close");
  return client.socket;
}

/** CONNECT and TLS inside. */
export async function securedTo(
  port: number,
  authority: string,
  ca: string,
  localAddress?: string,
): Promise<SoakClient> {
  const socket = await tunnelTo(port, authority, localAddress);
  return new SoakClient(await tlsOn(socket, ca));
}

async function tlsOn(socket: Socket, ca: string, alpn: string[] = []): Promise<tls.TLSSocket> {
  const secured = tls.connect({ socket, ca, servername: "", host: "127.0.0.1", ALPNProtocols: alpn });
  await once(secured, "secureConnect");
  return secured;
}

/** CONNECT, TLS inside, and HTTP/2 in that. */
export async function sessionTo(port: number, authority: string, ca: string): Promise<ClientHttp2Session> {
  const socket = await tlsOn(await tunnelTo(port, authority), ca, ["h2"]);
  return http2.connect(`https://${authority}`, { createConnection: () => socket }).on("error", () => {});
}

/**
 * One request on a session. Rejects when its answer breaks off; one of which every declared byte came is whole, whatever
 * comes after, since clients take it for that.
 */
export function askOver(session: ClientHttp2Session, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    if (session.closed || session.destroyed) return reject(new Error("closed"));
    const stream = session.request({ ":path": path }).on("error", () => {});
    let status = 0;
    let declared = -1;
    let bytes = 0;
    let whole = false;
    const { push } = stream;
    stream.push = function (chunk: unknown, ...rest: []): boolean {
      if (chunk === null && !this.closed) whole = true; // END_STREAM, and not what node:http2 makes of a reset
      return push.call(this, chunk, ...rest);
    };
    stream.on("response", (headers) => {
      status = Number(headers[":status"]);
      declared = Number(headers["content-length"] ?? -1);
    });
    stream.on("data", (b: Buffer) => {
      bytes += b.length;
      if (bytes === declared) resolve({ status, bytes });
    });
    stream.on("close", () => {
      if (whole && stream.rstCode === 0 && status > 0) resolve({ status, bytes });
      else reject(new Error(`reset with ${stream.rstCode}`));
    });
  });
}

/** A WebSocket to `path` of an origin, over `socket`: a connection to the proxy, or one inside CONNECT. Rejects unless it opens. */
export async function webSocketOver(socket: Socket, host: string, path: string): Promise<WebSocket> {
  socket.removeAllListeners("data");
  const opened = new WebSocket(`ws://${host}${path}`, {
    createConnection: () => socket,
    finishRequest: (request) => {
      if (!(socket instanceof tls.TLSSocket)) request.path = `http://${host}${path}`;
      request.end();
    },
  });
  await once(opened, "open");
  return opened.on("error", () => {});
}
