// What errors of node:tls mean, on both sides, in words that say what to do.
import { ProxyError } from "../../shared/errors.ts";

/** What OpenSSL says against a chain, as node:tls names them. */
const CERTIFICATE_ERRORS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "it, or a certificate of its chain, has expired",
  CERT_NOT_YET_VALID: "it is not valid yet",
  DEPTH_ZERO_SELF_SIGNED_CERT: "it is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "its chain ends in a root that is not trusted",
  UNABLE_TO_GET_ISSUER_CERT: "its issuer is not trusted",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its issuer is not trusted",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its issuer is not trusted, or its chain is incomplete",
  CERT_SIGNATURE_FAILURE: "its signature is wrong",
  INVALID_PURPOSE: "it, or a certificate of its chain, is not for servers (wrong usage)",
  INVALID_CA: "a certificate of its chain is not that of a CA",
  PATH_LENGTH_EXCEEDED: "its chain is longer than its CA allows",
  CERT_UNTRUSTED: "its issuer is not trusted",
  CERT_REJECTED: "its issuer rejects this use",
  CERT_CHAIN_TOO_LONG: "its chain is too long",
  CERT_REVOKED: "it has been revoked",
  HOSTNAME_MISMATCH: "it is for another host",
};

const ORIGIN_ALERTS: readonly (readonly [RegExp, string])[] = [
  [/CERTIFICATE_REQUIRED|PEER_DID_NOT_RETURN/, "it wants a client certificate (tls.client-certificates)"],
  [/ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE|UNSUPPORTED_CERT)/, "it refused our client certificate"],
  [/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|WRONG_SSL_VERSION/, "it speaks no TLS of version 1.2 or 1.3"],
  [/HANDSHAKE_FAILURE|NO_SHARED_CIPHER|NO_CIPHERS/, "no cipher in common (only forward secrecy and AEAD are spoken)"],
  [/DH_KEY_TOO_SMALL|EE_KEY_TOO_SMALL|CA_KEY_TOO_SMALL|MD_TOO_WEAK/, "its key or signature is too weak"],
  [/WRONG_VERSION_NUMBER|HTTP_REQUEST|PACKET_LENGTH/, "what answers there does not speak TLS"],
  [/NO_APPLICATION_PROTOCOL/, "no application protocol in common"],
  [/UNRECOGNIZED_NAME/, "it does not know this name"],
];

/** Errors that belong to a certificate although they come as a protocol error. */
const WEAK_CERTIFICATE = /EE_KEY_TOO_SMALL|CA_KEY_TOO_SMALL|MD_TOO_WEAK/;

const codeOf = (error: unknown): string => String((error as NodeJS.ErrnoException | null)?.code ?? "");
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : "");

/**
 * An error of `tls.connect` as a ProxyError: `origin-certificate` with what is wrong, or `origin-tls`. What is one already
 * stays as it is. Errors of the TCP connection are the caller's.
 */
export function classifyOriginError(error: unknown, host = "the origin"): ProxyError {
  if (error instanceof ProxyError) return error;
  const code = codeOf(error);
  const certificate = CERTIFICATE_ERRORS[code];
  if (certificate !== undefined) return certificateError(host, certificate, error);
  if (code === "UNSPECIFIED" || code.startsWith("CERT_") || code.startsWith("CRL_")) {
    return certificateError(host, `it does not verify (${messageOf(error) || code})`, error);
  }
  const known = ORIGIN_ALERTS.find(([pattern]) => pattern.test(code));
  if (known !== undefined && WEAK_CERTIFICATE.test(code)) return certificateError(host, known[1], error);
  const why =
    known?.[1] ?? (code === "ECONNRESET" ? "it closed the connection during the handshake" : code || "unknown");
  return new ProxyError("origin-tls", `TLS with ${host} failed: ${why}`, { cause: error });
}

const certificateError = (host: string, what: string, cause: unknown): ProxyError =>
  new ProxyError("origin-certificate", `the certificate of ${host}: ${what}`, { cause });

/** Alerts by which clients refuse a certificate (RFC 8446 section 6.2): 42, 43, 44, 45, 46, 48. */
const REJECTION =
  /ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNKNOWN_CA)$/;

/** True refusal of our certificate, or another failure of the handshake with a client. */
export function classifyClientTlsError(error: unknown): "client-tls-rejected" | "client-tls-failed" {
  return REJECTION.test(codeOf(error)) ? "client-tls-rejected" : "client-tls-failed";
}

/**
 * What to do about a client that failed, for the log and the record. Some (Node among them) refuse a certificate by
 * closing without an alert.
 */
export function clientTlsHint(error: unknown, host: string): string {
  const code = codeOf(error);
  if (REJECTION.test(code)) {
    const alert = (REJECTION.exec(code)?.[1] ?? "").toLowerCase().replaceAll("_", " ");
    return `the client refused our certificate for ${host} (${alert}): it does not trust the CA (run it under "sallyport run", or install "sallyport ca export"), or it pins certificates, and then this rule lets it pass unopened: ${tunnelRule(host)}`;
  }
  if (/NO_SHARED_CIPHER|PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/.test(code)) {
    return `the client speaks no TLS that we speak (1.2 or 1.3 with forward secrecy and AEAD) for ${host}`;
  }
  if (/NO_APPLICATION_PROTOCOL/.test(code))
    return `the client offered no application protocol that we speak for ${host}`;
  if (code === "ECONNRESET" || code === "EPIPE") {
    return `the client hung up during the handshake for ${host}: perhaps it does not trust the CA ("sallyport run" and "sallyport ca export" help), or it pins certificates, and then this rule lets it pass unopened: ${tunnelRule(host)}`;
  }
  return `the TLS handshake with the client for ${host} failed (${code || "unknown"})`;
}

/** The rule as it would stand in the policy file. */
const tunnelRule = (host: string): string =>
  `{ id: tunnel-${host.replace(/[^a-z0-9]+/g, "-")}, allow: ["https://${host.includes(":") ? `[${host}]` : host}"], tunnel: { reason: pins its certificate } }`;
