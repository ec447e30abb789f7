// The record of what followed a 101: who and where come from the exchange that asked for it, the rest from who relayed it.
import { type RecordFacts, upgradeRecord } from "../audit/build.ts";
import type { AuditRecord } from "../audit/record.ts";
import { redactBody, redactQuery, redactSecrets } from "../audit/redact.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { upgradeTokens } from "../http/web-socket.ts";
import type { Outcome } from "../policy/types.ts";
import { type Reason, specOf } from "../shared/errors.ts";

export type UpgradeFacts = Pick<
  RecordFacts,
  | "id"
  | "at"
  | "sent"
  | "received"
  | "reason"
  | "error"
  | "total"
  | "uninspected"
  | "notes"
  | "requestBody"
  | "responseBody"
> & {
  /** The rule whose content filter only reports what it found; null: none. */
  readonly reported?: string | null;
};

/** `secrets`: values that are replaced wherever they would be recorded. */
export function upgradedRecord(x: Exchange, facts: UpgradeFacts, secrets: readonly string[]): AuditRecord {
  const { received, decision, connection } = x;
  const path = decision?.plan.record.query === true ? received.path : redactQuery(received.path);
  const protocol = x.webSocket === null ? upgradeTokens(received.fields).join(", ") : "websocket";
  return upgradeRecord({
    ...facts,
    parent: x.id,
    client: x.principal,
    address: connection.clientAddress,
    decision: outcome(x, facts),
    rule: decision?.rule ?? facts.reported ?? null,
    status: 101,
    origin: x.origin,
    clientProtocol: protocol,
    originProtocol: protocol,
    sni: connection.connect?.sni ?? null,
    scheme: received.scheme,
    host: received.host,
    port: received.port,
    path: redactSecrets(path, secrets),
    error: facts.error ? redactSecrets(facts.error, secrets) : null,
    requestBody: facts.requestBody ? redactBody(facts.requestBody, secrets) : null,
    responseBody: facts.responseBody ? redactBody(facts.responseBody, secrets) : null,
  });
}

/** A side that broke, a drain and an origin's fault are no denials; what the policy or a limit ended is. */
function outcome(x: Exchange, facts: UpgradeFacts): Outcome {
  const before = x.decision?.outcome ?? "allow";
  if (facts.reason && denies(facts.reason)) return "deny";
  return before === "allow" && facts.reported ? "would-deny" : before;
}

function denies(reason: Reason): boolean {
  const { party, status } = specOf(reason);
  return party === "policy" || (party === "client" && status !== null);
}
