// A few seconds of everything at once. Ten minutes: `npm run soak`.
import { expect, test } from "vitest";
import { mixedTraffic } from "../../scripts/soak/mixed.ts";

test("mixed traffic leaves one record for each thing that was done, and nothing open", async () => {
  const report = await mixedTraffic(4, 9);
  expect(report.unexpected).toEqual([]);
  expect(report.problems).toEqual([]);
  expect(Object.values(report.expected).every((count) => count > 0)).toBe(true);
  expect(Object.keys(report.expected)).toHaveLength(8);
});
