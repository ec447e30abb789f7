import { expect, test } from "vitest";
import { newId } from "../../src/shared/ids.ts";

const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const timeOf = (id: string): number => [...id.slice(0, 10)].reduce((time, d) => time * 32 + DIGITS.indexOf(d), 0);

test("an id is a ULID of its time, and later ids are greater, also in one millisecond and when the clock went back", () => {
  const start = 2_000_000_000_000;
  const times = [start, start + 1, ...new Array(5_000).fill(start + 1), start - 1_000, start + 2];
  const ids = times.map(newId);
  for (const id of ids) expect(id).toMatch(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
  expect([...ids].sort()).toEqual(ids);
  expect(new Set(ids).size).toBe(ids.length);
  expect([timeOf(ids[0] as string), timeOf(ids.at(-1) as string)]).toEqual([start, start + 2]);
});
