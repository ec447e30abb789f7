// In a process of its own: the flag holds for the whole process, and V8 sets it back when a thread begins.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

const program = `
import { getHeapSpaceStatistics } from "node:v8";
import { keepHeapSmall } from "./src/roles/small-heap.ts";
if (process.argv[1] === "small" || process.argv[2] === "small") keepHeapSmall();
const kept = [];
for (let i = 0; i < 2_000_000; i++) kept[i % 20_000] = { i, list: [i] };
console.log(getHeapSpaceStatistics().find((s) => s.space_name === "new_space").space_size);
`;

const youngBytes = (...args: string[]): number =>
  Number(
    execFileSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program, ...args], {
      encoding: "utf8",
    }),
  );

test("the young generation stays as it is, and grows without", () => {
  const small = youngBytes("small");
  expect(small).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect(youngBytes()).toBeGreaterThan(2 * small);
});
