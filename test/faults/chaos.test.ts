// A few seconds in which everybody misbehaves at random. Longer: `npm run soak -- --chaos`.
import { expect, test } from "vitest";
import { chaos } from "../../scripts/soak/chaos.ts";

test("whatever clients and origins do, each request that an origin saw has one record, and nothing is left open", async () => {
  const report = await chaos(8, 12);
  expect(report.seen).toBeGreaterThan(20);
  expect({ seed: report.seed, problems: report.problems }).toEqual({ seed: report.seed, problems: [] });
});
