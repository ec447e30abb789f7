// What the proxy's edge gets from the house. Everything that a reload changes is asked for anew each time.
import type { Duplex } from "node:stream";
import type { SecureContext } from "node:tls";
import type { AuditSink } from "../../audit/sink.ts";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import type { RefusalOptions } from "../../exchange/refusal.ts";
import type { RelayServices } from "../../exchange/relay-services.ts";
import type { Policy } from "../../policy/types.ts";
import type { ProxyError } from "../../shared/errors.ts";
import type { Metrics } from "../../shared/metrics.ts";
import type { Authenticator } from "../../stages/authenticate.ts";
import type { TimerWheel } from "./timers.ts";
import type { Tunnels } from "./tunnel.ts";

/** Settings of the `server:` section that the edge needs. Milliseconds. */
export interface ProxySettings {
  readonly headerTimeout: number;
  readonly idleTimeout: number;
  readonly strictHost: boolean;
  readonly opaque: "deny" | "tunnel";
  readonly connectionsPerClient: number;
}

/** The port that an HTTP/2 connection came to: each CONNECT on it counts as a connection of its client. */
export interface ProxyPort {
  /** The connection itself is one too many. */
  readonly overLimit: boolean;
  /** One CONNECT more, until `leave`. False: that is too many. */
  enter(): boolean;
  leave(): void;
}

export interface ProxyServices extends RelayServices {
  readonly wheel: TimerWheel;
  readonly sink: AuditSink;
  readonly metrics: Metrics;
  readonly settings: ProxySettings;
  readonly tunnels: Tunnels;
  /** Names this house in Via; no other house has it. */
  readonly pseudonym: string;
  policy(): Policy;
  authenticator(): Authenticator;
  refusalOptions(): RefusalOptions;
  /** Refuses what can be refused by its text alone: prohibited literals and names. Throws ProxyError `address-prohibited`. */
  checkLiteral(host: string, port: number): void;
  /** The context to end TLS with, for a host. Now when it is cached. */
  leafFor(host: string): SecureContext | Promise<SecureContext>;
  /** How a failed handshake with a client is to be read. */
  classifyClientTls(
    error: Error,
    host: string,
  ): { reason: "client-tls-rejected" | "client-tls-failed"; detail: string };
  /**
   * HTTP/2 towards the client: takes over a connection (and what is under its TLS) that speaks it; null where it is not spoken.
   * `port`: not inside CONNECT, but on a proxy port.
   */
  readonly http2: ((socket: Duplex, raw: Duplex, facts: ConnectionFacts, port: ProxyPort | null) => void) | null;
  /** True while the house drains: connections are closed after the present exchange. */
  draining(): boolean;
  /** What is open, for draining and for caps. */
  readonly open: Set<{ drain(): void; destroy(): void }>;
  connectFailed?(error: ProxyError): void;
}
