// Origin connections, kept for a while after use. A connection is used again only by the client it was made for (invariant
// 8), only after a byte-exact end, and never across a reload that could judge its address differently.
import type { Duplex } from "node:stream";
import type { Exchange } from "../../exchange/exchange.ts";
import type { OpenRequest, OriginEvents, Origins } from "../../exchange/sides.ts";
import { originText } from "../../http/target.ts";
import type { NextProxy } from "../../policy/types.ts";
import { asProxyError, ProxyError } from "../../shared/errors.ts";
import type { Metrics } from "../../shared/metrics.ts";
import { connectError } from "./dial.ts";
import { type ConnectionOwner, OriginConnection } from "./origin-connection.ts";
import { openRoute, type Route, type RouteServices } from "./origin-route.ts";
import type { TimerWheel } from "./timers.ts";

const MAX_IDLE = 1_024;
const MAX_IDLE_PER_KEY = 64;
/** A request that must not be sent twice takes only a connection that was used a moment ago. */
const FRESH = 2_000;
/** All origin sockets read into this; it is empty again when the callback returns. */
const SHARED = Buffer.allocUnsafeSlow(65_536);

export interface PoolServices extends RouteServices {
  readonly wheel: TimerWheel;
  readonly metrics: Metrics;
}

/** Who may share a connection: the client by name, or by address where it has none. */
export const clientKeyOf = (x: Exchange): string =>
  x.principal === null ? `@${x.connection.clientAddress}` : x.principal;

export class OriginPool implements Origins, ConnectionOwner {
  readonly wheel: TimerWheel;
  private readonly services: PoolServices;
  private readonly idleByKey = new Map<string, OriginConnection[]>();
  private readonly all = new Set<OriginConnection>();
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
    const key = this.keyOf(x, via);
    const safe = request.length === 0 && isSafe(x.forward.method) && request.upgrade === null;
    const idle = request.upgrade === null ? this.take(key, safe) : null;
    if (idle === null) return this.dialFor(request, events, key, via);
    let again = null as { abandon(): void } | null;
    idle.onStale = safe
      ? () => {
          again = this.dialFor(request, events, key, via);
          return true;
        }
      : null;
    this.describe(x, idle.facts as Route, false);
    idle.start(request, events);
    events.originOpened(idle);
    return { abandon: () => (again === null ? idle.abort() : again.abandon()) };
  }

  private keyOf(x: Exchange, via: NextProxy | null): string {
    const f = x.forward;
    const alias = x.connection.connect?.alias ?? "";
    const bound = isConnectionBound(f.fields) ? (x.connection.connect?.record ?? `${x.connection.clientPort}`) : "";
    return `${this.generation} ${f.scheme}://${f.host}:${f.port} ${clientKeyOf(x)} ${alias} ${bound} ${via === null ? "" : `${originText(via)} ${via.authorization ?? ""} ${via.resolve}`}`;
  }

  private take(key: string, safe: boolean): OriginConnection | null {
    const list = this.idleByKey.get(key);
    if (list === undefined) return null;
    for (let c = list.pop(); c !== undefined; c = list.pop()) {
      this.idleCount--;
      if (c.usable && (safe || this.wheel.now - c.idleSince < FRESH)) {
        if (list.length === 0) this.idleByKey.delete(key);
        return c;
      }
      c.destroy();
    }
    this.idleByKey.delete(key);
    return null;
  }

  private dialFor(request: OpenRequest, events: OriginEvents, key: string, via: NextProxy | null): { abandon(): void } {
    const x = request.exchange;
    let connection: OriginConnection | null = null;
    const opening = openRoute(this.services, {
      destination: x.forward,
      serverName: x.connection.connect?.alias ?? null,
      via,
      clientKey: clientKeyOf(x),
      alpn: ["http/1.1"],
      onread: {
        buffer: SHARED,
        callback: (n, buffer) => connection?.read(n, buffer as Buffer) ?? false,
      },
    });
    let abandoned = false;
    opening.route.then(
      (route) => {
        if (abandoned) {
          route.socket.destroy();
          return;
        }
        connection = this.connected(key, route);
        this.describe(x, route, true);
        connection.start(request, events);
        events.originOpened(connection);
      },
      (error: unknown) => {
        if (!abandoned) events.originFailed(asProxyError(error));
      },
    );
    return {
      abandon: () => {
        abandoned = true;
        opening.abandon();
        connection?.abort();
      },
    };
  }

  private connected(key: string, route: Route): OriginConnection {
    const connection = new OriginConnection(this, key, route.absolute, route.absoluteHost);
    connection.facts = route;
    connection.attach(route.socket);
    const socket: Duplex = route.socket;
    if (!route.direct) socket.on("data", (b: Buffer) => connection.readOwned(b));
    this.all.add(connection);
    this.services.metrics.connectionOpened("origin");
    return connection;
  }

  /** What the record says of the way there. */
  private describe(x: Exchange, route: Route, fresh: boolean): void {
    const { received, forward } = x;
    const moved =
      forward.host !== received.host || forward.port !== received.port || forward.scheme !== received.scheme;
    x.origin = { ...route.record, to: moved ? originText(forward) : null };
    if (!fresh) return;
    x.timings.dns = route.timings.dns;
    x.timings.connect = route.timings.connect;
    x.timings.tls = route.timings.tls;
    if (route.note !== null) x.note(route.note);
  }

  // ---- what connections tell --------------------------------------------------------------------------------------------

  idle(connection: OriginConnection): void {
    const list = this.idleByKey.get(connection.key);
    const old = !connection.key.startsWith(`${this.generation} `);
    if (old || this.idleCount >= MAX_IDLE || (list?.length ?? 0) >= MAX_IDLE_PER_KEY || connection.keepIdle <= 0)
      return connection.destroy();
    if (list === undefined) this.idleByKey.set(connection.key, [connection]);
    else list.push(connection);
    this.idleCount++;
    connection.startIdle();
  }

  closed(connection: OriginConnection): void {
    if (!this.all.delete(connection)) return;
    this.services.metrics.connectionClosed("origin");
    const list = this.idleByKey.get(connection.key);
    const i = list?.indexOf(connection) ?? -1;
    if (list === undefined || i < 0) return;
    list.splice(i, 1);
    this.idleCount--;
    if (list.length === 0) this.idleByKey.delete(connection.key);
  }

  failed(_connection: OriginConnection, error: Error): ProxyError {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "ECONNRESET" || code === "EPIPE") return incomplete(error);
    return connectError(error);
  }

  /** After a reload: nothing that is idle is used again. */
  flush(): void {
    this.generation++;
    for (const list of [...this.idleByKey.values()]) for (const c of [...list]) c.destroy();
  }

  close(): void {
    for (const c of [...this.all]) c.destroy();
  }
}

const incomplete = (error: Error): ProxyError =>
  new ProxyError("origin-incomplete", "the origin reset the connection", { cause: error });
const isSafe = (method: string): boolean => method === "GET" || method === "HEAD" || method === "OPTIONS";

/** NTLM and Negotiate authenticate the connection, not the request: such a connection serves one client connection only. */
function isConnectionBound(fields: readonly string[]): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (name.length === 13 && name.toLowerCase() === "authorization")
      return /^(?:ntlm|negotiate)\b/i.test(fields[i + 1] as string);
  }
  return false;
}
