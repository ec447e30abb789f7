import { describe, expect, it } from "vitest";
import { EventBoundaries } from "../../src/filters/event-boundaries.ts";

const boundaries = (chunks: Uint8Array[]): number[] => {
  const found: number[] = [];
  const events = new EventBoundaries();
  for (const chunk of chunks) events.push(chunk, (offset) => found.push(offset));
  return found;
};

describe("events end at blank lines", () => {
  const cases: [string, number[]][] = [
    ["data: a\n\ndata: b\n\n", [9, 18]],
    ["data: a\r\n\r\nx\r\n\r\n", [10, 11, 15, 16]],
    ["data: a\r\rb\r\r", [9, 12]],
    ["data: a\r\n\n", [10]],
    ["data: a\n\r\n", [9, 10]],
    ["data: a\n", []],
    ["\ufeff\n", [4]],
    ["\ufeff: c\n", [7]],
    [": ping\n: pong\n", [7, 14]],
    ["data: a\n: comment inside\n\n", [26]],
    ["\n\n", [1, 2]],
  ];
  it.each(cases)("%j", (text, offsets) => {
    const bytes = Buffer.from(text);
    expect(boundaries([bytes])).toEqual(offsets);
    expect(boundaries([...bytes].map((b) => Buffer.of(b)))).toEqual(offsets);
  });
});
