// TLS with clients: ended inside CONNECT with a leaf for the host, and on the proxy port itself.
import type { TLSSocket, TlsOptions } from "node:tls";
import { createSecureContext } from "node:tls";
import { ProxyError } from "../../shared/errors.ts";
import { peerCertificate } from "./peer-certificate.ts";
import { MAX_VERSION, MIN_VERSION, SERVER_CIPHERS, SERVER_OPTIONS } from "./tls-suites.ts";

/** `server.tls`. */
export interface ProxyPortTls {
  readonly cert: { readonly pem: string };
  readonly key: { readonly pem: string };
  readonly passphrase: string | null;
  /** CAs whose certificates say who a client is; null: no client is asked. */
  readonly clientCa: { readonly pem: string } | null;
  /** HTTP/2 is offered. */
  readonly http2: boolean;
}

const HANDSHAKE_MS = 10_000;

/** Options for `tls.createServer` on the proxy port. Throws ProxyError `bad-configuration`. */
export function proxyPortTls(tls: ProxyPortTls): TlsOptions {
  const options: TlsOptions = {
    cert: tls.cert.pem,
    key: tls.key.pem,
    ...(tls.passphrase === null ? {} : { passphrase: tls.passphrase }),
    ...(tls.clientCa === null ? {} : { ca: tls.clientCa.pem, requestCert: true }),
    // A client without a certificate may still say who it is by password; `clientCertificate` refuses a bad one.
    rejectUnauthorized: false,
    minVersion: MIN_VERSION,
    maxVersion: MAX_VERSION,
    ciphers: SERVER_CIPHERS,
    honorCipherOrder: true,
    secureOptions: SERVER_OPTIONS,
    ALPNProtocols: tls.http2 ? ["h2", "http/1.1"] : ["http/1.1"],
    handshakeTimeout: HANDSHAKE_MS,
  };
  try {
    createSecureContext(options);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unreadable";
    throw new ProxyError("bad-configuration", `server.tls: the certificate and key cannot be used (${code})`);
  }
  return options;
}

export interface ClientCertificateFacts {
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint: string;
  /** Subject, one line. */
  readonly subject: string;
  /** Names of the SAN, without their types. */
  readonly names: readonly string[];
}

/** Who a client is by its certificate; null: it showed none. Throws ProxyError `wrong-credential` for a bad one. */
export function clientCertificate(socket: TLSSocket): ClientCertificateFacts | null {
  const certificate = peerCertificate(socket);
  if (certificate === null) return null;
  if (!socket.authorized) {
    throw new ProxyError(
      "wrong-credential",
      `the client's certificate is not acceptable (${socket.authorizationError})`,
    );
  }
  // Also on a resumed session, whose certificate may have ended since it was verified.
  if (Date.parse(certificate.validTo) < Date.now()) {
    throw new ProxyError("wrong-credential", "the client's certificate has expired");
  }
  return {
    fingerprint: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
    subject: certificate.subject.replaceAll("\n", ", "),
    names: namesOf(certificate.subjectAltName),
  };
}

/** DNS names, addresses, mail addresses and URIs; a quoted entry (which hides commas) is left out. */
function namesOf(san: string | undefined): string[] {
  if (san === undefined || san.includes('"')) return [];
  return san
    .split(", ")
    .map((entry) => /^(?:DNS|IP Address|email|URI):(.+)$/.exec(entry)?.[1])
    .filter((name) => name !== undefined);
}
