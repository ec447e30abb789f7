import { describe, expect, it } from "vitest";
import { parseDuration, parseSize, parseUntil } from "../../src/config/units.ts";

describe("units", () => {
  it.each([
    ["0B", 0],
    ["64KiB", 65_536],
    ["10MiB", 10_485_760],
    ["1.5GiB", 1_610_612_736],
    ["10MB", null],
    ["10", null],
    ["-1KiB", null],
    ["1e3KiB", null],
  ])("size %s is %s", (text, bytes) => expect(parseSize(text)).toBe(bytes));
  it.each([
    ["100ms", 100],
    ["30s", 30_000],
    ["5m", 300_000],
    ["7d", 604_800_000],
    ["30", null],
    ["1w", null],
  ])("duration %s is %s", (text, ms) => expect(parseDuration(text)).toBe(ms));
  it.each([
    ["2027-01-31", Date.UTC(2027, 1, 1)],
    ["2027-01-31T12:00Z", Date.UTC(2027, 0, 31, 12)],
    ["2027-02-29", null],
    ["31.1.2027", null],
  ])("until %s ends at %s", (text, at) => expect(parseUntil(text)).toBe(at));
});
