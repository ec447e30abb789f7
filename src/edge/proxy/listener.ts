// A port that accepts clients: the proxy port (plain, or TLS to the proxy itself), and the loopback port of each child of
// `sallyport run`, which carries the child's identity.
import net from "node:net";
import tls from "node:tls";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import { ClientConnection } from "./client-connection.ts";
import type { ProxyServices } from "./services.ts";

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

/** Rejects with the error of `listen` (EADDRINUSE …). */
export function openListener(services: ProxyServices, options: ListenerOptions): Promise<Listener> {
  const perAddress = new Map<string, number>();
  const raws = new Map<string, net.Socket>();
  const accept = (socket: net.Socket, raw: net.Socket): void => {
    const facts = factsOf(socket, options);
    if (facts === null) return;
    const count = (perAddress.get(facts.clientAddress) ?? 0) + 1;
    perAddress.set(facts.clientAddress, count);
    services.metrics.connectionOpened("client");
    socket.once("close", () => {
      services.metrics.connectionClosed("client");
      const left = (perAddress.get(facts.clientAddress) ?? 1) - 1;
      if (left > 0) perAddress.set(facts.clientAddress, left);
      else perAddress.delete(facts.clientAddress);
    });
    new ClientConnection(services, socket, raw, facts, null, count > services.settings.connectionsPerClient);
  };
  const server =
    options.tls === null
      ? net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => accept(socket, socket))
      : tls.createServer({ ...options.tls, allowHalfOpen: true, noDelay: true } as tls.TlsOptions, (socket) =>
          accept(socket, raws.get(nameOf(socket)) ?? socket),
        );
  if (options.tls !== null) server.on("connection", (raw: net.Socket) => remember(raws, raw));
  server.on("tlsClientError", (_error: Error, socket: tls.TLSSocket) => socket.destroy());
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

/** The TCP connection under TLS, which is what can be reset. */
function remember(raws: Map<string, net.Socket>, raw: net.Socket): void {
  const name = nameOf(raw);
  raws.set(name, raw);
  raw.once("close", () => {
    if (raws.get(name) === raw) raws.delete(name);
  });
}
const nameOf = (socket: net.Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

function factsOf(socket: net.Socket, options: ListenerOptions): ConnectionFacts | null {
  const address = socket.remoteAddress;
  if (address === undefined) {
    socket.destroy();
    return null;
  }
  let clientCertificate: ConnectionFacts["clientCertificate"] = null;
  if (options.certificateOf !== undefined) {
    try {
      clientCertificate = options.certificateOf(socket as tls.TLSSocket);
    } catch {
      socket.destroy();
      return null;
    }
  }
  return {
    clientAddress: address.startsWith("::ffff:") ? address.slice(7) : address,
    clientPort: socket.remotePort ?? 0,
    assignedClient: options.assigned?.client ?? null,
    trusted: options.assigned !== undefined,
    clientCertificate,
    connect: null,
  };
}
