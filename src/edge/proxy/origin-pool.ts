// Origin connections, kept for a while after use. A connection is used again only by the client it was made for (invariant
// 8), only after a byte-exact end, and never across a reload that could judge its address differently.
import type { Duplex } from "node:stream";
import type { OriginRecord } from "../../audit/record.ts";
import type { Exchange } from "../../exchange/exchange.ts";
import type { OpenRequest, OriginEvents, Origins } from "../../exchange/sides.ts";
import { originText } from "../../http/target.ts";
import { viaEntry, viaOf, withVia } from "../../http/via.ts";
import { asProxyError, ProxyError } from "../../shared/errors.ts";
import type { Metrics } from "../../shared/metrics.ts";
import { SHARED } from "./borrowed-reads.ts";
import type { ConnectionOwner } from "./connection-owner.ts";
import { connectError, type OnRead } from "./dial.ts";
import { H2OriginSession, type SessionOwner } from "./h2/origin-session.ts";
import type { Again } from "./h2/origin-stream.ts";
import { OriginConnection } from "./origin-connection.ts";
import { clientKeyOf, OriginKeys, serverNameOf } from "./origin-key.ts";
import { EarlyBytes, Joined, Opening, Versions } from "./origin-opening.ts";
import { openRoute, type Route, type RouteServices } from "./origin-route.ts";
import type { TimerWheel } from "./timers.ts";

const MAX_IDLE = 1_024;
const MAX_IDLE_PER_KEY = 64;
const MAX_SESSIONS_PER_KEY = 4;
/** A request that must not be sent twice takes only a connection that was used a moment ago. */
const FRESH = 2_000;

export interface PoolServices extends RouteServices {
  readonly metrics: Metrics;
  /** Names this house in Via. */
  readonly pseudonym: string;
}

/** The Via of a CONNECT that this exchange makes us send. What a request inside TLS went through stays inside TLS. */
export function chainOf(x: Exchange, pseudonym: string): string {
  const { connect } = x.connection;
  const before = connect === null ? viaOf(x.received.fields) : (connect.via ?? "");
  return withVia(before, viaEntry(x.received.version, pseudonym));
}

/** The connections of one key. */
interface Kept {
  /** The last one used is the last. */
  readonly idle: OriginConnection[];
  /** How many there are, idle or not. */
  open: number;
}

export class OriginPool implements Origins, ConnectionOwner, SessionOwner {
  readonly wheel: TimerWheel;
  private readonly services: PoolServices;
  private readonly kept = new Map<string, Kept>();
  private readonly all = new Set<OriginConnection>();
  private readonly sessions = new Map<string, H2OriginSession[]>();
  /** Dials that may bring a session, while somebody wants it. */
  private readonly dialling = new Map<string, Joined>();
  private readonly keys = new OriginKeys();
  private readonly versions = new Versions();
  /** Origins that speak HTTP/2 and said HTTP_1_1_REQUIRED (RFC 9113 section 7). */
  private readonly insisting = new Versions();
  private idleCount = 0;
  private generation = 0;

  constructor(services: PoolServices) {
    this.services = services;
    this.wheel = services.wheel;
  }

  tick(): number {
    return this.services.tick();
  }

  open(request: OpenRequest, events: OriginEvents): { abandon(): void } {
    const x = request.exchange;
    const via = x.decision?.plan.via ?? null;
    const opening = new Opening(request, events, via, isSafe(x.forward.method));
    opening.key = this.keys.of(opening, this.generation);
    this.advance(opening);
    return opening;
  }

  /** A session or an idle connection that this client may use, a dial that others wait for already, or a new one. */
  private advance(o: Opening): void {
    if (this.insisting.isHttp1(o.key)) o.onlyHttp1 = true;
    const session = o.needsHttp1 ? null : this.sessionFor(o.key);
    if (session !== null) return this.onSession(o, session, false);
    const idle = o.upgrade ? null : this.take(o.key, o.safe);
    if (idle !== null) return this.onConnection(o, idle);
    const joined = o.prefersHttp2 && !this.versions.isHttp1(o.key) ? this.dialling.get(o.key) : undefined;
    if (joined === undefined) return this.dial(o);
    joined.add(o);
  }

  private onConnection(o: Opening, idle: OriginConnection): void {
    idle.opening = o;
    o.connection = idle;
    this.describe(o.request.exchange, idle.facts as Route, false);
    idle.start(o.request, o.events);
    o.events.originOpened(idle);
  }

  /** A connection that had been idle died before it answered: safe requests go out once more. `asked`: the origin may have got it. */
  stale(connection: OriginConnection, asked: boolean): boolean {
    const o = connection.opening;
    if (o === null || !o.safe) return false;
    if (asked) o.request.exchange.note("retried:stale");
    o.connection = null;
    this.dial(o);
    return true;
  }

  private onSession(o: Opening, session: H2OriginSession, fresh: boolean): void {
    if (!fresh && !session.settled) {
      session.whenSettled((alive) => {
        if (o.abandoned) return;
        if (alive) this.advance(o);
        else o.events.originFailed(incomplete(session.failure));
      });
      return;
    }
    this.describe(o.request.exchange, session.route, fresh);
    try {
      const side = session.start(o.request, o.events, (why) => this.again(o, why));
      o.giveUp = () => side.abort();
      o.events.originOpened(side);
    } catch (error) {
      o.events.originFailed(asProxyError(error));
    }
  }

  /** Sends a request once more where the first was certainly not processed (RFC 9113 section 8.7), or could not matter. */
  private again(o: Opening, why: Again): boolean {
    // Also where this request cannot be sent again: the next one can.
    if (why === "http1") this.insisting.http1(o.key);
    if (!o.mayGoAgain(why)) return false;
    o.request.exchange.note(`retried:${why}`);
    if (why === "http1") {
      this.versions.http1(o.key);
      o.onlyHttp1 = true;
      this.dial(o);
    } else this.advance(o);
    return true;
  }

  private sessionFor(key: string): H2OriginSession | null {
    if (this.sessions.size === 0) return null;
    let best: H2OriginSession | null = null;
    const list = this.sessions.get(key) ?? [];
    for (const session of list) {
      if (!session.usable) continue;
      if (session.hasRoom || !session.settled) return session;
      if (best === null || session.load < best.load) best = session;
    }
    // When all are full, more sessions are opened up to a bound, and then streams wait for their turn.
    return list.length < MAX_SESSIONS_PER_KEY ? null : best;
  }

  private take(key: string, safe: boolean): OriginConnection | null {
    const idle = this.kept.get(key)?.idle;
    if (idle === undefined) return null;
    for (let c = idle.pop(); c !== undefined; c = idle.pop()) {
      this.idleCount--;
      if (c.usable && (safe || this.wheel.now - c.idleSince < FRESH)) return c;
      c.destroy();
    }
    return null;
  }

  private dial(o: Opening): void {
    const x = o.request.exchange;
    const { key } = o;
    const reads = new FirstReads();
    const opening = openRoute(this.services, {
      destination: x.forward,
      serverName: serverNameOf(x),
      via: o.via,
      chain: chainOf(x, this.services.pseudonym),
      clientKey: clientKeyOf(x),
      alpn: o.alpn,
      onread: reads.onread,
    });
    // One that is given up takes its time to end, and another may have begun under the same key by then.
    const forget = (): void => {
      if (this.dialling.get(key) === joined) this.dialling.delete(key);
    };
    const joined = new Joined(o, () => {
      forget();
      opening.abandon();
    });
    if (o.prefersHttp2 && !this.dialling.has(key)) this.dialling.set(key, joined);
    opening.route
      .then((route) => {
        forget();
        const wanted = joined.end();
        if (o.priorKnowledge || route.alpn === "h2") return this.speakHttp2(o, route, reads.early, wanted);
        if (o.prefersHttp2) this.versions.http1(key);
        reads.connection = this.speakHttp1(o, route, reads.early);
        for (const other of wanted) if (other !== o && !other.abandoned) this.advance(other);
      })
      // Also what failed above: a bug costs these exchanges, and not the process.
      .catch((error: unknown) => {
        forget();
        for (const one of joined.end()) {
          if (opening.reached !== null) recordWay(one.request.exchange, opening.reached);
          one.events.originFailed(asProxyError(error));
        }
      });
  }

  private speakHttp1(o: Opening, route: Route, early: EarlyBytes): OriginConnection | null {
    if (o.abandoned || early.length > 0) {
      route.socket.on("error", () => {});
      route.socket.destroy();
      if (!o.abandoned)
        o.events.originFailed(new ProxyError("origin-protocol", "the origin spoke before it was asked"));
      return null;
    }
    const connection = this.connected(o.key, route);
    this.describe(o.request.exchange, route, true);
    o.giveUp = () => connection.abort();
    connection.start(o.request, o.events);
    o.events.originOpened(connection);
    return connection;
  }

  private speakHttp2(o: Opening, route: Route, early: EarlyBytes, wanted: readonly Opening[]): void {
    if (wanted.length === 0) {
      route.socket.on("error", () => {});
      route.socket.destroy();
      return;
    }
    const session = new H2OriginSession(this, o.key, route, o.request, early.bytes());
    const list = this.sessions.get(o.key);
    if (list === undefined) this.sessions.set(o.key, [session]);
    else list.push(session);
    this.services.metrics.connectionOpened("origin");
    for (const one of wanted) this.onSession(one, session, one === o);
  }

  private connected(key: string, route: Route): OriginConnection {
    const connection = new OriginConnection(this, key, route.absolute, route.absoluteHost);
    connection.generation = this.generation;
    connection.facts = route;
    connection.attach(route.socket);
    const socket: Duplex = route.socket;
    if (!route.direct) socket.on("data", (b: Buffer) => connection.readOwned(b));
    this.all.add(connection);
    const kept = this.kept.get(key);
    if (kept === undefined) this.kept.set(key, { idle: [], open: 1 });
    else kept.open++;
    this.services.metrics.connectionOpened("origin");
    return connection;
  }

  /** What the record says of the way there. */
  private describe(x: Exchange, route: Route, fresh: boolean): void {
    recordWay(x, route.record);
    if (!fresh) return;
    x.timings.dns = route.timings.dns;
    x.timings.connect = route.timings.connect;
    x.timings.tls = route.timings.tls;
    if (route.note !== null) x.note(route.note);
  }

  // ---- what connections tell --------------------------------------------------------------------------------------------

  idle(connection: OriginConnection): void {
    const idle = this.kept.get(connection.key)?.idle;
    const old = connection.generation !== this.generation;
    if (old || idle === undefined || this.idleCount >= MAX_IDLE || idle.length >= MAX_IDLE_PER_KEY)
      return connection.destroy();
    if (connection.keepIdle <= 0) return connection.destroy();
    idle.push(connection);
    this.idleCount++;
    connection.startIdle();
  }

  closed(connection: OriginConnection): void {
    if (!this.all.delete(connection)) return;
    this.services.metrics.connectionClosed("origin");
    const kept = this.kept.get(connection.key);
    if (kept === undefined) return;
    if (--kept.open === 0) this.kept.delete(connection.key);
    const i = kept.idle.indexOf(connection);
    if (i < 0) return;
    kept.idle.splice(i, 1);
    this.idleCount--;
  }

  sessionClosed(session: H2OriginSession): void {
    this.services.metrics.connectionClosed("origin");
    const left = (this.sessions.get(session.key) ?? []).filter((one) => one !== session);
    if (left.length > 0) this.sessions.set(session.key, left);
    else this.sessions.delete(session.key);
  }

  failed(_connection: OriginConnection, error: Error): ProxyError {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "ECONNRESET" || code === "EPIPE") return incomplete(error);
    return connectError(error);
  }

  /** After a reload: nothing that is idle is used again. */
  flush(): void {
    this.generation++;
    this.versions.forget();
    this.insisting.forget();
    for (const session of [...this.sessions.values()].flat()) session.close();
    for (const { idle } of [...this.kept.values()]) for (const c of [...idle]) c.destroy();
  }

  close(): void {
    for (const c of [...this.all]) c.destroy();
    for (const session of [...this.sessions.values()].flat()) session.destroy();
  }
}

/** Where the reads of a new connection go. It lives as long as that, and keeps nobody in memory who waited for the dial. */
class FirstReads {
  readonly early = new EarlyBytes();
  connection: OriginConnection | null = null;
  readonly onread: OnRead = {
    buffer: SHARED,
    callback: (n, buffer) => this.connection?.read(n, buffer as Buffer) ?? this.early.take(n, buffer),
  };
}

/** Says in the record where the request went, which a rule may have changed. */
function recordWay(x: Exchange, way: OriginRecord): void {
  const { received, forward } = x;
  const moved = forward.host !== received.host || forward.port !== received.port || forward.scheme !== received.scheme;
  x.origin = moved ? { ...way, to: originText(forward) } : way;
}

const incomplete = (error: Error | null): ProxyError =>
  error instanceof ProxyError
    ? error
    : new ProxyError("origin-incomplete", "the origin reset the connection", error === null ? {} : { cause: error });
const isSafe = (method: string): boolean => method === "GET" || method === "HEAD" || method === "OPTIONS";
