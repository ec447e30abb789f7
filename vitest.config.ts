import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // How long a hang may last, not how long a test may take: a machine with other work is many times slower than this one.
    testTimeout: 90_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000 } },
    pool: "forks",
    // Two cores: more workers only make timing-sensitive tests wait for each other.
    maxWorkers: 2,
  },
});
