// kill -9 under load. The long one: `npm run soak -- --kills 100`.
import { expect, test } from "vitest";
import { killLoop } from "../../scripts/soak/kill-loop.ts";

test("three kills under load: every answered exchange is in the log, once, and the chain holds", async () => {
  const report = await killLoop({ kills: 3, clients: 10, load: 300 });
  expect(report.answered).toBeGreaterThan(50);
  for (const count of Object.values(report.answeredBy)) expect(count).toBeGreaterThan(0);
  expect(report).toMatchObject({ missing: [], twice: [], chain: null, integrity: "ok" });
  // Of CPU: what it takes when a core is free for it.
  for (const milliseconds of report.firstAnswersCpu) expect(milliseconds).toBeLessThan(5_000);
});
