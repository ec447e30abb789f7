import { expect, test } from "vitest";
import { namesToAsk, parseHosts, parseSearchRules } from "../../../src/edge/net/system-names.ts";

test("hosts: comments, tabs, several names and lines, junk", () => {
  const text =
    "# x\r\n127.0.0.1\tlocalhost A.Test. # c\r\n\n  ::1   a.test\n127.1 odd\n1.2.3.4\n0x1 b\n1.2.3.4 bad%name good\n";
  expect([...parseHosts(text)]).toEqual([
    ["localhost", ["127.0.0.1"]],
    ["a.test", ["127.0.0.1", "::1"]],
    ["good", ["1.2.3.4"]],
  ]);
});

test("resolv.conf: the last of search and domain counts; ndots has a bound", () => {
  expect(parseSearchRules("")).toEqual({ search: [], ndots: 1 });
  expect(parseSearchRules("domain a.test\nsearch B.test c.test.\n")).toEqual({
    search: ["b.test", "c.test"],
    ndots: 1,
  });
  expect(parseSearchRules("search b.test\ndomain a.test\noptions timeout:1 ndots:99\n")).toEqual({
    search: ["a.test"],
    ndots: 15,
  });
  expect(parseSearchRules("search . a b c d e f g h").search).toHaveLength(6);
  expect(parseSearchRules("options ndots:x").ndots).toBe(1);
});

test("the order of questions", () => {
  const rules = { search: ["x.test"], ndots: 1 };
  expect(namesToAsk("a", rules)).toEqual(["a.x.test", "a"]);
  expect(namesToAsk("a.b", rules)).toEqual(["a.b", "a.b.x.test"]);
  expect(namesToAsk(`${"a.".repeat(125)}a`, rules)).toHaveLength(1);
});
