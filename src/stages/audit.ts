// First in the line, nearest the client: digests both bodies as the client sent and got them, and writes one record per exchange.
import { BodyDigest } from "../audit/body-digest.ts";
import { multipartBoundary } from "../audit/multipart.ts";
import type { AuditRecord, BodyRecord } from "../audit/record.ts";
import { EMPTY_SHA256 } from "../audit/record.ts";
import { recordedFields, recordedPath } from "../audit/redact.ts";
import type { AuditSink } from "../audit/sink.ts";
import type { Exchange } from "../exchange/exchange.ts";
import type { Stage } from "../exchange/stage.ts";
import type { Unpacker } from "../filters/decoder.ts";
import { firstValue } from "../http/fields.ts";
import type { Outcome } from "../policy/types.ts";
import { ProxyError, specOf } from "../shared/errors.ts";
import { KnownSecrets } from "../shared/known-secrets.ts";
import { recordable, WITHHELD } from "./recorded-body.ts";

export interface AuditStageOptions {
  readonly sink: AuditSink;
  /** Taken out before query values are; the sink takes them out of everything else. */
  readonly secrets?: KnownSecrets;
  /** Opens bodies in a coding, to look for secrets in what is recorded of them; without it they are not recorded. */
  readonly unpacker?: Unpacker;
}

const NO_TEXTS: readonly string[] = [];
const NO_SECRETS = new KnownSecrets();

/** The stage. A request is refused with `audit-unavailable` while the log takes no records. */
export function auditStage({ sink, secrets = NO_SECRETS, unpacker }: AuditStageOptions): Stage {
  return {
    name: "audit",
    onRequest() {
      if (sink.unavailable !== null) throw new ProxyError("audit-unavailable");
      return null;
    },
    onInterim(x, { status }) {
      const note = `informational:${status}`;
      if (!x.notes?.includes(note)) x.note(note);
    },
    requestTap(x) {
      const boundary = multipartBoundary(firstValue(x.received.fields, "content-type"));
      const tap = new BodyDigest(x.decision?.plan.record.bodies ?? 0, boundary);
      x.sent = tap;
      return tap;
    },
    responseTap(x) {
      const tap = new BodyDigest(x.decision?.plan.record.bodies ?? 0, null);
      x.receivedBody = tap;
      return tap;
    },
    onComplete(x) {
      const record = exchangeRecord(x, secrets, unpacker ?? null);
      if (x.failure?.reason !== "audit-unavailable") {
        sink.append(record, x.onRecorded ?? undefined);
        return;
      }
      // The refusal that says so must reach the client, although it can hardly be recorded.
      sink.append(record);
      x.onRecorded?.(true);
    },
  };
}

/** The record of an exchange that is over. */
export function exchangeRecord(x: Exchange, secrets: KnownSecrets, unpacker: Unpacker | null): AuditRecord {
  const { connection, received, decision } = x;
  const plan = decision?.plan.record ?? null;
  const query = plan?.query === true;
  const fieldNames = plan?.fields ?? NO_TEXTS;
  const responseFields = x.responseFields ?? x.response?.fields ?? null;
  const requestBody = x.requestBody ?? (x.sent instanceof BodyDigest ? x.sent.captured : null);
  const responseBody = x.responseBody ?? (x.receivedBody instanceof BodyDigest ? x.receivedBody.captured : null);
  const record: { -readonly [K in keyof AuditRecord]: AuditRecord[K] } = {
    id: x.id,
    parent: connection.connect?.record ?? null,
    at: x.receivedAt,
    kind: "exchange",
    client: x.principal,
    address: connection.clientAddress,
    decision: outcomeOf(x),
    rule: decision?.rule ?? x.reported,
    reason: x.failure?.reason ?? decision?.reason ?? null,
    method: received.method,
    scheme: received.scheme,
    host: received.host,
    port: received.port,
    path: recordedPath(x.shownTarget ?? received.path, query, secrets),
    status: x.response?.status ?? null,
    sent: sentOf(x),
    received: receivedOf(x),
    timings: x.timings,
    origin: x.origin,
    clientProtocol: received.version,
    originProtocol: x.originProtocol,
    sni: connection.connect?.sni ?? null,
    uninspected: false,
    notes: x.notes ?? NO_TEXTS,
    error: x.failure === null ? null : x.failure.message,
  };
  // Assigned, not spread: this runs for every exchange, and hardly one has them.
  if (fieldNames.length > 0) {
    record.requestFields = recordedFields(received.fields, fieldNames, query, secrets);
    if (responseFields !== null) record.responseFields = recordedFields(responseFields, fieldNames, query, secrets);
  }
  if (requestBody !== null) record.requestBody = recordable(requestBody, received.fields, secrets, unpacker);
  if (responseBody !== null)
    record.responseBody = recordable(responseBody, x.response?.fields ?? [], secrets, unpacker);
  noteWithheld(record);
  return record;
}

function noteWithheld(record: { -readonly [K in keyof AuditRecord]: AuditRecord[K] }): void {
  if (record.requestBody === WITHHELD) record.notes = [...record.notes, "recorded-body-withheld:request"];
  if (record.responseBody === WITHHELD) record.notes = [...record.notes, "recorded-body-withheld:response"];
}

/** A failing origin and a client that went away are no denials; everything else that failed is. */
export function outcomeOf(x: Exchange): Outcome {
  const outcome = x.decision?.outcome ?? "deny";
  if (x.failure !== null && outcome !== "deny") {
    const spec = specOf(x.failure.reason);
    if (spec.party !== "origin" && spec.status !== null) return "deny";
  }
  return outcome === "allow" && x.reported !== null ? "would-deny" : outcome;
}

/** Content that was announced and never read is not complete. */
function sentOf(x: Exchange): BodyRecord {
  if (x.sent instanceof BodyDigest) return bodyRecord(x.sent, x.sent.complete, x.sentDecoded);
  const missing = x.requestLength !== 0 && !x.requestComplete;
  return missing ? { bytes: 0, sha256: EMPTY_SHA256, complete: false } : x.sent;
}

function receivedOf(x: Exchange): BodyRecord {
  const gone = x.failure?.reason === "client-gone";
  if (x.receivedBody instanceof BodyDigest)
    return bodyRecord(x.receivedBody, x.receivedBody.complete && !gone, x.receivedDecoded);
  return x.response === null || gone ? { ...x.receivedBody, complete: false } : x.receivedBody;
}

function bodyRecord(
  body: BodyDigest,
  complete: boolean,
  decoded: { readonly bytes: number; readonly sha256: string } | null,
): BodyRecord {
  const parts = body.multipart;
  const record: { -readonly [K in keyof BodyRecord]: BodyRecord[K] } = {
    bytes: body.bytes,
    sha256: body.sha256,
    complete,
  };
  if (decoded !== null) record.decoded = decoded;
  if (parts !== null && parts.length > 0) record.parts = parts;
  return record;
}
