// What never became an exchange: a head that is not valid, a target that cannot be read. It is answered, and it has a
// record of its own (invariant 2).
import { connectionRecord } from "../../audit/build.ts";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import { refusal } from "../../exchange/refusal.ts";
import { firstValue } from "../../http/fields.ts";
import type { Head } from "../../http/parse-head.ts";
import { fieldLines } from "../../http/serialise.ts";
import type { ProxyError } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import type { ProxyServices } from "./services.ts";

/** Records a connection that ended before a valid request; gives back the record's id. */
export function recordEarlyEnd(
  services: ProxyServices,
  facts: ConnectionFacts,
  error: ProxyError,
  head: Head | null,
): string {
  const now = services.clock.now();
  const id = newId(now);
  services.sink.append(
    connectionRecord({
      id,
      parent: facts.connect?.record ?? null,
      at: now,
      client: facts.connect?.client ?? facts.assignedClient,
      address: facts.clientAddress,
      decision: "deny",
      reason: error.reason,
      status: error.status,
      total: 0,
      clientProtocol: head === null ? null : `1.${head.minor}`,
      sni: facts.connect?.sni ?? null,
      authority: facts.connect?.authority ?? null,
      error: error.message,
    }),
  );
  return id;
}

/** The whole answer, after which the connection is closed, since nothing behind it can be framed. */
export function earlyRefusal(
  services: ProxyServices,
  error: ProxyError,
  head: Head | null,
  id: string,
): { head: string; content: Uint8Array } {
  const accept = head === null ? null : firstValue(head.fields, "accept");
  const local = refusal(error, { id, accept, rule: null, message: error.message }, services.refusalOptions());
  const lines = fieldLines(local.fields, local.content.length, null);
  return {
    head: `HTTP/1.1 ${local.status} ${local.phrase}\r\n${lines}Connection: close\r\n\r\n`,
    content: head?.method === "HEAD" ? new Uint8Array(0) : local.content,
  };
}
