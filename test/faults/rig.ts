// What the fault tables stand on: a house with short limits, a name server, origins and clients that can really reset a
// connection (under TLS too), and the ways into the house. Each case has a source address of its own, by which its records
// are found again.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import net, { type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { resetUnder } from "../../src/edge/proxy/reset.ts";
import { startHouse } from "../../src/roles/house.ts";
import { type KeyAndCertificate, TestCa } from "../support/certificates.ts";
import { type DnsAnswer, startDns, type TestDns } from "../support/dns.ts";
import { TestHouse } from "../support/house.ts";
import { RawConnection } from "../support/raw-client.ts";

export { blackHole } from "../support/black-hole.ts";

export const WAYS = ["plain", "intercepted", "clear text inside CONNECT", "blind tunnel"] as const;
export type Way = (typeof WAYS)[number];
export const HTTP_WAYS = WAYS.slice(0, 3) as readonly Way[];

/** One connection at an origin: the TCP connection, and what is spoken on it. */
export interface Meeting {
  readonly raw: Socket;
  readonly socket: Socket;
  text: string;
  closed: boolean;
}
/** Called at each empty line that ends a request head. */
export type Script = (meeting: Meeting) => void;

export interface FaultyOrigin {
  readonly port: number;
  readonly meetings: readonly Meeting[];
  close(): Promise<void>;
}

const context = (leaf: KeyAndCertificate) => tls.createSecureContext(leaf);

/** An origin whose script is found by the path of the request. */
export async function startOrigin(
  script: (path: string) => Script,
  leaf: KeyAndCertificate | null,
): Promise<FaultyOrigin> {
  const secureContext = leaf === null ? null : context(leaf);
  return listening((raw, meetings) => {
    const socket = secureContext === null ? raw : new tls.TLSSocket(raw, { isServer: true, secureContext });
    const meeting: Meeting = { raw, socket, text: "", closed: false };
    meetings.push(meeting);
    raw.on("close", () => {
      meeting.closed = true;
    });
    let seen = 0;
    socket.on("error", () => raw.destroy());
    socket.on("end", () => socket.end());
    socket.on("data", (b: Buffer) => {
      meeting.text += b.toString("latin1");
      for (let at = meeting.text.indexOf("\r\n\r\n", seen); at >= 0; at = meeting.text.indexOf("\r\n\r\n", seen)) {
        const path = /^[A-Z]+ (\S+) HTTP/m.exec(meeting.text.slice(seen, at))?.[1];
        seen = at + 4;
        if (path !== undefined) script(path)(meeting);
      }
    });
  });
}

/** A port that does this with each connection. */
export async function listening(accept: (raw: Socket, meetings: Meeting[]) => void): Promise<FaultyOrigin> {
  const meetings: Meeting[] = [];
  const sockets = new Set<Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (raw) => {
    sockets.add(raw);
    raw.on("error", () => {});
    raw.on("close", () => sockets.delete(raw));
    accept(raw, meetings);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    meetings,
    close: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      if (server.listening) await once(server, "close");
    },
  };
}

/** A client's connection, and the TCP connection under it. */
export class Client extends RawConnection {
  readonly raw: Socket;
  constructor(socket: Socket, raw: Socket) {
    super(socket);
    this.raw = raw;
    raw.on("error", () => {});
    // Bytes and a reset that come together look like an end to Node: ask the system which it was.
    socket.on("end", () => {
      if (this.ending !== "end" || raw.destroyed || !raw.writable) return;
      // Nothing is written: TLS writes to the handle itself, and takes the end of a foreign write for its own.
      const { _handle: handle } = raw as unknown as {
        readonly _handle: { getpeername(address: object): number } | null;
      };
      if (handle?.getpeername({}) !== 0) this.ending = "reset";
    });
  }
  reset(): void {
    resetUnder(this.raw, this.socket);
  }
}

export interface Rig {
  readonly house: TestHouse;
  readonly dns: TestDns;
  readonly originCa: TestCa;
  newAddress(): string;
  /** A connection to the proxy port. */
  open(address: string): Promise<Client>;
  /** The CONNECT is sent and its answer read. Throws unless it is 200. */
  connect(authority: string, address: string): Promise<Client>;
  /** On that way, ready for requests. The blind tunnel ends TLS at the origin. */
  enter(way: Way, host: string, port: number, address: string): Promise<Client>;
  close(): Promise<void>;
}

export interface RigOptions {
  readonly policy: string;
  readonly dns?: DnsAnswer;
  readonly originCa?: TestCa;
}

/** Starts the house. Names under `.test` are 127.0.0.1 unless `dns` says otherwise. */
export async function startRig(options: RigOptions): Promise<Rig> {
  const originCa = options.originCa ?? new TestCa();
  const dns = await startDns((name, type, count) => {
    const own = options.dns?.(name, type, count);
    if (own !== undefined) return own;
    if (!name.endsWith(".test")) return { code: "nxdomain" };
    return { addresses: type === "A" ? ["127.0.0.1"] : [] };
  });
  const dir = mkdtempSync(join(tmpdir(), "sallyport-faults-"));
  writeFileSync(join(dir, "roots.pem"), originCa.cert);
  writeFileSync(join(dir, "policy.yaml"), `version: 1\ntls: { roots: [roots.pem] }\n${options.policy}`);
  const house = new TestHouse(
    dir,
    await startHouse({
      configFiles: [join(dir, "policy.yaml")],
      flags: {
        listen: "127.0.0.1:0",
        admin: "127.0.0.1:0",
        data: join(dir, "data"),
        ca: join(dir, "ca"),
        logLevel: "error",
      },
      env: process.env,
      resolver: { servers: [dns.server], deadline: 2_500 },
    }),
  );
  let addresses = 0;
  const rig: Rig = {
    house,
    dns,
    originCa,
    newAddress: () => {
      addresses++;
      return `127.78.${addresses >> 8}.${addresses & 255}`;
    },
    open: async (address) => {
      const raw = net.connect({ port: house.port, host: "127.0.0.1", localAddress: address, allowHalfOpen: true });
      await once(raw, "connect");
      raw.setNoDelay(true);
      return new Client(raw, raw);
    },
    connect: async (authority, address) => {
      const client = await rig.open(address);
      client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
      const head = await client.until((text) => text.includes("\r\n\r\n"));
      client.bytes = Buffer.alloc(0);
      if (!head.startsWith("HTTP/1.1 200 ")) {
        client.destroy();
        throw new Refused(head);
      }
      return client;
    },
    enter: async (way, host, port, address) => {
      if (way === "plain") return rig.open(address);
      const outer = await rig.connect(`${host}:${port}`, address);
      if (way === "clear text inside CONNECT") return outer;
      return secured(outer, host, way === "intercepted" ? house.ca : originCa.cert);
    },
    close: async () => {
      await house.close();
      await dns.close();
    },
  };
  return rig;
}

/** The answer to a CONNECT that was not 200. */
export class Refused extends Error {
  readonly status: number;
  constructor(head: string) {
    super(head.split("\r\n")[0]);
    this.status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]);
  }
}

/** A TLS handshake inside. */
export async function secured(outer: Client, servername: string, ca: string): Promise<Client> {
  outer.socket.removeAllListeners("data");
  const socket = tls.connect({ socket: outer.raw, servername, ca, allowHalfOpen: true } as tls.ConnectionOptions);
  await new Promise<void>((resolve, reject) => {
    socket.once("secureConnect", resolve);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed during the handshake")));
  });
  return new Client(socket, outer.raw);
}

export const sha256 = (text: string | Buffer): string => createHash("sha256").update(text).digest("hex");

/** Connections of this process: TCP and TLS, listening ports apart. */
export const connections = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap" || name === "TLSWrap").length;
