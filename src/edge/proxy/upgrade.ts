// After a 101 to a protocol that we do not speak: the bytes pass unseen, counted and digested, and the upgraded connection
// has a record of its own (parent: the exchange that asked for it).

import type { AuditSink } from "../../audit/sink.ts";
import type { Exchange } from "../../exchange/exchange.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Clock } from "../../shared/clock.ts";
import { newId } from "../../shared/ids.ts";
import type { KnownSecrets } from "../../shared/known-secrets.ts";
import { upgradedRecord } from "../../stages/upgrade-record.ts";
import { BlindRelay } from "./blind-relay.ts";
import type { TimerWheel } from "./timers.ts";

export interface UpgradeServices {
  readonly wheel: TimerWheel;
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly open: Set<{ drain(): void; destroy(): void }>;
  readonly secrets: KnownSecrets;
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
    unseen: "none",
    done: ({ sent, received, reason, detail }) => {
      services.open.delete(relay);
      const total = services.clock.tick() - began;
      const facts = { id: newId(at), at, sent, received, reason, error: detail, total, uninspected: true };
      services.sink.append(upgradedRecord(x, facts, services.secrets));
    },
  });
  services.open.add(relay);
}
