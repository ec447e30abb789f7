// The proxy port, a second time: node:http's server reads the requests, on the port itself and inside CONNECT. Decisions,
// limits, filters and records are those of the house: the relay and the line are the same.
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { connectRecord } from "../../src/audit/build.ts";
import type { Listener } from "../../src/edge/proxy/listener.ts";
import { readTarget } from "../../src/edge/proxy/request-target.ts";
import type { ProxyServices } from "../../src/edge/proxy/services.ts";
import { type ConnectContext, type ConnectionFacts, Exchange } from "../../src/exchange/exchange.ts";
import { refusal } from "../../src/exchange/refusal.ts";
import { Relay } from "../../src/exchange/relay.ts";
import { allValues, firstValue } from "../../src/http/fields.ts";
import type { Authority, RequestHead } from "../../src/http/messages.ts";
import { Head } from "../../src/http/parse-head.ts";
import { fieldLines } from "../../src/http/serialise.ts";
import { authorityText, parseConnectTarget } from "../../src/http/target.ts";
import type { ConnectDecision } from "../../src/policy/types.ts";
import { asProxyError, ProxyError } from "../../src/shared/errors.ts";
import { newId } from "../../src/shared/ids.ts";
import { identify } from "../../src/stages/authenticate.ts";
import { NodeHttpClientSide } from "./node-http-client-side.ts";

/** Opens a proxy port on 127.0.0.1. */
export async function openReference(services: ProxyServices): Promise<Listener> {
  const port = new ReferencePort(services);
  const server = net.createServer({ allowHalfOpen: true }, (socket) => port.accept(socket, null));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: { host: "127.0.0.1", port: (server.address() as net.AddressInfo).port },
    stop: async () => {
      const closed = once(server, "close");
      server.close();
      port.closeAll();
      await closed;
    },
  };
}

class ReferencePort {
  private readonly services: ProxyServices;
  private readonly server: http.Server;
  private readonly sockets = new Set<net.Socket>();
  private readonly factsOf = new WeakMap<Duplex, ConnectionFacts>();

  constructor(services: ProxyServices) {
    this.services = services;
    const { headers } = services.policy().defaults.limits;
    this.server = http.createServer({ maxHeaderSize: headers, requireHostHeader: false, keepAliveTimeout: 60_000 });
    this.server.on("request", (request, response) => this.exchange(request, response, false));
    this.server.on("checkContinue", (request, response) => this.exchange(request, response, true));
    this.server.on("connect", (request, socket, rest) => void this.connect(request, socket as net.Socket, rest));
  }

  accept(socket: Duplex, inside: ConnectionFacts | null): void {
    if (socket instanceof net.Socket) {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    }
    socket.on("error", () => socket.destroy());
    const { remoteAddress = "", remotePort = 0 } = socket as net.Socket;
    this.factsOf.set(
      socket,
      inside ?? {
        clientAddress: remoteAddress,
        clientPort: remotePort,
        assignedClient: null,
        trusted: false,
        clientCertificate: null,
        connect: null,
      },
    );
    this.server.emit("connection", socket);
  }

  closeAll(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.closeAllConnections();
  }

  private exchange(request: http.IncomingMessage, response: http.ServerResponse, expects: boolean): void {
    const { services } = this;
    const facts = this.factsOf.get(request.socket) as ConnectionFacts;
    const head = headOf(request);
    const scheme = facts.connect === null ? null : facts.connect.intercepted ? "https" : "http";
    const target = readTarget(head, scheme, facts.connect);
    if (target.request === null) throw new Error("the reference is for well-formed requests");
    const now = services.clock.now();
    const length = head.chunked ? -1 : Math.max(0, head.length);
    const received: RequestHead = target.request;
    const x = new Exchange(newId(now), now, services.clock.tick(), facts, services.policy(), received, length);
    if (target.hostReplaced !== null) {
      x.hostText = authorityText(received, received.scheme);
      x.note("host-replaced");
    }
    const side = new NodeHttpClientSide(request, response);
    const relay = new Relay(services, side, x, expects && length !== 0);
    side.relay = relay;
    const deadline = services.wheel.start({ expire: () => relay.poll() }, 500);
    response.on("close", () => deadline.stop());
    const refused = target.error ?? (request.method === "TRACE" ? new ProxyError("method-not-allowed") : null);
    if (refused === null) return relay.start();
    x.principal = facts.connect?.client ?? null;
    if (length === 0) x.requestComplete = true;
    relay.refuse(refused);
  }

  // ---- CONNECT ----------------------------------------------------------------------------------------------------------

  private async connect(request: http.IncomingMessage, socket: net.Socket, rest: Buffer): Promise<void> {
    const { services } = this;
    const facts = this.factsOf.get(socket) as ConnectionFacts;
    const authority = parseConnectTarget(request.url ?? "") as Authority;
    const at = services.clock.now();
    const common = { id: newId(at), at, address: facts.clientAddress, authority, total: 0, clientProtocol: "1.1" };
    let client: string | null = null;
    let decision: ConnectDecision | null = null;
    try {
      client = await identify(services.authenticator(), request.rawHeaders, facts, at);
      decision = services.policy().decideConnect({ client, address: facts.clientAddress, ...authority });
      if (decision.kind !== "intercept") throw new ProxyError(decision.reason ?? "not-allowed", decision.message);
      services.checkLiteral(authority.host, authority.port);
    } catch (thrown) {
      const error = asProxyError(thrown);
      const rule = decision?.rule ?? null;
      services.sink.append(
        connectRecord({ ...common, client, decision: "deny", rule, reason: error.reason, status: error.status }),
      );
      const accept = firstValue(request.rawHeaders, "accept");
      const local = refusal(error, { id: common.id, accept, rule, message: error.message }, services.refusalOptions());
      socket.end(
        `HTTP/1.1 ${local.status} ${local.phrase}\r\n${fieldLines(local.fields, local.content.length, null)}\r\n`,
      );
      return;
    }
    const { outcome, reason, rule } = decision;
    services.sink.append(connectRecord({ ...common, client, decision: outcome, rule, reason, status: 200 }));
    socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
    const context = { record: common.id, authority, client, sni: null, sniMismatch: false, alias: null };
    const first = rest.length > 0 ? rest : (((await once(socket, "data")) as [Buffer])[0] ?? Buffer.alloc(0));
    socket.pause();
    socket.unshift(first);
    if (first[0] !== 22) return this.inside(socket, facts, { ...context, intercepted: false });
    await this.intercept(socket, facts, context);
  }

  private async intercept(
    socket: net.Socket,
    facts: ConnectionFacts,
    context: Omit<ConnectContext, "intercepted">,
  ): Promise<void> {
    const secureContext = await this.services.leafFor(context.authority.host);
    const secured = new tls.TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ["http/1.1"] });
    secured.on("error", () => socket.destroy());
    await once(secured, "secure");
    const name = (secured as { servername?: string | false }).servername;
    const sni = typeof name === "string" && name !== "" ? name : null;
    const sniMismatch = sni !== null && sni !== context.authority.host;
    this.inside(secured, facts, { ...context, intercepted: true, sni, sniMismatch });
  }

  private inside(socket: Duplex, facts: ConnectionFacts, connect: ConnectContext): void {
    this.accept(socket, { ...facts, connect });
    socket.resume();
  }
}

/** What our own parser would have made of it. */
function headOf(request: http.IncomingMessage): Head {
  const head = new Head();
  head.method = request.method ?? "";
  head.target = request.url ?? "";
  head.minor = request.httpVersionMinor;
  head.fields = request.rawHeaders;
  head.host = firstValue(head.fields, "host");
  head.chunked = allValues(head.fields, "transfer-encoding").length > 0;
  head.length = Number(firstValue(head.fields, "content-length") ?? -1);
  return head;
}
