import { expect, test } from "vitest";
import { idleTimeOf } from "../../src/http/keep-alive.ts";

test.each<[string, number]>([
  ["timeout=5", 4_000],
  ["timeout=5, max=100", 4_000],
  ["max=100, Timeout=10", 9_000],
  ["timeout=1", 0],
  ["timeout=0", 0],
  ["timeout=600", 30_000],
  ["timeout=123456", 30_000],
  ["notimeout=5", 30_000],
  ["", 30_000],
])("Keep-Alive: %s", (value, milliseconds) => {
  expect(idleTimeOf(["Keep-Alive", value])).toBe(milliseconds);
  expect(idleTimeOf([])).toBe(30_000);
});
