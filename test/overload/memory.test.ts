// Memory is bounded: small sizes and generous bounds here, the promised ones with `npm run soak -- --memory`.
import { expect, test } from "vitest";
import { measureMemory } from "../../scripts/soak/memory.ts";

const MIB = 1024 * 1024;

test("bodies pass through, they do not pile up", async () => {
  const figures = await measureMemory({
    down: 64 * MIB,
    up: 64 * MIB,
    second: 64 * MIB,
    slow: 64 * MIB,
    uploads: 2 * MIB,
    uploadsAtOnce: 50,
    bombs: 256 * MIB,
    bombsAtOnce: 5,
    idle: 200,
  });
  expect(figures).toHaveLength(7);
  for (const { what, grown, limit } of figures)
    expect({ what, tooMuch: grown >= limit }).toEqual({ what, tooMuch: false });
  // Were the 64 MiB kept, it would be at least so much.
  expect(figures[0]?.grown).toBeLessThan(64 * MIB);
});
