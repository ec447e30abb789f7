// After a 101: both sides speak something else. The bytes pass unseen, counted and digested, and the upgraded connection
// has a record of its own (parent: the exchange that asked for it).

import { upgradeRecord } from "../../audit/build.ts";
import { redactQuery } from "../../audit/redact.ts";
import type { AuditSink } from "../../audit/sink.ts";
import type { Exchange } from "../../exchange/exchange.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import { firstValue } from "../../http/fields.ts";
import type { Clock } from "../../shared/clock.ts";
import { newId } from "../../shared/ids.ts";
import { BlindRelay } from "./blind-relay.ts";
import type { TimerWheel } from "./timers.ts";

export interface UpgradeServices {
  readonly wheel: TimerWheel;
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly open: Set<{ drain(): void; destroy(): void }>;
}

export function joinUpgraded(
  services: UpgradeServices,
  x: Exchange,
  client: RawConnection,
  origin: RawConnection,
): void {
  const at = services.clock.now();
  const began = services.clock.tick();
  const limits = (x.decision?.plan ?? x.policy.defaults).limits;
  const relay: BlindRelay = new BlindRelay({
    wheel: services.wheel,
    client,
    origin,
    // An upgraded connection may be silent for long: only the rule's own total ends it, or ten times the idle limit.
    limits: { bytesOut: limits.request, bytesIn: limits.response, idle: limits.idle * 10, total: limits.total },
    digest: true,
    ownBuffer: false,
    done: (end) => {
      services.open.delete(relay);
      services.sink.append(
        upgradeRecord({
          id: newId(at),
          parent: x.id,
          at,
          client: x.principal,
          address: x.connection.clientAddress,
          decision: end.reason === "tunnel-limit" ? "deny" : (x.decision?.outcome ?? "allow"),
          rule: x.decision?.rule ?? null,
          reason: end.reason,
          status: 101,
          sent: end.sent,
          received: end.received,
          total: services.clock.tick() - began,
          origin: x.origin,
          clientProtocol: firstValue(x.received.fields, "upgrade"),
          originProtocol: firstValue(x.received.fields, "upgrade"),
          sni: x.connection.connect?.sni ?? null,
          uninspected: true,
          error: end.detail,
          scheme: x.received.scheme,
          host: x.received.host,
          port: x.received.port,
          path: x.decision?.plan.record.query === true ? x.received.path : redactQuery(x.received.path),
        }),
      );
    },
  });
  services.open.add(relay);
}
