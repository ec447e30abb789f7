// A client of the soak: one connection, one request at a time, counting instead of keeping.
import { once } from "node:events";
import net, { type Socket } from "node:net";
import tls from "node:tls";

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
  const secured = tls.connect({ socket, ca, servername: "", host: "127.0.0.1" });
  await once(secured, "secureConnect");
  return new SoakClient(secured);
}
