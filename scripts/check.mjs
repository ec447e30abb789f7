// npm run check: everything that can be checked without running the program. One line for each step; stops at the first that fails.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { install, ROOT } from "./prepare.mjs";

const bin = (...path) => join(ROOT, "node_modules", ...path);
const STEPS = [
  ["lint and format", [bin("@biomejs", "biome", "bin", "biome"), "check", "--error-on-warnings", "."]],
  ["types", [bin("typescript", "bin", "tsc"), "--noEmit"]],
  [
    "architecture and documents",
    [bin("vitest", "vitest.mjs"), "run", "test/architecture.test.ts", "test/docs.test.ts"],
  ],
];

install();
for (const [name, args] of STEPS) {
  process.stderr.write(`sallyport: checking ${name} …\n`);
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
