// After a 101 that agreed on a WebSocket: joins the two connections, and writes the record of what passed between them.
import type { AuditSink } from "../../audit/sink.ts";
import type { Exchange } from "../../exchange/exchange.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Turns } from "../../exchange/turns.ts";
import type { WebSocketAgreement } from "../../http/web-socket.ts";
import type { Clock } from "../../shared/clock.ts";
import { newId } from "../../shared/ids.ts";
import type { KnownSecrets } from "../../shared/known-secrets.ts";
import { upgradedRecord } from "../../stages/upgrade-record.ts";
import type { Assembly } from "./assembly.ts";
import { type RelayEnd, WebSocketRelay, type Wheel } from "./relay.ts";
import { TIMES, type Times } from "./times.ts";

export interface WebSocketServices {
  readonly wheel: Wheel;
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly open: Set<{ drain(): void; destroy(): void }>;
  readonly secrets: KnownSecrets;
  readonly assembly: Assembly;
  readonly turns: Turns;
  readonly times?: Times;
}

/** A WebSocket may be silent for long: it ends after this many times the idle limit. */
const IDLE_FACTOR = 10;

/** Joins the client's connection and the origin's. */
export function joinWebSocket(
  services: WebSocketServices,
  x: Exchange,
  agreement: WebSocketAgreement,
  client: RawConnection,
  origin: RawConnection,
): void {
  const { clock, sink, open, wheel, assembly, turns, times = TIMES } = services;
  const at = clock.now();
  const began = clock.tick();
  const id = newId(at);
  const { limits } = (x.decision ?? { plan: x.policy.defaults }).plan;
  // The record of the handshake is taken already: what is noted from now on belongs to the next one.
  x.notes = null;
  x.reported = null;
  const done = (end: RelayEnd): void => {
    const sent = end.sent.record();
    const received = end.received.record();
    const facts = {
      ...{ id, at, total: clock.tick() - began, uninspected: false },
      ...{ sent: sent.body, received: received.body, requestBody: sent.captured, responseBody: received.captured },
      ...{ reason: end.reason, error: end.detail, reported: x.reported },
      notes: [...(x.notes ?? []), ...end.notes],
    };
    sink.append(upgradedRecord(x, facts, services.secrets));
  };
  const relay: WebSocketRelay = new WebSocketRelay({
    ...{ wheel, assembly, turns, times, exchange: x, agreement, client, origin, id, done },
    idle: limits.idle * IDLE_FACTOR,
    total: limits.total,
    gone: () => open.delete(relay),
  });
  open.add(relay);
  relay.start();
}
