// What is measured. Each scenario is a job for the load generator and the unit that its CPU time is divided by.
import type { Job } from "./load/job.ts";

export type ScenarioId =
  | "keep-alive"
  | "h2"
  | "connections"
  | "down"
  | "up"
  | "plain"
  | "tunnel-down"
  | "tunnel-up"
  | "tunnel-connections"
  | "websocket"
  | "rules-1"
  | "rules-1000"
  | "idle";

/** Microseconds each, seconds for 10^9 bytes, or KiB of memory each. */
export type Unit = "us/request" | "us/connection" | "us/message" | "s/GB" | "KiB/connection";

export interface Scenario {
  readonly id: ScenarioId;
  readonly title: string;
  readonly unit: Unit;
  readonly job: Pick<Job, "kind" | "way" | "content" | "fresh" | "connections" | "streams">;
  /**
   * Units of work, where time allows, before the first measurement, and a part of them before each later one: after these a
   * compiled program is as fast as it gets.
   */
  readonly warmth: number;
  /** Our proxy runs it with this many rules instead of none, and no peer runs it. */
  readonly rules?: number;
}

const KEPT: Scenario["job"] = {
  kind: "requests",
  way: "intercepted",
  content: "small",
  fresh: false,
  connections: 32,
  streams: 1,
};

export const SCENARIOS: readonly Scenario[] = [
  {
    id: "keep-alive",
    title: "intercepted, keep-alive, 1 KiB, HTTP/1.1",
    unit: "us/request",
    warmth: 15_000,
    job: KEPT,
  },
  {
    id: "h2",
    title: "intercepted, 1 KiB, HTTP/2",
    unit: "us/request",
    warmth: 15_000,
    job: { ...KEPT, kind: "h2", connections: 8, streams: 8 },
  },
  {
    id: "connections",
    title: "intercepted, new CONNECT and TLS each",
    unit: "us/connection",
    warmth: 8_000,
    job: { ...KEPT, fresh: true, connections: 8 },
  },
  {
    id: "down",
    title: "intercepted, 64 MiB down",
    unit: "s/GB",
    warmth: 8,
    job: { ...KEPT, content: "down", connections: 4 },
  },
  {
    id: "up",
    title: "intercepted, 64 MiB up",
    unit: "s/GB",
    warmth: 8,
    job: { ...KEPT, content: "up", connections: 4 },
  },
  {
    id: "plain",
    title: "plain HTTP, keep-alive, 1 KiB",
    unit: "us/request",
    warmth: 15_000,
    job: { ...KEPT, way: "plain" },
  },
  {
    id: "tunnel-down",
    title: "blind tunnel, 64 MiB down",
    unit: "s/GB",
    warmth: 8,
    job: { ...KEPT, way: "tunnel", content: "down", connections: 4 },
  },
  {
    id: "tunnel-up",
    title: "blind tunnel, 64 MiB up",
    unit: "s/GB",
    warmth: 8,
    job: { ...KEPT, way: "tunnel", content: "up", connections: 4 },
  },
  {
    id: "tunnel-connections",
    title: "blind tunnel, new each",
    unit: "us/connection",
    warmth: 8_000,
    job: { ...KEPT, way: "tunnel", fresh: true, connections: 8 },
  },
  {
    id: "websocket",
    title: "WebSocket inside CONNECT, 1 KiB echo",
    unit: "us/message",
    warmth: 15_000,
    job: { ...KEPT, kind: "websocket", connections: 16 },
  },
  { id: "rules-1", title: "intercepted, keep-alive, 1 rule", unit: "us/request", warmth: 15_000, job: KEPT, rules: 1 },
  {
    id: "rules-1000",
    title: "intercepted, keep-alive, 1,000 rules",
    unit: "us/request",
    warmth: 15_000,
    job: KEPT,
    rules: 1000,
  },
  {
    id: "idle",
    title: "1,000 idle connections, memory",
    unit: "KiB/connection",
    warmth: 0,
    job: { ...KEPT, kind: "idle", connections: 1000 },
  },
];

/** CPU seconds and an amount of work, in the scenario's unit. An echo is two messages. */
export function costOf(unit: Unit, cpu: number, work: { count: number; bytes: number }): number {
  switch (unit) {
    case "s/GB":
      return cpu / (work.bytes / 1e9);
    case "us/message":
      return (cpu * 1e6) / (2 * work.count);
    default:
      return (cpu * 1e6) / work.count;
  }
}

/** What proxies play: all but those that are about our own rules. `not`: what this one cannot. */
export const scenariosBut = (...not: readonly ScenarioId[]): ScenarioId[] =>
  SCENARIOS.filter((s) => s.rules === undefined && !not.includes(s.id)).map((s) => s.id);
