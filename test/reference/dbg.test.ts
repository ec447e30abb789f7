import { expect, test, afterAll } from "vitest";
import { observeBoth, closeComparisons } from "./compare.ts";
import { CASES } from "./cases.ts";
afterAll(closeComparisons);
test("x", async () => {
  const name = process.env.CASE ?? "GET";
  const c = CASES.find((k) => k.name === name)!;
  const r = await observeBoth({ ...c, way: (process.env.WAY ?? "plain") as never });
  expect(r.ours).toEqual(r.reference);
}, 10000);
