// NO_PROXY, row by row (pitfalls O1).
import { describe, expect, test } from "vitest";
import { javaNonProxyHosts, noProxyText, parseNoProxy } from "../../src/cli/no-proxy.ts";

describe("entries", () => {
  test.each([
    ["x.com", "x.com"],
    [".x.com", ".x.com"],
    ["*.x.com", ".x.com"],
    ["X.COM.", "x.com"],
    ["x:8443", "x:8443"],
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["fd00::/8", "fd00::/8"],
    ["127.0.0.1", "127.0.0.1"],
    ["127.0.0.1:80", "127.0.0.1:80"],
    ["::1", "::1"],
    ["[::1]", "::1"],
    ["[::1]:80", "[::1]:80"],
    [" a , b ,", "a,b"],
    ["a b", "a,b"],
    ["", ""],
    ["bücher.example", "xn--bcher-kva.example"],
  ])("%j is written as %j", (list, written) => {
    expect(noProxyText(parseNoProxy(list))).toBe(written);
  });
  test.each([
    "*",
    "a,*",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/0",
    "::/0",
    "10.0.0/8",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
    "10.0.0.0/ 8x",
    "127.1",
    "0x7f000001",
    "2130706433",
    "x:",
    "x:0",
    "x:70000",
    "x:80:80",
    "[::1",
    "[::1]80",
    "[x]",
    "::1%lo",
    "http://x",
    "*x.com",
    "a*b",
    ".",
    "*.",
    "-",
    "a..b",
  ])("%j is an error that names the entry", (list) => {
    expect(() => parseNoProxy(list)).toThrow(/^NO_PROXY: ".*" is not an entry/);
  });
});

test("as Java says it; what it cannot say goes through the proxy", () => {
  const entries = parseNoProxy("localhost,127.0.0.1,::1,.x.com,10.0.0.0/8,192.168.1.0/24,10.0.0.0/9,y.com:8443");
  expect(javaNonProxyHosts(entries)).toEqual({
    text: "localhost|*.localhost|127.0.0.1|[::1]|*.x.com|10.*|192.168.1.*",
    left: ["10.0.0.0/9", "y.com:8443"],
  });
});
