// Every named case through our engine and through the reference, on each way into the proxy.
import { afterAll, describe, expect, test } from "vitest";
import { CASES } from "./cases.ts";
import { closeComparisons, compareWithReference, WAYS } from "./compare.ts";

afterAll(closeComparisons);

describe.each(WAYS)("%s", (way) => {
  test.each(CASES.map((c) => [c.name, c] as const))("%s", async (_name, c) => {
    const seen = await compareWithReference({ ...c, way });
    expect(seen.client.length).toBe(c.requests.length);
    expect(seen.records.length).toBe(c.requests.length);
  });
});
