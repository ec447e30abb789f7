// A port that accepts clients: the proxy port (plain, or TLS to the proxy itself), and the loopback port of each child of
// `sallyport run`, which carries the child's identity.
import net from "node:net";
import tls from "node:tls";
import { connectionRecord } from "../../audit/build.ts";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import { newId } from "../../shared/ids.ts";
import { ClientConnection } from "./client-connection.ts";
import { ClientCount } from "./client-count.ts";
import type { ProxyPort, ProxyServices } from "./services.ts";

export interface ListenerOptions {
  readonly host: string;
  readonly port: number;
  /** TLS to the proxy itself; null: plain. */
  readonly tls: tls.TlsOptions | null;
  /** Who a client is by its certificate; throws ProxyError for a bad one. */
  readonly certificateOf?: (socket: tls.TLSSocket) => ConnectionFacts["clientCertificate"];
  /** A child's port: everything on it is this client (null: anonymous), and no credential is asked for. */
  readonly assigned?: { readonly client: string | null };
}

export interface Listener {
  readonly address: { readonly host: string; readonly port: number };
  /** Stops accepting; open connections go on. */
  stop(): Promise<void>;
}

/** So many connections above its limit a client may have to be told so; those above are closed unread. */
const TOLD = 32;

/** Rejects with the error of `listen` (EADDRINUSE …). */
export function openListener(services: ProxyServices, options: ListenerOptions): Promise<Listener> {
  const clients = new ClientCount();
  const { connectionsPerClient } = services.settings;
  /** Counted from the TCP connection on: a TLS handshake that never ends counts, too. False: it is gone already. */
  const admit = (raw: net.Socket): boolean => {
    const address = addressOf(raw);
    if (address === null) {
      raw.destroy();
      return false;
    }
    if (clients.of(address) >= connectionsPerClient + TOLD) {
      raw.destroy();
      return false;
    }
    clients.enter(address);
    services.metrics.connectionOpened("client");
    raw.on("close", () => {
      services.metrics.connectionClosed("client");
      clients.leave(address);
    });
    return true;
  };
  const accept = (socket: net.Socket, raw: net.Socket): void => {
    const facts = factsOf(services, socket, options);
    if (facts === null) return;
    const address = facts.clientAddress;
    const overLimit = clients.of(address) > connectionsPerClient;
    const { http2 } = services;
    let onPreface: (() => void) | null = null;
    if (http2 !== null && (socket as Partial<tls.TLSSocket>).alpnProtocol === "h2")
      onPreface = () => http2(socket, raw, facts, portOf(clients, address, connectionsPerClient, overLimit));
    new ClientConnection(services, socket, raw, facts, null, overLimit, onPreface);
  };
  const server = options.tls === null ? plainServer(admit, accept) : tlsServer(services, options.tls, admit, accept);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: options.host, port: options.port, backlog: 1_024 }, () => {
      server.off("error", reject);
      // Accepting fails while no descriptor is free: libuv drops the connection and goes on.
      server.on("error", (error) => services.log.error({ err: error }, "the proxy port has a problem"));
      const { address, port } = server.address() as net.AddressInfo;
      resolve({ address: { host: address, port }, stop: () => new Promise((done) => server.close(() => done())) });
    });
  });
}

const portOf = (clients: ClientCount, address: string, most: number, overLimit: boolean): ProxyPort => ({
  overLimit,
  enter: () => clients.of(address) < most && clients.enter(address) > 0,
  leave: () => clients.leave(address),
});

type Admit = (raw: net.Socket) => boolean;
type Accept = (socket: net.Socket, raw: net.Socket) => void;

const plainServer = (admit: Admit, accept: Accept): net.Server =>
  net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    if (admit(socket)) accept(socket, socket);
  });

function tlsServer(services: ProxyServices, own: tls.TlsOptions, admit: Admit, accept: Accept): net.Server {
  const raws = new Map<string, net.Socket>();
  const handshakeTimeout = services.settings.headerTimeout;
  const options = { ...own, handshakeTimeout, allowHalfOpen: true, noDelay: true } as tls.TlsOptions;
  const failures = new WeakMap<net.Socket, Error>();
  const secured = new WeakSet<net.Socket>();
  const server = tls.createServer(options, (socket) => {
    const raw = raws.get(nameOf(socket)) ?? socket;
    secured.add(raw);
    accept(socket, raw);
  });
  server.on("connection", (raw: net.Socket) => {
    if (!admit(raw)) return;
    remember(raws, raw);
    const address = addressOf(raw) ?? "";
    raw.once("close", () => {
      // Who connects and says nothing (a health check) has not tried.
      if (!secured.has(raw) && raw.bytesRead > 0) recordFailed(services, address, failures.get(raw) ?? HUNG_UP);
    });
  });
  server.on("tlsClientError", (error: Error, socket: tls.TLSSocket) => {
    const raw = raws.get(nameOf(socket));
    if (raw !== undefined) failures.set(raw, error);
    socket.destroy();
  });
  return server;
}
const HUNG_UP = new Error("the client closed the connection during the handshake");

/** A TLS handshake with the proxy itself that failed: a connection that ends before a request has a record. */
function recordFailed(services: ProxyServices, address: string, error: Error): void {
  const at = services.clock.now();
  const { reason, detail } = services.classifyClientTls(error, "the proxy");
  services.metrics.tlsHandshake("client", reason === "client-tls-rejected" ? "rejected" : "failed");
  services.log.info({ address, reason }, detail);
  services.sink.append(
    connectionRecord({
      id: newId(at),
      at,
      address,
      decision: "deny",
      reason,
      total: 0,
      clientProtocol: "tls",
      error: "the TLS handshake with the proxy itself failed",
    }),
  );
}

/** The TCP connection under TLS, which is what can be reset. */
function remember(raws: Map<string, net.Socket>, raw: net.Socket): void {
  const name = nameOf(raw);
  raws.set(name, raw);
  raw.once("close", () => {
    if (raws.get(name) === raw) raws.delete(name);
  });
}
const nameOf = (socket: net.Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

/** Null: the connection is gone already. */
function addressOf(socket: net.Socket): string | null {
  const address = socket.remoteAddress;
  if (address === undefined) return null;
  return address.startsWith("::ffff:") ? address.slice(7) : address;
}

function factsOf(services: ProxyServices, socket: net.Socket, options: ListenerOptions): ConnectionFacts | null {
  const address = addressOf(socket);
  if (address === null) {
    socket.destroy();
    return null;
  }
  let clientCertificate: ConnectionFacts["clientCertificate"] = null;
  if (options.certificateOf !== undefined) {
    try {
      clientCertificate = options.certificateOf(socket as tls.TLSSocket);
    } catch (error) {
      recordFailed(services, address, error as Error);
      socket.destroy();
      return null;
    }
  }
  return {
    clientAddress: address,
    clientPort: socket.remotePort ?? 0,
    assignedClient: options.assigned?.client ?? null,
    trusted: options.assigned !== undefined,
    clientCertificate,
    connect: null,
  };
}
