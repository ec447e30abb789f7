// TLS towards origins: whom to trust, which exceptions hold, which certificate we show, which session is resumed. The
// caller connects with `optionsFor`, and calls `accept` at secureConnect, before it sends a byte.
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import type { Destination, TlsDestination } from "../../http/messages.ts";
import { ProxyError } from "../../shared/errors.ts";
import { BoundedMap } from "./bounded-map.ts";
import { chainOf, coversHost, describeFaults, type ExcusableFault, faultsOf, wrongHost } from "./origin-faults.ts";
import { peerCertificate } from "./peer-certificate.ts";
import { classifyOriginError } from "./tls-errors.ts";
import { MAX_VERSION, MIN_VERSION, ORIGIN_CIPHERS } from "./tls-suites.ts";

/** What an operator lets pass for one host, why, and until when. */
export interface TlsException {
  /** Canonical host, or `*.suffix` for the names below it. */
  readonly host: string;
  readonly allow: readonly ExcusableFault[];
  readonly reason: string;
  /** Milliseconds since 1970 from which it no longer holds. */
  readonly until: number;
}

/** The certificate that we show to one host which asks for one. */
export interface ClientCertificate {
  /** Canonical host, or `*.suffix`. */
  readonly host: string;
  /** The chain; the key is secret. */
  readonly cert: { readonly pem: string };
  readonly key: { readonly pem: string };
  readonly passphrase: string | null;
}

export interface OriginTlsOptions {
  /** PEM of each trusted root: the system's and those of `tls.roots`. */
  readonly roots: readonly string[];
  readonly exceptions: readonly TlsException[];
  readonly clientCertificates: readonly ClientCertificate[];
  /** Wall-clock time in milliseconds since 1970. */
  readonly now: () => number;
  /** Sessions that are kept; 2,000 unless said. */
  readonly sessions?: number;
}

/** What the record says of the origin's TLS. */
export interface OriginTlsFacts {
  /** Such as `TLSv1.3`. */
  readonly protocol: string;
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint: string | null;
}

/** Sessions end with servers after a day at most (RFC 8446 section 4.6.1: seven days); older ones are not offered. */
const SESSION_MS = 24 * 3_600_000;

/** One per loaded configuration: a reload makes a new one, and forgets all sessions. */
export class OriginTls {
  readonly #options: OriginTlsOptions;
  readonly #context: SecureContext;
  readonly #clientContexts: readonly (readonly [host: string, context: SecureContext])[];
  readonly #sessions: BoundedMap<{ readonly session: Buffer; readonly until: number }>;
  #parsedRoots: X509Certificate[] | null = null;

  /** Throws ProxyError `bad-configuration` when a client certificate does not fit its key. */
  constructor(options: OriginTlsOptions) {
    this.#options = options;
    this.#sessions = new BoundedMap(options.sessions ?? 2000);
    this.#context = this.#makeContext();
    this.#clientContexts = options.clientCertificates.map((one) => [one.host, this.#makeContext(one)]);
  }

  /**
   * Options for `tls.connect`, which lack the address, the port and `onread`. `clientKey`: whose connection it is; sessions
   * are resumed for the same host, port and client only. `alpn` in order of preference; empty: none is offered.
   */
  optionsFor(destination: TlsDestination, clientKey: string, alpn: string[]): ConnectionOptions {
    const { host } = destination;
    const excused = this.#liveExceptions(destination).length > 0;
    const session = excused ? undefined : this.#sessionFor(destination, clientKey);
    return {
      secureContext: this.#contextFor(destination),
      // SNI carries host names only (RFC 6066 section 3).
      servername: isIP(host) === 0 ? host : "",
      ...(alpn.length > 0 ? { ALPNProtocols: alpn } : {}),
      ...(session === undefined ? {} : { session }),
      // Where an exception may hold, `accept` decides alone; everywhere else node:tls refuses first.
      rejectUnauthorized: !excused,
      checkServerIdentity: (_name, certificate) => (excused ? undefined : identityError(certificate.raw, host)),
    };
  }

  /**
   * Always called at secureConnect (a resumed session was verified when it began: node:tls does not ask again, we do), before a byte is sent. Returns a note for the record when an exception was used, else null.
   * Throws ProxyError `origin-certificate`; the caller then destroys the socket.
   */
  accept(socket: TLSSocket, destination: TlsDestination): string | null {
    const leaf = peerCertificate(socket);
    if (leaf === null) throw new ProxyError("origin-certificate", `${destination.host} showed no certificate`);
    const code = socket.authorized ? null : String(socket.authorizationError);
    const now = this.#options.now();
    const sent = code === null ? [] : chainOf(socket.getPeerCertificate(true));
    const faults = faultsOf({ leaf, sent, host: destination.host, code, now }, () => this.#roots());
    if (faults.size === 0) return null;
    const exceptions = this.#liveExceptions(destination);
    const allowed = new Set<string>(exceptions.flatMap((exception) => exception.allow));
    for (const fault of faults) {
      if (!allowed.has(fault)) {
        throw new ProxyError("origin-certificate", describeFaults(faults, leaf, destination.host));
      }
    }
    return `tls-exception:${[...faults].join("+")}`;
  }

  /** Keeps a session (the `session` event) for the next connection of this client to this origin. */
  rememberSession(destination: TlsDestination, clientKey: string, session: Buffer): void {
    if (this.#liveExceptions(destination).length > 0) return;
    const until = this.#options.now() + SESSION_MS;
    this.#sessions.set(sessionKey(destination, clientKey), { session, until });
  }

  /** An error of `tls.connect`, in words: `origin-certificate` or `origin-tls`. */
  classify(error: unknown, destination: Destination): ProxyError {
    return classifyOriginError(error, destination.host);
  }

  /** For the record; call it after secureConnect and before the socket ends. */
  describe(socket: TLSSocket): OriginTlsFacts {
    const fingerprint = peerCertificate(socket)?.fingerprint256 ?? null;
    return {
      protocol: socket.getProtocol() ?? "unknown",
      fingerprint: fingerprint === null ? null : fingerprint.replaceAll(":", "").toLowerCase(),
    };
  }

  #sessionFor(destination: TlsDestination, clientKey: string): Buffer | undefined {
    const key = sessionKey(destination, clientKey);
    const kept = this.#sessions.get(key);
    if (kept === undefined) return undefined;
    // TLS 1.3 tickets are for one use (RFC 8446 appendix C.4): the next connection brings a new one.
    this.#sessions.delete(key);
    return this.#options.now() < kept.until ? kept.session : undefined;
  }

  #liveExceptions({ host, claimed }: TlsDestination): readonly TlsException[] {
    const { exceptions, now } = this.#options;
    if (exceptions.length === 0 || claimed === true) return [];
    const at = now();
    return exceptions.filter((exception) => at < exception.until && hostMatches(exception.host, host));
  }

  /** The first client certificate that is for the host, else none. */
  #contextFor({ host, claimed }: TlsDestination): SecureContext {
    if (claimed === true) return this.#context;
    for (const [pattern, context] of this.#clientContexts) if (hostMatches(pattern, host)) return context;
    return this.#context;
  }

  #roots(): readonly X509Certificate[] {
    this.#parsedRoots ??= this.#options.roots.map((text) => new X509Certificate(text));
    return this.#parsedRoots;
  }

  #makeContext(certificate?: ClientCertificate): SecureContext {
    try {
      return createSecureContext({
        ca: [...this.#options.roots],
        minVersion: MIN_VERSION,
        maxVersion: MAX_VERSION,
        ciphers: ORIGIN_CIPHERS,
        ...(certificate === undefined ? {} : { cert: certificate.cert.pem, key: certificate.key.pem }),
        ...(certificate?.passphrase == null ? {} : { passphrase: certificate.passphrase }),
      });
    } catch (error) {
      if (certificate === undefined) throw error;
      // The message of OpenSSL names no secret, but the cause could hold the input.
      const code = (error as NodeJS.ErrnoException).code ?? "unreadable";
      throw new ProxyError("bad-configuration", `tls.client-certificates: ${certificate.host}: ${code}`);
    }
  }
}

const sessionKey = ({ host, port, claimed }: TlsDestination, clientKey: string): string =>
  `${host} ${port} ${claimed === true} ${clientKey}`;

const hostMatches = (pattern: string, host: string): boolean =>
  pattern.startsWith("*.") ? isIP(host) === 0 && host.endsWith(pattern.slice(1)) : pattern === host;

/** The error that ends the handshake when no SAN covers the host. */
function identityError(der: Buffer, host: string): Error | undefined {
  const leaf = new X509Certificate(der);
  if (coversHost(leaf, host)) return undefined;
  return new ProxyError("origin-certificate", `the certificate of ${host}: ${wrongHost(leaf, host)}`);
}
