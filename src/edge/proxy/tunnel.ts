// Blind tunnels: TLS that the policy does not open. The client's SNI is still read and compared before a byte of it goes
// on; bytes are counted and limited; the record is written when the tunnel ends.
import type { Duplex } from "node:stream";
import { connectRecord } from "../../audit/build.ts";
import type { BodyRecord, OriginRecord, Timings } from "../../audit/record.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Destination } from "../../http/messages.ts";
import { originText } from "../../http/target.ts";
import { viaEntry, withVia } from "../../http/via.ts";
import type { ConnectDecision, NextProxy, Plan, TunnelPlan } from "../../policy/types.ts";
import { asProxyError, ProxyError, type Reason } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import { BlindRelay } from "./blind-relay.ts";
import type { Connect } from "./connect.ts";
import { breakOff } from "./ending.ts";
import type { Route, RouteOpening, RouteRequest } from "./origin-route.ts";
import { isSettled, sniff } from "./sniff.ts";
import type { Deadline } from "./timers.ts";
import { TunnelOrigin } from "./tunnel-origin.ts";

/** Opens raw routes; the house makes it from `openRoute`. */
export interface Tunnels {
  open(request: RouteRequest): RouteOpening;
  /** Reads a ClientHello; the TLS edge implements it. */
  helloReader(): HelloReader;
}

export interface HelloReader {
  push(bytes: Uint8Array): {
    readonly done?: boolean;
    readonly sni?: string | null;
    readonly ech?: boolean;
    readonly error?: string;
  };
}

/** The policy says `tunnel`: dial first, so that a failure can still be told; then 200, then the ClientHello. */
export function openTunnel(connect: Connect, decision: ConnectDecision): void {
  const plan = decision.tunnel as TunnelPlan;
  new Tunnel(connect, plan, decision).dial((route) => {
    const opened = connect.side.established();
    if (opened === null) return null;
    return { client: opened.socket, rest: opened.rest, route };
  });
}

/** `server.opaque: tunnel`: what is neither TLS nor HTTP inside an opened CONNECT. The CONNECT has its record; this is another. */
export function opaqueTunnel(connect: Connect, plan: Plan, socket: Duplex, rest: Buffer): void {
  const decision = { ...(connect.decision as ConnectDecision), plan };
  const { limits } = plan;
  const bounds: TunnelPlan = {
    reason: "opaque",
    bytesOut: limits.request,
    bytesIn: limits.response,
    total: limits.total,
    idle: limits.idle,
    withoutSni: "allow",
  };
  new Tunnel(connect, bounds, decision, true).dial((route) => ({
    client: socket,
    rest,
    route,
  }));
}

class Tunnel {
  private readonly connect: Connect;
  private readonly plan: TunnelPlan;
  private readonly decision: ConnectDecision;
  /** True: inside an opened CONNECT that has been answered and recorded. */
  private readonly inner: boolean;
  /** The dial, while it lasts. */
  private opening: RouteOpening | null = null;
  private readonly gone = (): void => this.giveUp("client-gone");
  private route: Route | null = null;
  /** What the record says of the way: as far as it came. */
  private way: OriginRecord | null = null;
  private sni: string | null = null;
  /** The ClientHello has encrypted_client_hello: a name may be hidden behind the one that was compared, or a dummy is. */
  private ech = false;
  private deadline: Deadline | null = null;
  private answered = false;

  constructor(connect: Connect, plan: TunnelPlan, decision: ConnectDecision, inner = false) {
    this.connect = connect;
    this.plan = plan;
    this.decision = decision;
    this.inner = inner;
    this.answered = inner;
  }

  dial(established: (route: Route) => { client: Duplex; rest: Buffer; route: Route } | null): void {
    const { services } = this.connect.side;
    const { to, via } = this.decision.plan;
    const destination: Destination = to ?? { scheme: "https", ...this.connect.authority };
    const origin = new TunnelOrigin();
    const opening = services.tunnels.open({
      destination,
      serverName: null,
      via: via as NextProxy | null,
      chain: withVia(this.connect.via, viaEntry(this.connect.side.version, services.pseudonym)),
      clientKey: "",
      alpn: null,
      onread: origin.onread,
    });
    this.opening = opening;
    const clientSocket = this.connect.side.socket;
    clientSocket.once("close", this.gone);
    // Outside an opened CONNECT the client's own connection is among what a house that drains knows of.
    if (this.inner) services.open.add(this);
    const opened = opening.route.then(
      (route) => {
        if (!this.dialled()) return void route.socket.destroy();
        this.route = route;
        this.way = route.record;
        const joined = established(route);
        if (joined === null) {
          route.socket.destroy();
          return this.record(NOTHING, NOTHING, "client-gone", null);
        }
        this.answered = true;
        origin.opened(route);
        services.metrics.tunnelOpened();
        this.hello(joined.client, joined.rest, origin);
      },
      (error: unknown) => this.failed(asProxyError(error)),
    );
    // A bug costs one connection.
    opened.catch((error: unknown) => {
      services.log.error({ err: error, id: this.connect.id }, "a tunnel failed inside the proxy");
      this.route?.socket.destroy();
      clientSocket.destroy();
    });
  }

  /** The dial is over. False: it was before. */
  private dialled(): boolean {
    if (this.opening === null) return false;
    this.way = this.opening.reached;
    this.opening = null;
    const { socket, services } = this.connect.side;
    socket.off("close", this.gone);
    services.open.delete(this);
    return true;
  }

  private failed(failure: ProxyError): void {
    if (!this.dialled()) return;
    if (!this.inner) return this.connect.refuse(failure, this.originRecord());
    this.record(NOTHING, NOTHING, failure.reason, failure.message);
    this.connect.side.socket.destroy();
  }

  /** Recorded at once: a dial that is given up takes its time to end, and by then the house may have closed. */
  private giveUp(reason: Reason): void {
    this.opening?.abandon();
    this.failed(new ProxyError(reason));
  }

  /** Nothing has passed yet, so there is nothing to wait for. */
  drain(): void {
    this.destroy();
  }
  destroy(): void {
    this.giveUp("shutting-down");
  }

  /** Holds the client's bytes until its ClientHello is whole and its SNI is the name that was allowed. */
  private hello(client: Duplex, rest: Buffer, origin: RawConnection): void {
    const { services } = this.connect.side;
    client.on("error", destroyThis);
    origin.socket.on("error", destroyThis);
    // A server that speaks first is waited for only where the rule allows what is not TLS.
    if (this.inner || (this.plan.withoutSni === "allow" && rest.length === 0)) {
      client.pause();
      return this.join(client, rest, origin);
    }
    const reader = services.tunnels.helloReader();
    let held: Buffer = NO_BYTES;
    const stop = (): void => {
      client.off("data", onData).off("close", onClose).off("end", onClose);
      this.deadline?.stop();
      services.open.delete(guard);
    };
    const end = (reason: Reason, detail: string): void => {
      stop();
      breakOff({ socket: client });
      breakOff(origin);
      services.metrics.tunnelClosed(0, 0);
      this.record({ ...NOTHING, complete: false }, { ...NOTHING, complete: false }, reason, detail);
    };
    const join = (): void => {
      stop();
      client.pause();
      this.join(client, held, origin);
    };
    const withoutName = (what: string): void => {
      if (this.plan.withoutSni === "allow") join();
      else end("misdirected", `${what}; \`tunnel: { without-sni: allow }\` would let it pass`);
    };
    const onData = (b: Buffer): void => {
      held = held.length === 0 ? b : Buffer.concat([held, b]);
      if (sniff(held) !== "tls") return withoutName("the first bytes are not TLS");
      const result = reader.push(b);
      if (result.error !== undefined) return withoutName(result.error);
      if (result.done !== true) return;
      this.seen(result);
      if (this.sni === null) return withoutName("the ClientHello names no host");
      if (!this.rightName(this.sni)) return end("misdirected", this.wrongName());
      join();
    };
    const onClose = (): void => end("client-gone", "the client left before its ClientHello");
    const guard = { drain: () => end("shutting-down", ""), destroy: () => end("shutting-down", "") };
    services.open.add(guard);
    this.deadline = services.wheel.start(
      { expire: () => end("request-timeout", "no ClientHello in time") },
      services.settings.headerTimeout,
    );
    client.on("data", onData).on("close", onClose).on("end", onClose);
    if (rest.length > 0) onData(rest);
    if (client.listenerCount("data") === 0) return;
    if (client.readableEnded) onClose();
    else client.resume();
  }

  private seen(hello: { readonly sni?: string | null; readonly ech?: boolean }): void {
    this.sni = hello.sni ?? null;
    this.ech = hello.ech ?? false;
  }

  private rightName(name: string): boolean {
    return name === this.connect.authority.host || this.nameAllowed(name);
  }

  /** Encrypted ClientHello shows the name of whoever hides the others, which is another than CONNECT asked for. */
  private wrongName(): string {
    const hint = this.ech ? "; encrypted ClientHello, which is offered here, shows such a name" : "";
    return `SNI names another host than CONNECT${hint}`;
  }

  /** CONNECT to an address with a name in SNI: the name must be allowed to be tunnelled, too. */
  private nameAllowed(name: string): boolean {
    const { authority, client, side } = this.connect;
    const isAddress = authority.host.includes(":") || /^[\d.]+$/.test(authority.host);
    if (!isAddress) return false;
    const decision = side.services
      .policy()
      .decideConnect({ client, address: side.facts.clientAddress, host: name, port: authority.port });
    return decision.kind === "tunnel";
  }

  /** Why the first bytes of a client that let the server speak first must not pass; null: they may; undefined: more of them tell. */
  private lateFault(held: Buffer, b: Buffer, reader: HelloReader): readonly [Reason, string] | null | undefined {
    const kind = sniff(held);
    if (this.inner) {
      if (kind === "more") return undefined;
      return kind === "opaque" ? null : ["opaque-protocol", `${kind} after the tunnel was opened for something else`];
    }
    if (kind !== "tls") return kind === "more" && held.length < 3 ? undefined : null;
    const result = reader.push(b);
    if (result.error !== undefined) return null;
    if (result.done !== true) return undefined;
    this.seen(result);
    return this.sni === null || this.rightName(this.sni) ? null : ["misdirected", this.wrongName()];
  }

  /**
   * Hands the client's bytes on as long as they may pass: those that complete a request line never reach the server.
   * `passed`: what went before.
   */
  private guardedRead(
    client: Duplex,
    passed: Uint8Array,
    take: (chunk: Uint8Array) => boolean,
    relay: BlindRelay,
  ): void {
    let seen: Buffer | null = passed.length === 0 ? NO_BYTES : Buffer.from(passed);
    let held: Buffer = NO_BYTES;
    const reader = this.connect.side.services.tunnels.helloReader();
    client.on("data", (b: Buffer) => {
      if (seen === null) return take(b) || client.pause();
      held = held.length === 0 ? b : Buffer.concat([held, b]);
      const all = seen.length === 0 ? held : Buffer.concat([seen, held]);
      const fault = this.lateFault(all, b, reader);
      if (fault === undefined) return;
      if (fault !== null) return relay.refuse(...fault);
      const next = held;
      held = NO_BYTES;
      seen = this.inner && !isSettled(all) ? all : null;
      if (seen === null) relay.unguard();
      if (!take(next)) client.pause();
    });
  }

  private join(client: Duplex, rest: Uint8Array, origin: RawConnection): void {
    const { services } = this.connect.side;
    const guarded = rest.length === 0 || (this.inner && !isSettled(rest));
    const from: RawConnection = {
      socket: client,
      rest,
      read: (take) => {
        if (guarded) this.guardedRead(client, rest, take, relay);
        else client.on("data", (b: Buffer) => take(b) || client.pause());
        client.resume();
      },
    };
    const relay: BlindRelay = new BlindRelay({
      wheel: services.wheel,
      client: from,
      origin,
      limits: this.plan,
      digest: false,
      unseen: guarded ? "guarded" : "both",
      done: (end) => {
        services.open.delete(relay);
        services.metrics.tunnelClosed(end.sent.bytes, end.received.bytes);
        this.record(end.sent, end.received, end.reason, end.detail);
      },
    });
    services.open.add(relay);
  }

  private originRecord(): OriginRecord | null {
    const { to } = this.decision.plan;
    return this.way === null || to === null ? this.way : { ...this.way, to: originText(to) };
  }

  private record(sent: BodyRecord, received: BodyRecord, reason: Reason | null, detail: string | null): void {
    const { connect, decision, route } = this;
    const { services } = connect.side;
    const refused = reason !== null && REFUSALS.has(reason);
    const timings: Partial<Timings> = route === null ? {} : { dns: route.timings.dns, connect: route.timings.connect };
    const facts = connect.facts();
    services.sink.append(
      connectRecord({
        id: this.inner ? newId(services.clock.now()) : facts.id,
        parent: this.inner ? connect.id : null,
        at: facts.at,
        client: facts.client,
        address: facts.address,
        authority: facts.authority,
        rule: facts.rule,
        clientProtocol: facts.clientProtocol,
        total: facts.total,
        decision: refused ? "deny" : decision.outcome,
        reason: reason ?? decision.reason,
        status: this.answered ? 200 : null,
        sent,
        received,
        timings,
        origin: this.originRecord(),
        originProtocol: "tcp",
        sni: this.sni,
        uninspected: true,
        notes: this.ech ? ["ech-offered"] : [],
        error: detail,
      }),
    );
  }
}

const REFUSALS: ReadonlySet<Reason> = new Set(["misdirected", "tunnel-limit", "request-timeout", "opaque-protocol"]);
const NO_BYTES = Buffer.alloc(0);
// Shared by all tunnels.
function destroyThis(this: Duplex): void {
  this.destroy();
}
const NOTHING: BodyRecord = { bytes: 0, sha256: "", complete: true };
