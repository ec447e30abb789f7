// What must be reached, as ratios to peers in the same run; absolute times say more about the machine than about us.
import { costIn, OWN, type Results, ratioTo } from "./results.ts";
import type { ScenarioId } from "./scenarios.ts";

export interface Target {
  readonly scenario: ScenarioId;
  readonly peer: string;
  /** Our cost divided by the peer's may be this at most… */
  readonly atMost: number;
  /** …or must be below it. */
  readonly strictly?: boolean;
}

/** With ArrayBuffer.prototype.transfer (Node 22) the buffers of uploads can be given back early. */
const CAN_TRANSFER = "transfer" in ArrayBuffer.prototype;

export const TARGETS: readonly Target[] = [
  { scenario: "keep-alive", peer: "squid", atMost: 0.65 },
  { scenario: "keep-alive", peer: "privoxy", atMost: 1, strictly: true },
  { scenario: "keep-alive", peer: "http-mitm-proxy", atMost: 0.25 },
  { scenario: "plain", peer: "squid", atMost: 0.5 },
  { scenario: "connections", peer: "squid", atMost: 0.85 },
  { scenario: "down", peer: "squid", atMost: 0.9 },
  { scenario: "up", peer: "squid", atMost: CAN_TRANSFER ? 1.6 : 2 },
  { scenario: "tunnel-down", peer: "squid", atMost: 1.15 },
  { scenario: "tunnel-up", peer: "squid", atMost: 1.15 },
  { scenario: "tunnel-connections", peer: "squid", atMost: 1.8 },
];

/** Resident bytes of our whole process tree, after everything. */
export const MOST_RESIDENT = 160e6;

export interface Verdict {
  readonly what: string;
  readonly met: boolean;
  readonly found: string;
}

/** One verdict for each target of a scenario that was run, and one for the memory. What could not be measured is missed. */
export function judge(results: Results, scenarios: readonly ScenarioId[]): Verdict[] {
  const verdicts = TARGETS.filter(({ scenario }) => scenarios.includes(scenario)).map((t) => judgeOne(results, t));
  return [...verdicts, judgeMemory(results)];
}

/** So far from a target, on either side, noise may have decided. */
const NEAR = 0.25;

/** Scenarios in which a target was nearly missed or nearly met, and who must run them again for it: we and the peers of these targets. */
export function closeCalls(results: Results, scenarios: readonly ScenarioId[]): Map<ScenarioId, Set<string>> {
  const found = new Map<ScenarioId, Set<string>>();
  for (const { scenario, peer, atMost } of TARGETS) {
    const ratio = scenarios.includes(scenario) ? ratioTo(results, scenario, peer) : null;
    if (ratio === null || Math.abs(ratio / atMost - 1) > NEAR) continue;
    found.set(scenario, (found.get(scenario) ?? new Set([OWN])).add(peer));
  }
  return found;
}

function judgeOne(results: Results, { scenario, peer, atMost, strictly }: Target): Verdict {
  const what = `${scenario}: ${strictly ? "below" : "at most"} ${atMost} of ${peer}`;
  const ratio = ratioTo(results, scenario, peer);
  if (ratio === null) {
    const missing = costIn(results, scenario, peer) === null ? peer : OWN;
    return { what, met: false, found: whyNot(results, scenario, missing) };
  }
  return { what, met: strictly ? ratio < atMost : ratio <= atMost, found: ratio.toFixed(3) };
}

function whyNot(results: Results, scenario: ScenarioId, name: string): string {
  const participant = results.participants.find((p) => p.name === name);
  if (participant === undefined) return `${name} was not asked to take part`;
  if (participant.version === null) return `${name} is not installed (${participant.install})`;
  const failed = results.measurements.find((m) => m.scenario === scenario && m.participant === name && m.failed);
  return `${name} failed: ${failed?.failed ?? "it did not run"}`;
}

function judgeMemory(results: Results): Verdict {
  const what = `memory of the whole process tree, after all: below ${MOST_RESIDENT / 1e6} MB`;
  const bytes = results.participants.find((p) => p.name === OWN)?.residentAtEnd ?? null;
  if (bytes === null) return { what, met: false, found: "it did not run to the end" };
  return { what, met: bytes < MOST_RESIDENT, found: `${(bytes / 1e6).toFixed(0)} MB` };
}
