// The records of what is not an exchange: a CONNECT, a connection that ended before a valid request, an upgraded connection.
import type { Authority, Scheme } from "../http/messages.ts";
import type { Outcome } from "../policy/types.ts";
import type { Reason } from "../shared/errors.ts";
import type { AuditRecord, BodyRecord, OriginRecord, RecordedBody, Timings } from "./record.ts";
import { NO_BODY } from "./record.ts";

/** What all three have. What is left out is null, empty or false. Times in milliseconds. */
export interface RecordFacts {
  readonly id: string;
  readonly parent?: string | null;
  /** Milliseconds since 1970 at which it began. */
  readonly at: number;
  readonly client?: string | null;
  readonly address: string;
  readonly decision: Outcome;
  readonly rule?: string | null;
  readonly reason?: Reason | null;
  readonly status?: number | null;
  readonly sent?: BodyRecord;
  readonly received?: BodyRecord;
  readonly timings?: Partial<Timings>;
  /** From the beginning to the end. */
  readonly total: number;
  readonly origin?: OriginRecord | null;
  readonly clientProtocol?: string | null;
  readonly originProtocol?: string | null;
  readonly sni?: string | null;
  readonly uninspected?: boolean;
  readonly notes?: readonly string[] | null;
  /** For people; never a secret. */
  readonly error?: string | null;
  /** What `record:` of the rule asked for. */
  readonly requestBody?: RecordedBody | null;
  readonly responseBody?: RecordedBody | null;
}

interface Where {
  readonly method: string | null;
  readonly scheme: Scheme | null;
  readonly host: string | null;
  readonly port: number | null;
  readonly path: string | null;
}

/** A CONNECT, whatever came of it: refused or intercepted (recorded before it is answered), or tunnelled blindly (when it ends). */
export const connectRecord = (f: RecordFacts & { readonly authority: Authority }): AuditRecord => {
  const { host, port } = f.authority;
  return record("connect", f, { method: "CONNECT", scheme: null, host, port, path: null });
};

/** A connection that ended before a valid request: a failed handshake, bytes that are not HTTP. */
export const connectionRecord = (f: RecordFacts & { readonly authority?: Authority | null }): AuditRecord => {
  const { host = null, port = null } = f.authority ?? {};
  return record("connection", f, { method: null, scheme: null, host, port, path: null });
};

/** What followed a 101 (or a 2xx to CONNECT inside): `parent` is the exchange that asked for it. `path` already redacted. */
export const upgradeRecord = (
  f: RecordFacts & { readonly scheme: Scheme; readonly host: string; readonly port: number; readonly path: string },
): AuditRecord => record("upgrade", f, { method: null, scheme: f.scheme, host: f.host, port: f.port, path: f.path });

// Spelled out: V8 makes a spread of several objects slowly, and large, and each tunnel has such a record.
function record(kind: AuditRecord["kind"], f: RecordFacts, where: Where): AuditRecord {
  const whole: AuditRecord = {
    id: f.id,
    parent: f.parent ?? null,
    at: f.at,
    kind,
    client: f.client ?? null,
    address: f.address,
    decision: f.decision,
    rule: f.rule ?? null,
    reason: f.reason ?? null,
    method: where.method,
    scheme: where.scheme,
    host: where.host,
    port: where.port,
    path: where.path,
    status: f.status ?? null,
    sent: f.sent ?? NO_BODY,
    received: f.received ?? NO_BODY,
    timings: timingsOf(f),
    origin: f.origin ?? null,
    clientProtocol: f.clientProtocol ?? null,
    originProtocol: f.originProtocol ?? null,
    sni: f.sni ?? null,
    uninspected: f.uninspected ?? false,
    notes: f.notes ?? [],
    error: f.error ?? null,
  };
  if (!f.requestBody && !f.responseBody) return whole;
  return {
    ...whole,
    ...(f.requestBody ? { requestBody: f.requestBody } : {}),
    ...(f.responseBody ? { responseBody: f.responseBody } : {}),
  };
}

function timingsOf({ timings, total }: RecordFacts): Timings {
  return {
    wait: timings?.wait ?? null,
    dns: timings?.dns ?? null,
    connect: timings?.connect ?? null,
    tls: timings?.tls ?? null,
    firstByte: timings?.firstByte ?? null,
    total,
  };
}
