// What comes inside an opened CONNECT: the first bytes tell. TLS is ended here with a leaf for the name, clear-text HTTP
// gets the whole HTTP policy, and anything else follows `server.opaque`.
import type net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { connectionRecord } from "../../audit/build.ts";
import type { ConnectContext, ConnectionFacts } from "../../exchange/exchange.ts";
import { canonicalHost } from "../../http/target.ts";
import { wantsHttp } from "../../policy/plan.ts";
import type { Reason } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import { ClientConnection } from "./client-connection.ts";
import type { Connect } from "./connect.ts";
import { sniff } from "./sniff.ts";
import type { Deadline } from "./timers.ts";
import { opaqueTunnel } from "./tunnel.ts";

/** How HTTP/2 with prior knowledge begins (RFC 9113 section 3.4): no other request has this method. */
const PREFACE = "PRI ";
/** Protocols of ALPN in order of preference, as they are sent (RFC 7301 section 3.1): node:tls would write lists anew each time. */
const HTTP1 = Buffer.from("\x08http/1.1", "latin1");
const HTTP2_FIRST = Buffer.from("\x02h2\x08http/1.1", "latin1");
const ipLiteral = (host: string): boolean => host.includes(":") || /^\d+\.\d+\.\d+\.\d+$/.test(host);

export class InnerConnection {
  private readonly connect: Connect;
  private readonly socket: Duplex;
  private held: Buffer;
  private readonly deadline: Deadline;
  private secured: tls.TLSSocket | null = null;
  private over = false;
  /** The first bytes have told: this does not read any more. */
  private known = false;
  private readonly onData = (b: Buffer): void => this.guarded(() => this.bytes(b));
  private readonly onClosed = (): void => this.ended();

  constructor(connect: Connect, socket: Duplex, rest: Buffer) {
    const { services } = connect.side;
    this.connect = connect;
    this.socket = socket;
    this.held = rest;
    this.deadline = services.wheel.start(this, services.settings.headerTimeout);
    services.open.add(this);
    socket.on("error", () => socket.destroy());
    socket.on("data", this.onData).on("end", this.onClosed).on("close", this.onClosed);
    if (rest.length > 0) this.bytes(Buffer.alloc(0));
    // What comes while a leaf is being made waits for TLS: nobody listens to it here.
    if (this.known) return;
    if (socket.readableEnded) this.ended();
    else socket.resume();
  }

  private bytes(b: Buffer): void {
    if (b.length > 0) this.held = this.held.length === 0 ? b : Buffer.concat([this.held, b]);
    const kind = sniff(this.held);
    if (kind === "more") return;
    this.known = true;
    this.socket.off("data", this.onData);
    this.socket.pause();
    if (kind === "tls") this.intercept();
    else if (kind === "http") this.clearText();
    else this.opaque();
  }

  /** A bug costs one connection. */
  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.connect.side.services.log.error({ err: error }, "a connection failed inside the proxy");
      this.over = false;
      this.fail("internal", "an error of the proxy itself");
    }
  }

  private clearText(): void {
    this.leave();
    const facts = this.innerFacts({ intercepted: false, sni: null, sniMismatch: false, alias: null });
    const { services } = this.connect.side;
    if (services.http2 !== null && this.held.toString("latin1", 0, PREFACE.length) === PREFACE) {
      this.socket.unshift(this.held);
      services.http2(this.socket, this.socket, facts, null);
      return;
    }
    const inner = new ClientConnection(services, this.socket, this.socket, facts, "http");
    this.socket.resume(); // before it reads, since it may have to pause
    inner.receive(this.held.length, this.held);
    if (this.socket.readableEnded) inner.ended();
  }

  private opaque(): void {
    if (this.connect.side.services.settings.opaque !== "tunnel") {
      return this.fail(
        "opaque-protocol",
        "neither TLS nor HTTP inside CONNECT; `server.opaque: tunnel` would let it pass",
      );
    }
    const { decision } = this.connect;
    const plan = decision?.opaque ?? null;
    if (plan === null || wantsHttp(plan)) {
      const why = plan === null ? "only some methods or paths are allowed" : "its rule redirects or looks at content";
      return this.fail("opaque-protocol", `neither TLS nor HTTP inside CONNECT, and ${why}`);
    }
    this.leave();
    this.socket.pause(); // until there is somebody to read, however it came here
    opaqueTunnel(this.connect, plan, this.socket, this.held);
  }

  // ---- TLS ------------------------------------------------------------------------------------------------------------

  private intercept(): void {
    const { services } = this.connect.side;
    const { host } = this.connect.authority;
    const leaf = services.leafFor(host);
    if (leaf instanceof Promise)
      leaf.then(
        (context) => this.guarded(() => this.handshake(context)),
        (error) => this.fail("internal", "no certificate could be made", error),
      );
    else this.handshake(leaf);
  }

  private handshake(context: tls.SecureContext): void {
    if (this.over || this.socket.destroyed) return;
    const { services } = this.connect.side;
    const { host } = this.connect.authority;
    this.socket.unshift(this.held);
    // It takes any Duplex; those that are no net.Socket go through a wrapper of Node's own.
    const secured = new tls.TLSSocket(this.socket as net.Socket, {
      isServer: true,
      secureContext: context,
      ALPNProtocols: services.http2 === null ? HTTP1 : HTTP2_FIRST,
      // CONNECT to an address with a name in SNI: the client will check the name.
      ...(ipLiteral(host)
        ? { SNICallback: (name: string, done: LeafCallback) => this.leafForName(name, context, done) }
        : {}),
    });
    this.secured = secured;
    secured.on("error", this.onTlsError);
    // A FIN inside the handshake closes nothing by itself, since the other half may stay open.
    secured.on("end", this.onClosed).on("close", this.onClosed);
    secured.once("secure", () => this.guarded(() => this.secure(secured)));
  }

  private readonly onTlsError = (error: Error): void => {
    if (this.over) return;
    const { services } = this.connect.side;
    const { reason, detail } = services.classifyClientTls(error, this.connect.authority.host);
    services.metrics.tlsHandshake("client", reason === "client-tls-rejected" ? "rejected" : "failed");
    if (reason === "client-tls-rejected") services.metrics.clientTlsRejected();
    services.log.info({ host: this.connect.authority.host, client: this.connect.client, reason }, detail);
    this.fail(reason, detail);
  };

  private leafForName(name: string, fallback: tls.SecureContext, done: LeafCallback): void {
    const host = canonicalHost(name);
    if (host === null || ipLiteral(host)) return done(null, fallback);
    Promise.resolve(this.connect.side.services.leafFor(host)).then(
      (c) => done(null, c),
      (e) => done(e as Error),
    );
  }

  private secure(secured: tls.TLSSocket): void {
    const { side, authority } = this.connect;
    const { services } = side;
    services.metrics.tlsHandshake("client", secured.isSessionReused() ? "resumed" : "full");
    this.leave();
    secured.off("error", this.onTlsError).off("end", this.onClosed).off("close", this.onClosed);
    const name = (secured as { servername?: string | false }).servername;
    const sni = typeof name === "string" && name !== "" ? name.toLowerCase() : null;
    const canonical = sni === null ? null : canonicalHost(sni);
    const byAddress = ipLiteral(authority.host);
    const alias =
      byAddress && canonical !== null && canonical !== authority.host && !ipLiteral(canonical) ? canonical : null;
    const mismatch = sni !== null && alias === null && canonical !== authority.host;
    const facts = this.innerFacts({ intercepted: true, sni, sniMismatch: mismatch, alias });
    if (secured.alpnProtocol === "h2" && services.http2 !== null) services.http2(secured, this.socket, facts, null);
    else new ClientConnection(services, secured, this.socket, facts, "https");
  }

  private innerFacts(context: Pick<ConnectContext, "intercepted" | "sni" | "sniMismatch" | "alias">): ConnectionFacts {
    const { side, authority, client, standing, expiresAt, via, id } = this.connect;
    return {
      ...side.facts,
      connect: {
        record: id,
        authority,
        client,
        via,
        expiresAt,
        ...(standing === undefined ? {} : { standing }),
        ...context,
      },
    };
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  /** Somebody else owns the socket now. */
  private leave(): void {
    this.over = true;
    this.deadline.stop();
    this.connect.side.services.open.delete(this);
    this.socket.off("data", this.onData).off("end", this.onClosed).off("close", this.onClosed);
  }

  private ended(): void {
    if (this.over) return;
    const quiet = this.held.length === 0 && this.secured === null;
    if (quiet) {
      // Nothing was ever sent: the CONNECT's record says it all.
      this.leave();
      this.socket.destroy();
    } else if (this.secured !== null)
      this.onTlsError(new Error("the client closed the connection during the handshake"));
    else this.fail("client-gone", "the connection ended before a request");
  }

  expire(): void {
    this.deadline.at = Number.MAX_SAFE_INTEGER;
    const { services } = this.connect.side;
    if (this.held.length === 0 && services.settings.opaque === "tunnel") return this.opaque();
    this.fail(this.secured !== null ? "client-tls-failed" : "request-timeout", "nothing came inside CONNECT in time");
  }

  drain(): void {
    this.destroy();
  }
  destroy(): void {
    if (this.over) return;
    this.leave();
    this.socket.destroy();
  }

  /** A connection that ends before a valid request has a record of its own. */
  private fail(reason: Reason, detail: string, cause?: unknown): void {
    if (this.over) return;
    this.leave();
    const { side, id, client, authority } = this.connect;
    const { services } = side;
    if (cause !== undefined) services.log.error({ err: cause, host: authority.host }, detail);
    const now = services.clock.now();
    services.sink.append(
      connectionRecord({
        id: newId(now),
        parent: id,
        at: now,
        client,
        address: side.facts.clientAddress,
        decision: "deny",
        reason,
        total: services.clock.tick() - this.connect.startedAt,
        authority,
        clientProtocol: this.secured === null ? "tcp" : "tls",
        sni: (this.secured as { servername?: string } | null)?.servername || null,
        error: detail,
      }),
    );
    this.secured?.on("error", () => {});
    this.secured?.destroy();
    this.socket.destroy();
  }
}

type LeafCallback = (error: Error | null, context?: tls.SecureContext) => void;
