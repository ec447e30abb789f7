// The one table of reasons. Its keys are the tokens that users, logs, tests, metrics and the audit log see.
// Statuses follow RFC 9110 section 15; `error` is the type of RFC 9209 (Proxy-Status) section 2.3.

/** Who made the exchange fail. */
export type Party = "client" | "policy" | "origin" | "proxy";

export interface ReasonSpec {
  readonly party: Party;
  /** The status that we answer with; null where no response can be sent (audit only). */
  readonly status: number | null;
  /** The RFC 9209 error type; null where no response is sent. */
  readonly error: string | null;
  /** What it means, for `docs/errors.md` and the refusal's text. */
  readonly means: string;
}

const reason = (party: Party, status: number | null, error: string | null, means: string): ReasonSpec => ({
  party,
  status,
  error,
  means,
});

export const REASONS = {
  // the client
  "malformed-request": reason("client", 400, "http_request_error", "the request is not valid HTTP"),
  "ambiguous-framing": reason(
    "client",
    400,
    "http_request_error",
    "two readers could disagree about where the request ends",
  ),
  "not-a-proxy-request": reason("client", 400, "http_request_error", "an origin-form request reached the proxy port"),
  unauthenticated: reason("client", 407, "http_request_error", "the proxy wants to know who is speaking"),
  "wrong-credential": reason("client", 407, "http_request_error", "the proxy credential is wrong or has expired"),
  "method-not-allowed": reason("client", 405, "http_request_error", "the proxy does not forward this method"),
  "request-timeout": reason("client", 408, "http_request_error", "the request did not arrive in time"),
  "request-too-large": reason("client", 413, "http_request_error", "the request content is larger than the limit"),
  "target-too-long": reason("client", 414, "http_request_error", "the request target is longer than the limit"),
  "expectation-failed": reason("client", 417, "http_request_error", "an expectation other than 100-continue"),
  misdirected: reason("client", 421, "http_request_error", "the names of CONNECT, SNI and Host do not agree"),
  "fields-too-large": reason("client", 431, "http_request_error", "the field section is larger than the limit"),
  "not-implemented": reason(
    "client",
    501,
    "http_request_error",
    "a method or transfer coding that the proxy does not know",
  ),
  "version-not-supported": reason(
    "client",
    505,
    "http_request_error",
    "an HTTP version that the proxy does not speak here",
  ),
  "client-gone": reason("client", null, null, "the client went away before the end"),
  "client-tls-rejected": reason("client", null, null, "the client refused our certificate"),
  "client-tls-failed": reason("client", null, null, "the TLS handshake with the client failed"),
  // the policy
  "not-allowed": reason("policy", 403, "http_request_denied", "no rule allows this request, or a rule denies it"),
  "content-blocked": reason("policy", 403, "http_request_denied", "the content matches a filter"),
  "address-prohibited": reason(
    "policy",
    403,
    "destination_ip_prohibited",
    "the address is private, our own, or otherwise closed",
  ),
  "decode-limit": reason("policy", 403, "http_request_denied", "the decoded content is larger than the limit"),
  "undecodable-request": reason(
    "policy",
    415,
    "http_request_error",
    "the request content cannot be decoded for inspection",
  ),
  "undecodable-response": reason(
    "policy",
    502,
    "http_response_content_coding",
    "the response content cannot be decoded for inspection",
  ),
  "opaque-protocol": reason("policy", null, null, "neither TLS nor HTTP inside CONNECT"),
  "tunnel-limit": reason("policy", null, null, "a blind tunnel reached its limit"),
  "rate-limited": reason("policy", 429, "http_request_denied", "too many requests"),
  // the origin
  "origin-unresolved": reason("origin", 502, "dns_error", "the name of the origin cannot be resolved"),
  "origin-dns-timeout": reason("origin", 504, "dns_timeout", "the name servers did not answer in time"),
  "origin-refused": reason("origin", 502, "connection_refused", "the origin refused the connection"),
  "origin-unreachable": reason("origin", 502, "destination_unavailable", "the origin cannot be reached"),
  "origin-tls": reason("origin", 502, "tls_protocol_error", "the TLS handshake with the origin failed"),
  "origin-certificate": reason(
    "origin",
    502,
    "tls_certificate_error",
    "the certificate of the origin is not acceptable",
  ),
  "origin-connect-timeout": reason("origin", 504, "connection_timeout", "the connection to the origin took too long"),
  "origin-timeout": reason("origin", 504, "http_response_timeout", "the origin did not answer in time"),
  "origin-incomplete": reason("origin", 502, "http_response_incomplete", "the response of the origin broke off"),
  "origin-protocol": reason("origin", 502, "http_protocol_error", "the response of the origin is not valid HTTP"),
  "response-too-large": reason(
    "origin",
    502,
    "http_response_body_size",
    "the response content is larger than the limit",
  ),
  "next-proxy-refused": reason("origin", 502, "http_response_status", "the next proxy refused to forward"),
  // the proxy
  loop: reason("proxy", 502, "proxy_loop_detected", "the request has been here before"),
  busy: reason("proxy", 503, "connection_limit_reached", "the proxy cannot take more now"),
  "audit-unavailable": reason(
    "proxy",
    503,
    "proxy_internal_error",
    "the audit log cannot be written, and nothing passes unrecorded",
  ),
  "bad-configuration": reason("proxy", 500, "proxy_configuration_error", "the configuration does not work"),
  "shutting-down": reason("proxy", 503, "proxy_internal_error", "the proxy is shutting down"),
  internal: reason("proxy", 500, "proxy_internal_error", "an error of the proxy itself"),
} as const satisfies Readonly<Record<string, ReasonSpec>>;

export type Reason = keyof typeof REASONS;

/** What the table says about a reason. */
export const specOf = (reason: Reason): ReasonSpec => REASONS[reason];

/**
 * An error with a reason of the table. Born where the problem is seen, translated where it ends; nobody in between catches.
 * `detail` is for people: it must never hold a credential, a body or a field value.
 */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly reason: Reason;
  /** A status of the rule's choice instead of the table's. */
  readonly status: number | null;
  constructor(reason: Reason, detail?: string, options?: ErrorOptions & { status?: number }) {
    super(detail ?? REASONS[reason].means, options);
    this.reason = reason;
    this.status = options?.status ?? REASONS[reason].status;
  }
}

/** Any thrown value as a ProxyError: what is not one is `internal` (invariant: unknown means refuse). */
export const asProxyError = (thrown: unknown): ProxyError =>
  thrown instanceof ProxyError ? thrown : new ProxyError("internal", undefined, { cause: thrown });
