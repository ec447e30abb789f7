import { expect, it } from "vitest";
import { percentDecoded } from "../../src/filters/percent.ts";

it.each([
  ["a%20b", false, "a b"],
  ["a+b", false, "a+b"],
  ["a+b%2B", true, "a b+"],
  ["100%", false, "100%"],
  ["%zz%4", false, "%zz%4"],
  ["%C3%A9", false, "é"],
  ["%25%32%30", false, "%20"],
  ["%FF", false, "\ufffd"],
])("%j (plus: %s) is %j", (text, plus, expected) => {
  expect(percentDecoded(text, plus)).toBe(expected);
});
