// In a process of its own: the flag holds for the whole process, and V8 sets it back when a thread begins.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

const program = (main: string): string => `
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { keepHeapSmall } from "./src/roles/small-heap.ts";
const how = process.argv.at(-1);
if (how === "small") keepHeapSmall();
if (how === "young alone") setFlagsFromString("--semi-space-growth-factor=1");
const space = (name) => getHeapSpaceStatistics().find((s) => s.space_name === name);
${main}
`;

const YOUNG = `
const kept = [];
for (let i = 0; i < 2_000_000; i++) kept[i % 20_000] = { i, list: [i] };
console.log(space("new_space").space_size);
`;

/** Some 25 MB that stay, and much that lives long enough to become old. Prints how large the old generation was at most. */
const OLD = `
const stays = Array.from({ length: 200_000 }, (_, i) => ({ i, list: [i] }));
const kept = [];
let most = 0;
for (let i = 0; i < 4_000_000; i++) {
  kept[i % 60_000] = { i, list: [i, stays.length] };
  if (i % 20_000 === 0) most = Math.max(most, space("old_space").space_used_size);
}
console.log(most);
`;

const bytes = (main: string, how: "small" | "young alone" | "as it is"): number =>
  Number(
    execFileSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program(main), how], {
      encoding: "utf8",
    }),
  );

test("the young generation stays as it is, and grows without", () => {
  const small = bytes(YOUNG, "small");
  expect(small).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect(bytes(YOUNG, "as it is")).toBeGreaterThan(2 * small);
});

test("the old generation grows by half before it is collected, and by far more without", () => {
  expect(bytes(OLD, "young alone")).toBeGreaterThan(1.3 * bytes(OLD, "small"));
});
