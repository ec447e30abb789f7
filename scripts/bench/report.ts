// Figures as a table for people.
import { costIn, median, type Participant, type Results, ratioTo, roundsOf } from "./results.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";
import type { Verdict } from "./targets.ts";

/** One block for each scenario: a line for each participant, with the ratio of our cost to its cost. */
export function tables(results: Results): string {
  const ran = SCENARIOS.filter(({ id }) => results.measurements.some((m) => m.scenario === id));
  return ran.map((scenario) => table(results, scenario)).join("\n");
}

function table(results: Results, { id, title, unit }: Scenario): string {
  const names = [...new Set(results.measurements.filter((m) => m.scenario === id).map((m) => m.participant))];
  const rows = names.map((name) => {
    const rounds = roundsOf(results, id, name);
    const cost = costIn(results, id, name);
    if (cost === null) return [name, "-", "", "", "", "", "", rounds.find((m) => m.failed)?.failed ?? ""];
    const mid = (pick: (m: (typeof rounds)[number]) => number): number => median(rounds.map(pick)) as number;
    const notes = rounds.some((m) => m.reopened > 0) ? [`${mid((m) => m.reopened)} reopened`] : [];
    return [
      name,
      round(cost),
      rounds.length > 1 ? `${round(Math.min(...costs(rounds)))}-${round(Math.max(...costs(rounds)))}` : "",
      ratioTo(results, id, name)?.toFixed(2) ?? "",
      unit === "s/GB" ? `${round(mid((m) => m.rate) / 1e6)} MB/s` : `${round(mid((m) => m.rate))}/s`,
      `${round(mid((m) => m.p50))} / ${round(mid((m) => m.p99))}`,
      `${(mid((m) => m.residentBytes) / 1e6).toFixed(0)} MB`,
      notes.join(", "),
    ];
  });
  const head = ["", unit, "range", "ours/it", "rate", "p50/p99 ms", "memory", ""];
  return `${id}: ${title}\n${aligned([head, ...rows])}`;
}

const costs = (rounds: readonly { cost: number | null }[]): number[] => rounds.map(({ cost }) => cost ?? Number.NaN);

/** Three figures that mean something. */
export const round = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

export function aligned(rows: readonly (readonly string[])[]): string {
  const width = (column: number): number => Math.max(...rows.map((row) => (row[column] ?? "").length));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 || i === row.length - 1 ? cell.padEnd(width(i)) : cell.padStart(width(i))))
      .join("  ");
  return rows.map((row) => `  ${line(row).trimEnd()}\n`).join("");
}

export function participantsText(participants: readonly Participant[]): string {
  const rows = participants.map(({ name, version, install, residentAtEnd }) => [
    name,
    version ?? `not installed: ${install}`,
    residentAtEnd === null ? "" : `${(residentAtEnd / 1e6).toFixed(0)} MB after everything`,
  ]);
  return `taking part\n${aligned(rows)}`;
}

export const verdictsText = (verdicts: readonly Verdict[]): string =>
  `targets\n${aligned(verdicts.map(({ what, met, found }) => [met ? "met" : "MISSED", found, what]))}`;
