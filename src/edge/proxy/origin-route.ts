// The way to an origin: resolve once, check every answer, dial what was checked, through a next proxy where the rule says
// so, with TLS verified before a byte of the request is sent.
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import type { OriginRecord } from "../../audit/record.ts";
import type { Destination, TlsDestination } from "../../http/messages.ts";
import { authorityText, originText } from "../../http/target.ts";
import type { NextProxy } from "../../policy/types.ts";
import { ProxyError } from "../../shared/errors.ts";
import { askForTunnel, type CheckedAddress, dial, type OnRead, TunnelRefused } from "./dial.ts";
import type { TimerWheel } from "./timers.ts";

/** What the TLS edge offers for origins. */
export interface OriginTlsPort {
  /** `clientKey`: sessions are resumed per host and client. */
  optionsFor(destination: TlsDestination, clientKey: string, alpn: string[]): tls.ConnectionOptions;
  rememberSession(destination: TlsDestination, clientKey: string, session: Buffer): void;
  /** Called when the handshake is done: throws ProxyError, or returns a note when an exception was used. */
  accept(socket: tls.TLSSocket, destination: TlsDestination): string | null;
  describe(socket: tls.TLSSocket): { protocol: string | null; fingerprint: string | null };
  classify(error: unknown, destination: TlsDestination): ProxyError;
}

export interface AddressGuardPort {
  /** Resolves once; throws ProxyError `address-prohibited`, `origin-unresolved` or `origin-dns-timeout`. */
  check(host: string, port: number): Promise<CheckedAddress[]>;
}

export interface RouteServices {
  readonly guard: AddressGuardPort;
  originTls(): OriginTlsPort;
  /** Monotonic milliseconds. */
  tick(): number;
  readonly connectTimeout: number;
  readonly wheel: TimerWheel;
  readonly onHandshake: (result: "full" | "resumed" | "failed") => void;
}

export interface RouteRequest {
  readonly destination: Destination;
  /** The name that TLS asks for and verifies, when it is not the destination's host. */
  readonly serverName: string | null;
  readonly via: NextProxy | null;
  /** What a next proxy is told in Via when it is asked for a tunnel: who was passed so far, this house last. */
  readonly chain: string;
  readonly clientKey: string;
  /** null: raw bytes to the destination (a tunnel); else the protocols to offer in TLS. */
  readonly alpn: readonly string[] | null;
  readonly onread: OnRead | null;
}

export interface Route {
  readonly socket: Duplex;
  /** True: reads come through `onread`; false: through 'data' events. */
  readonly direct: boolean;
  /** Bytes that the next proxy sent behind its answer. */
  readonly rest: Buffer;
  readonly alpn: string | null;
  /** For exchanges that go where the client asked: `to` is null. */
  readonly record: OriginRecord;
  readonly timings: { dns: number; connect: number | null; tls: number | null };
  readonly note: string | null;
  /** Absolute-form is wanted: the value of Proxy-Authorization, "" for none; null: not behind a plain next proxy. */
  readonly absolute: string | null;
  /** Behind a next proxy with `resolve: here`: the address that stands for the name, IPv4 where it has one: a request is sent once. */
  readonly absoluteHost: string | null;
}

/** A route that is being opened. */
export interface RouteOpening {
  /** Rejects with ProxyError. */
  readonly route: Promise<Route>;
  /** What is known of the way where it failed: the next proxy that was asked. null: nobody was. */
  readonly reached: OriginRecord | null;
  /** Gives it up, at any point. */
  abandon(): void;
}

/** Opens a route. */
export function openRoute(services: RouteServices, request: RouteRequest): RouteOpening {
  return new Attempt(services, request);
}

class Attempt implements RouteOpening {
  readonly route: Promise<Route>;
  reached: OriginRecord | null = null;
  private readonly services: RouteServices;
  private readonly request: RouteRequest;
  private abandoned = false;
  private giveUp: (() => void) | null = null;
  /** The next proxy, while TLS with it begins. */
  private shakesHandsWith: Destination | null = null;
  private connectedAt: number | null = null;

  constructor(services: RouteServices, request: RouteRequest) {
    this.services = services;
    this.request = request;
    this.route = this.run();
  }

  abandon(): void {
    this.abandoned = true;
    this.giveUp?.();
  }

  private alive(): void {
    if (this.abandoned) throw new ProxyError("client-gone");
  }

  private async run(): Promise<Route> {
    try {
      return await (this.request.via === null ? this.direct() : this.through(this.request.via));
    } catch (error) {
      // A connection that stood already, and turned out not to be what it must be.
      this.giveUp?.();
      // Whatever the giving up looked like to the socket.
      if (this.abandoned) throw new ProxyError("client-gone");
      if (error instanceof ProxyError) throw error;
      throw this.services.originTls().classify(error, this.shakesHandsWith ?? this.tlsDestination());
    }
  }

  private async direct(): Promise<Route> {
    const { services, request } = this;
    const { destination } = request;
    const t0 = services.tick();
    const addresses = await services.guard.check(destination.host, destination.port);
    this.alive();
    const t1 = services.tick();
    const secure = destination.scheme === "https" && request.alpn !== null;
    const socket = await this.open(addresses, destination.port, request.onread, secure ? this.tlsOptions() : null);
    const done = services.tick();
    const connectedAt = this.connectedAt ?? done;
    const checked = secure ? this.verified(socket as tls.TLSSocket) : PLAIN;
    return {
      socket,
      direct: true,
      rest: NO_BYTES,
      alpn: checked.alpn,
      record: {
        address: strip(socket.remoteAddress ?? null),
        port: destination.port,
        tls: checked.protocol,
        fingerprint: checked.fingerprint,
        resolvedBy: "here",
        to: null,
        via: null,
      },
      timings: { dns: t1 - t0, connect: connectedAt - t1, tls: secure ? done - connectedAt : null },
      note: checked.note,
      absolute: null,
      absoluteHost: null,
    };
  }

  /** Through a next proxy: its address is checked like any other; so is the target's, where its name is known here. */
  private async through(via: NextProxy): Promise<Route> {
    const { services, request } = this;
    const { destination } = request;
    const t0 = services.tick();
    const target = await services.guard.check(destination.host, destination.port);
    const addresses = await services.guard.check(via.host, via.port);
    this.alive();
    const here = via.resolve === "here" ? fourFirst(target) : null;
    const record = {
      address: null,
      port: destination.port,
      tls: null,
      fingerprint: null,
      resolvedBy: here === null ? "next-proxy" : "here",
      to: null,
      via: originText(via),
    } as const;
    this.reached = record;
    const t1 = services.tick();
    const plain = destination.scheme === "http" && request.alpn !== null;
    const connected = await this.toNext(via, addresses, services.connectTimeout);
    const t2 = services.tick();
    const timings = { dns: t1 - t0, connect: t2 - t1, tls: null };
    if (plain) {
      return {
        socket: connected,
        direct: false,
        rest: NO_BYTES,
        alpn: null,
        record,
        timings,
        note: null,
        absolute: via.authorization ?? "",
        absoluteHost: here?.[0] ?? null,
      };
    }
    const { socket: toProxy, rest } = await this.tunnel(via, addresses, connected, here ?? [destination.host]);
    if (request.alpn === null)
      return {
        socket: toProxy,
        direct: false,
        rest,
        alpn: null,
        record,
        timings,
        note: null,
        absolute: null,
        absoluteHost: null,
      };
    if (rest.length > 0) throw new ProxyError("origin-protocol", "the next proxy sent bytes before TLS began");
    const secured = await this.secure(toProxy);
    const checked = this.verified(secured);
    return {
      socket: secured,
      direct: false,
      rest: NO_BYTES,
      alpn: checked.alpn,
      record: { ...record, tls: checked.protocol, fingerprint: checked.fingerprint },
      timings: { ...timings, tls: services.tick() - t2 },
      note: checked.note,
      absolute: null,
      absoluteHost: null,
    };
  }

  /** A connection to the next proxy itself, verified where it is spoken to in TLS. */
  private async toNext(via: NextProxy, addresses: readonly CheckedAddress[], timeout: number): Promise<Socket> {
    const originTls = this.services.originTls();
    const proxyTls = via.scheme === "https" ? originTls.optionsFor(via, "", ["http/1.1"]) : null;
    this.shakesHandsWith = via;
    const socket = await this.open(addresses, via.port, null, proxyTls, timeout);
    this.shakesHandsWith = null;
    if (proxyTls !== null) originTls.accept(socket as tls.TLSSocket, via);
    this.alive();
    return socket;
  }

  /**
   * Asks the next proxy for a tunnel to the first of these hosts; on another connection for the next one where it cannot reach
   * that: it may have no IPv6, or no IPv4. The origin has got nothing by then. All of them together have the connect timeout.
   */
  private async tunnel(
    via: NextProxy,
    addresses: readonly CheckedAddress[],
    connected: Socket,
    hosts: readonly string[],
  ): Promise<{ socket: Socket; rest: Buffer }> {
    const { services, request } = this;
    const end = services.tick() + services.connectTimeout;
    const last = Math.min(hosts.length, MOST_ASKED) - 1;
    for (let i = 0; ; i++) {
      const left = Math.max(1, end - services.tick());
      const socket = i === 0 ? connected : await this.toNext(via, addresses, left);
      this.giveUp = () => socket.destroy();
      try {
        const to = { host: hosts[i] as string, port: request.destination.port };
        // What comes behind has half of the time that there is, so that silence does not take all of it.
        const patience = i === last ? left : left / 2;
        const rest = await askForTunnel(socket, to, request.chain, via.authorization, patience);
        this.alive();
        return { socket, rest };
      } catch (error) {
        this.alive();
        if (i === last || !otherAddressMayDo(error)) throw error;
      }
    }
  }

  private open(
    addresses: readonly CheckedAddress[],
    port: number,
    onread: OnRead | null,
    tlsOptions: tls.ConnectionOptions | null,
    timeout = this.services.connectTimeout,
  ): Promise<Socket> {
    const dialling = dial({
      addresses,
      port,
      timeout,
      wheel: this.services.wheel,
      onread,
      tls: tlsOptions,
      connected: () => {
        this.connectedAt = this.services.tick();
      },
    });
    this.giveUp = dialling.abandon;
    if (tlsOptions === null) return dialling.socket;
    return dialling.socket.catch((error: unknown) => {
      if (!(error instanceof ProxyError)) this.services.onHandshake("failed");
      throw error;
    });
  }

  private tlsDestination(): TlsDestination {
    const { destination, serverName } = this.request;
    return serverName === null ? destination : { ...destination, host: serverName, claimed: true };
  }

  private tlsOptions(): tls.ConnectionOptions {
    return this.services
      .originTls()
      .optionsFor(this.tlsDestination(), this.request.clientKey, [...(this.request.alpn ?? [])]);
  }

  private secure(socket: Socket): Promise<tls.TLSSocket> {
    return new Promise((resolve, reject) => {
      const secured = tls.connect({ ...this.tlsOptions(), socket });
      const timer = setTimeout(
        () => secured.destroy(new ProxyError("origin-connect-timeout", "the TLS handshake took too long")),
        this.services.connectTimeout,
      );
      const failed = (error?: Error): void => {
        clearTimeout(timer);
        secured.on("error", () => {});
        secured.destroy();
        socket.destroy();
        reject(error instanceof Error ? error : new ProxyError("origin-tls", "the connection was closed"));
      };
      this.giveUp = () => failed();
      secured.once("error", failed);
      secured.once("close", () => failed());
      secured.once("secureConnect", () => {
        clearTimeout(timer);
        secured.removeAllListeners("error").removeAllListeners("close");
        resolve(secured);
      });
    });
  }

  /** Verifies before anything is sent; remembers the session for this host and client. */
  private verified(socket: tls.TLSSocket) {
    const originTls = this.services.originTls();
    const destination = this.tlsDestination();
    try {
      const note = originTls.accept(socket, destination);
      this.services.onHandshake(socket.isSessionReused() ? "resumed" : "full");
      socket.on("session", (session: Buffer) =>
        originTls.rememberSession(destination, this.request.clientKey, session),
      );
      return { note, alpn: socket.alpnProtocol || null, ...originTls.describe(socket) };
    } catch (error) {
      socket.on("error", () => {});
      socket.destroy();
      this.services.onHandshake("failed");
      throw error;
    }
  }
}

const NO_BYTES = Buffer.alloc(0);
const PLAIN = { note: null, alpn: null, protocol: null, fingerprint: null } as const;
/** Tunnels that one exchange asks a next proxy for, at most. */
const MOST_ASKED = 3;

/** For who dials in our place and tells us little: most next proxies have IPv4, and not all of them IPv6. */
function fourFirst(checked: readonly CheckedAddress[]): readonly string[] | null {
  const four = checked.find(({ family }) => family === 4);
  const ordered = four === undefined ? checked : [four, ...checked.filter((one) => one !== four)];
  return ordered.length === 0 ? null : ordered.map(({ address }) => address);
}

/** True when the next proxy, or the way behind it, failed to reach the address; false when it will not, or was not understood. */
const otherAddressMayDo = (error: unknown): boolean =>
  error instanceof TunnelRefused
    ? error.answered >= 500
    : error instanceof ProxyError && error.reason === "origin-connect-timeout";

const strip = (address: string | null): string | null => (address?.startsWith("::ffff:") ? address.slice(7) : address);
/** For messages: where a request was going. */
export const routeText = (request: RouteRequest): string => authorityText(request.destination);
