// The audit record: one for each CONNECT, exchange, connection that ended before a valid request, upgraded connection
// (and, later, JSON-RPC message). Never a body, unless a rule asks for it. See docs and experience: "The audit log".
import type { Scheme } from "../http/messages.ts";
import type { Outcome } from "../policy/types.ts";
import type { Reason } from "../shared/errors.ts";

/** `connection`: it ended before a valid request (TLS or parse failure). `upgrade`: what followed a 101. */
export type RecordKind = "connect" | "exchange" | "connection" | "upgrade";

/** One body in one direction. Digests are lower-case hex of SHA-256. */
export interface BodyRecord {
  /** Bytes as they crossed the wire at the client's side (content, without chunk framing). */
  readonly bytes: number;
  readonly sha256: string;
  /** False: the transfer broke, was refused or was cut before its end. */
  readonly complete: boolean;
  /** Where it was decoded: the decoded bytes. */
  readonly decoded?: { readonly bytes: number; readonly sha256: string };
  /** Digests of the whole parts of a multipart body. */
  readonly parts?: readonly string[];
  /** Of a WebSocket: how many messages. Bytes and digest are those of their payloads, in order. */
  readonly messages?: number;
}

/** Milliseconds, to a hundredth; null where the step did not happen. */
export interface Timings {
  /** From the request head to the start of the origin's side: policy, queues, authentication. */
  wait: number | null;
  dns: number | null;
  connect: number | null;
  tls: number | null;
  /** From the request sent to the first byte of the response head. */
  firstByte: number | null;
  total: number;
}

export interface OriginRecord {
  /** The address that was dialled (checked before), or null behind a next proxy. */
  readonly address: string | null;
  readonly port: number;
  readonly tls: string | null;
  /** SHA-256 of the origin's certificate (DER), lower-case hex. */
  readonly fingerprint: string | null;
  readonly resolvedBy: "here" | "next-proxy";
  /** Where a `to` rule sent it: `https://host:port`; null: where the client asked. */
  readonly to: string | null;
  /** The next proxy: `http://host:port`, without credentials. */
  readonly via: string | null;
}

export interface AuditRecord {
  readonly id: string;
  /** The record of the CONNECT (or of the exchange, for `upgrade`) that this one happened inside. */
  readonly parent: string | null;
  /** Milliseconds since 1970 at which it began. */
  readonly at: number;
  readonly kind: RecordKind;
  readonly client: string | null;
  readonly address: string;
  readonly decision: Outcome;
  readonly rule: string | null;
  readonly reason: Reason | null;
  /** null where none was understood (kind `connection`). */
  readonly method: string | null;
  readonly scheme: Scheme | null;
  readonly host: string | null;
  readonly port: number | null;
  /** As sent; query values redacted unless the rule says otherwise. */
  readonly path: string | null;
  /** The status that the client got; null: none. */
  readonly status: number | null;
  /** From the client to the origin, and back. */
  readonly sent: BodyRecord;
  readonly received: BodyRecord;
  readonly timings: Timings;
  readonly origin: OriginRecord | null;
  /** Protocol versions on both sides, such as "1.1", "2", "tls", "tcp". */
  readonly clientProtocol: string | null;
  readonly originProtocol: string | null;
  /** SNI of the client where there was TLS. */
  readonly sni: string | null;
  /** True when the bytes were not opened: a blind tunnel or an upgraded connection. */
  readonly uninspected: boolean;
  /** What happened beside the decision: `host-replaced`, `trailers-dropped`, `content-reported:RULE` … */
  readonly notes: readonly string[];
  /** Detail of a failure, for people; never a secret. */
  readonly error: string | null;
  /** What `record:` of the rule asked for. Flat field lists; bodies in base64, with whether they are whole. */
  readonly requestFields?: readonly string[];
  readonly responseFields?: readonly string[];
  readonly requestBody?: RecordedBody;
  readonly responseBody?: RecordedBody;
}

export interface RecordedBody {
  readonly base64: string;
  readonly whole: boolean;
}

/** SHA-256 of nothing. */
export const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** A body that was not there. */
export const NO_BODY: BodyRecord = Object.freeze({ bytes: 0, sha256: EMPTY_SHA256, complete: true });
