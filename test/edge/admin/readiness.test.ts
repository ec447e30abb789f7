// What makes the house unready, and what is only said.
import { expect, test } from "vitest";
import { type ReadyFacts, readyReport } from "../../../src/edge/admin/readiness.ts";

const DAY = 86_400_000;
const now = Date.UTC(2026, 0, 1);
const well: ReadyFacts = {
  now,
  draining: false,
  audit: { unavailable: null, required: true },
  policy: { version: "abc", failed: null, waiting: [] },
  caNotAfter: now + 365 * DAY,
};

test.each([
  ["all is well", {}, true, []],
  ["draining", { draining: true }, false, ["draining"]],
  [
    "audit log gone, and required",
    { audit: { unavailable: "disk full", required: true } },
    false,
    ["audit-unavailable"],
  ],
  [
    "audit log gone, not required",
    { audit: { unavailable: "disk full", required: false } },
    true,
    ["audit-unavailable"],
  ],
  [
    "a bad policy file: the good one is in force",
    { policy: { version: "abc", failed: { at: now, message: "line 3" }, waiting: [] } },
    true,
    ["policy-rejected"],
  ],
  [
    "settings wait for the next start",
    { policy: { version: "abc", failed: null, waiting: ["server.listen"] } },
    true,
    ["restart-needed"],
  ],
  ["the CA ends in 29 days", { caNotAfter: now + 29 * DAY }, true, ["ca-expiring"]],
  ["the CA has ended", { caNotAfter: now }, false, ["ca-expired"]],
  ["several at once", { draining: true, caNotAfter: now - 1 }, false, ["draining", "ca-expired"]],
] as const)("%s", (_name, change, ready, names) => {
  const report = readyReport({ ...well, ...change });
  expect(report.ready).toBe(ready);
  expect(report.problems.map((problem) => problem.name)).toEqual(names);
  expect(report.policy).toBe("abc");
});
