// The words of RFC 9110: heads of requests and responses, and where a request goes.
import type { Fields } from "./fields.ts";

export type Scheme = "http" | "https";

/**
 * An origin server, in canonical form: `host` is ASCII lower case without a trailing dot, or an IP address in its
 * shortest text (IPv6 without brackets). Two destinations are the same when all three are equal.
 */
export interface Destination {
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
}

/** A server as TLS knows it. */
export interface TlsDestination extends Destination {
  /**
   * True: the client put the name and the address together. What is for a name alone (exceptions, our certificate) is not for
   * whoever answers at such an address.
   */
  readonly claimed?: boolean;
}

/** A host and a port without a scheme, canonical as in `Destination` (the target of CONNECT; a Host field). */
export interface Authority {
  readonly host: string;
  readonly port: number;
}

export type HttpVersion = "1.0" | "1.1" | "2";

/** A request as it was received. Never edited. */
export interface RequestHead {
  readonly method: string;
  readonly scheme: Scheme;
  /** Canonical host, as in `Destination`. */
  readonly host: string;
  readonly port: number;
  /** Path and query as sent, beginning with "/" (or "*" for OPTIONS). */
  readonly path: string;
  readonly version: HttpVersion;
  readonly fields: Fields;
}

/** What the origin server will get; stages edit this one. */
export interface ForwardHead {
  method: string;
  scheme: Scheme;
  host: string;
  port: number;
  path: string;
  fields: Fields;
}

/** A final response. `length`: of the content in bytes; null: unknown until it ends. */
export interface ResponseHead {
  status: number;
  /** The reason phrase; "" for HTTP/2. */
  phrase: string;
  fields: Fields;
}
