// The record of what followed a 101: who and where come from the exchange that asked for it, the rest from who relayed it.
import { type RecordFacts, upgradeRecord } from "../audit/build.ts";
import type { AuditRecord } from "../audit/record.ts";
import { recordedPath } from "../audit/redact.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { upgradeTokens } from "../http/web-socket.ts";
import type { Outcome } from "../policy/types.ts";
import { type Reason, specOf } from "../shared/errors.ts";
import type { KnownSecrets } from "../shared/known-secrets.ts";

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

/** The record; `secrets` are taken out of its path before query values are, and by the sink out of everything else. */
export function upgradedRecord(x: Exchange, facts: UpgradeFacts, secrets: KnownSecrets): AuditRecord {
  const { received, decision, connection } = x;
  const path = recordedPath(x.shownTarget ?? received.path, decision?.plan.record.query === true, secrets);
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
    path,
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
