// The port for counting what happens (the admin edge implements it with Prometheus). Cheap enough for the hot path.

/** The first digit of the status that the client got, or `none` where it got none. */
export type StatusClass = "1xx" | "2xx" | "3xx" | "4xx" | "5xx" | "none";

/** One finished exchange, in numbers. */
export interface RequestFigures {
  /** The client's name in the policy, or null for an anonymous one. */
  readonly client: string | null;
  readonly statusClass: StatusClass;
  /** The id of the rule that decided, or null for the default. */
  readonly rule: string | null;
  readonly decision: "allow" | "deny" | "would-deny";
  /** Seconds that the proxy itself took, and from the request head to the last byte. */
  readonly proxySeconds: number;
  readonly totalSeconds: number;
  /** Content bytes from the client, and to it. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** The reason of a refusal or failure; absent or null: none. */
  readonly reason?: string | null;
}

export type ConnectionSide = "client" | "origin";
/** `rejected`: the other end did not accept our certificate. */
export type HandshakeResult = "full" | "resumed" | "rejected" | "failed";

export interface Metrics {
  /** Once for each exchange, when it is over. */
  requestDone(figures: RequestFigures): void;
  connectionOpened(side: ConnectionSide): void;
  connectionClosed(side: ConnectionSide): void;
  tlsHandshake(side: ConnectionSide, result: HandshakeResult): void;
  leafMinted(): void;
  /** A client that refuses our certificate: it has not got our CA, or it pins. */
  clientTlsRejected(): void;
  tunnelOpened(): void;
  tunnelClosed(bytesSent: number, bytesReceived: number): void;
  /** A policy is in force since `atSeconds` (since 1970). */
  policyLoaded(version: string, atSeconds: number): void;
  policyReloadFailed(): void;
}

/** The status class of a status; null: the client got none. */
export function statusClassOf(status: number | null): StatusClass {
  if (status === null || status < 100) return "none";
  if (status < 200) return "1xx";
  if (status < 300) return "2xx";
  if (status < 400) return "3xx";
  return status < 500 ? "4xx" : "5xx";
}
