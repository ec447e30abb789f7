import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalIp, ipv4Text, ipv6Text, parseIpv4, parseIpv6, parseOddIpv4 } from "../../src/http/ip-address.ts";

describe("strict spellings", () => {
  test.each([
    ["0.0.0.0", 0],
    ["127.0.0.1", 0x7f000001],
    ["255.255.255.255", 0xffffffff],
    ["127.1", null],
    ["01.2.3.4", null],
    ["1.2.3.256", null],
    ["1.2.3.4.", null],
    ["", null],
    ["0x7f.0.0.1", null],
  ])("%s is %s", (text, value) => {
    expect(parseIpv4(text)).toBe(value);
  });

  test("the parsers agree with the platform's on every text, but for zone ids", () => {
    const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.stringMatching(/^[0-9a-f:.]{0,20}$/), fc.string({ maxLength: 12 }));
    fc.assert(
      fc.property(text, (input) => {
        expect(parseIpv4(input) !== null).toBe(isIPv4(input));
        expect(parseIpv6(input) !== null).toBe(isIPv6(input) && !input.includes("%"));
      }),
      { numRuns: 5000 },
    );
  });
});

test("canonical texts: one for each address", () => {
  expect(canonicalIp("1.2.3.4")).toBe("1.2.3.4");
  expect(canonicalIp("::FFFF:1.2.3.4")).toBe("::ffff:102:304");
  expect(canonicalIp("1:0:0:2:0:0:0:3")).toBe("1:0:0:2::3");
  expect(canonicalIp("1:0:2:0:3:0:4:0")).toBe("1:0:2:0:3:0:4:0");
  expect(canonicalIp("a.com")).toBeNull();
  expect(canonicalIp("::1%lo")).toBeNull();
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }), (groups) => {
      expect(parseIpv6(ipv6Text(groups))).toEqual(groups);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
      expect(parseIpv4(ipv4Text(value))).toBe(value);
      expect(parseOddIpv4(String(value))).toBe(value);
      expect(parseOddIpv4(`0x${value.toString(16)}`)).toBe(value);
      expect(parseOddIpv4(`0${value.toString(8)}`)).toBe(value);
    }),
  );
});
