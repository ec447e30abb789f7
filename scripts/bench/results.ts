// The figures of a whole run, and their medians.
import type { ScenarioId } from "./scenarios.ts";

export const OWN = "sallyport";

/** One participant in one scenario in one round. */
export interface Measurement {
  readonly scenario: ScenarioId;
  readonly participant: string;
  readonly round: number;
  /** In the scenario's unit; null when it failed. */
  readonly cost: number | null;
  /** Requests, messages or connections a second; bytes a second where the unit is GB. */
  readonly rate: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Of the whole process tree, when the load had ended (for idle connections: while they were open). */
  readonly residentBytes: number;
  readonly reopened: number;
  /** What was not right. */
  readonly failed: string | null;
}

export interface Participant {
  readonly name: string;
  /** null: not installed. */
  readonly version: string | null;
  readonly install: string;
  /** Bytes of the process tree after everything; null when it did not run. */
  residentAtEnd: number | null;
}

export interface Results {
  readonly participants: readonly Participant[];
  readonly measurements: readonly Measurement[];
}

export function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle];
  if (high === undefined) return null;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] as number) + high) / 2;
}

/** The rounds of one participant in one scenario. */
export const roundsOf = (results: Results, scenario: ScenarioId, participant: string): Measurement[] =>
  results.measurements.filter((m) => m.scenario === scenario && m.participant === participant);

/** Its median cost; null when any round failed, or none ran: half a measurement is none. */
export function costIn(results: Results, scenario: ScenarioId, participant: string): number | null {
  const costs = roundsOf(results, scenario, participant).map(({ cost }) => cost);
  return costs.length === 0 || costs.includes(null) ? null : median(costs as number[]);
}

/**
 * Our cost divided by theirs: the median of the ratios of each round, since what a round measured side by side met the same
 * machine, and the next round another one. null when any round of either failed, or none ran.
 */
export function ratioTo(results: Results, scenario: ScenarioId, participant: string): number | null {
  if (costIn(results, scenario, participant) === null || costIn(results, scenario, OWN) === null) return null;
  const theirs = roundsOf(results, scenario, participant);
  const ratios = roundsOf(results, scenario, OWN).flatMap(({ round, cost }) =>
    theirs.filter((m) => m.round === round).map((m) => (cost as number) / (m.cost as number)),
  );
  return median(ratios);
}
