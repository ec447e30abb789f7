// Judges what was played against the row of its table.
import { expect } from "vitest";
import type { Played } from "./scene.ts";

const DECISION = /^(?:allow|deny); id=[0-9A-Z]{26}; reason=([a-z-]+)$/;

/** Every expectation of the row, and what holds for all rows. */
export function judge({ row, at, outcome }: Played): void {
  if (outcome.error !== null) throw outcome.error;
  expect(
    outcome.responses.map((r) => r.status),
    "statuses",
  ).toEqual(row.statuses);
  // A reset that arrives with the last bytes is told to a Node client as an end.
  if (row.ending === "broken") expect(outcome.ending).not.toBe("open");
  else expect(outcome.ending, "how the connection ended").toBe(row.ending ?? "open");
  if ((row.ending ?? "open") === "open") expect(outcome.again, "a second request on the connection").toBe(200);
  const last = outcome.responses.at(-1);
  if (row.reason !== undefined) {
    const named = DECISION.exec(last?.fields["x-sallyport-decision"] ?? "")?.[1] ?? null;
    expect(named, "reason").toBe(row.reason);
  }
  if (row.content !== undefined) expect(last?.content).toBe(row.content);
  if (row.got === null) expect(outcome.got, "what the origin got").toBe("");
  else if (typeof row.got === "string") expect(outcome.got, "what the origin got").toContain(row.got);
  else if (row.got !== undefined) expect(outcome.got, "what the origin got").toMatch(row.got);
  const expected = row.records ?? [{ kind: "exchange" }];
  expect(outcome.records, "records").toHaveLength(expected.length);
  for (const [i, record] of expected.entries()) expect(outcome.records[i]).toMatchObject(record);
  const status = outcome.responses.findLast((r) => r.status >= 200)?.status ?? null;
  if (row.records === undefined) expect(outcome.records[0]?.status).toBe(status);
  row.check?.(outcome, at);
}
