import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalHost } from "../../src/http/target.ts";
import { classifyAddress } from "../../src/policy/address-class.ts";

describe("the class of an address", () => {
  test.each([
    ["8.8.8.8", "public"],
    ["1.1.1.1", "public"],
    ["172.15.255.255", "public"],
    ["172.32.0.0", "public"],
    ["100.63.255.255", "public"],
    ["100.128.0.0", "public"],
    ["223.255.255.255", "public"],
    ["2606:4700::1111", "public"],
    ["2a00:1450:4001::1", "public"],
    // H11
    ["0.0.0.0", "unspecified"],
    ["0.1.2.3", "unspecified"],
    ["::", "unspecified"],
    // H14, first and last of each
    ["127.0.0.1", "loopback"],
    ["127.255.255.255", "loopback"],
    ["::1", "loopback"],
    ["10.0.0.0", "private"],
    ["10.255.255.255", "private"],
    ["172.16.0.0", "private"],
    ["172.31.255.255", "private"],
    ["192.168.0.0", "private"],
    ["192.168.255.255", "private"],
    ["100.64.0.0", "shared"],
    ["100.127.255.255", "shared"],
    ["169.254.0.1", "link-local"],
    ["169.254.255.255", "link-local"],
    ["192.0.0.1", "reserved"],
    ["192.0.2.1", "documentation"],
    ["198.51.100.1", "documentation"],
    ["203.0.113.255", "documentation"],
    ["198.18.0.0", "benchmarking"],
    ["198.19.255.255", "benchmarking"],
    ["192.88.99.1", "reserved"],
    ["224.0.0.0", "multicast"],
    ["239.255.255.255", "multicast"],
    ["240.0.0.0", "reserved"],
    ["255.255.255.254", "reserved"],
    ["255.255.255.255", "broadcast"],
    ["fc00::1", "unique-local"],
    ["fdff:ffff::1", "unique-local"],
    ["fe80::1", "link-local"],
    ["febf::1", "link-local"],
    ["fec0::1", "private"],
    ["ff02::1", "multicast"],
    ["2001:db8::1", "documentation"],
    ["3fff::1", "documentation"],
    ["2001:2::1", "benchmarking"],
    ["2001:10::1", "reserved"],
    ["100::1", "reserved"],
    ["5f00::1", "reserved"],
    ["4000::1", "reserved"],
    // H15
    ["169.254.169.254", "metadata"],
    ["169.254.170.2", "metadata"],
    ["100.100.100.200", "metadata"],
    ["168.63.129.16", "metadata"],
    ["fd00:ec2::254", "metadata"],
    // what is not spelled strictly has no class
    ["127.1", "invalid"],
    ["0x7f000001", "invalid"],
    ["::1%lo", "invalid"],
    ["[::1]", "invalid"],
    ["localhost", "invalid"],
    ["", "invalid"],
  ])("%s is %s", (ip, addressClass) => {
    expect(classifyAddress(ip)).toMatchObject({ class: addressClass, embedded: null });
  });

  // H12
  test.each([
    ["::ffff:127.0.0.1", "loopback", "127.0.0.1"],
    ["::ffff:7f00:1", "loopback", "127.0.0.1"],
    ["0:0:0:0:0:FFFF:7F00:0001", "loopback", "127.0.0.1"],
    ["::ffff:169.254.169.254", "metadata", "169.254.169.254"],
    ["::ffff:0.0.0.0", "unspecified", "0.0.0.0"],
    ["::ffff:8.8.8.8", "transition", "8.8.8.8"],
    ["::ffff:0:10.0.0.1", "private", "10.0.0.1"],
    ["::ffff:0:8.8.8.8", "transition", "8.8.8.8"],
    ["::127.0.0.1", "loopback", "127.0.0.1"],
    ["::a00:1", "private", "10.0.0.1"],
    ["::8.8.8.8", "transition", "8.8.8.8"],
    ["64:ff9b::7f00:1", "loopback", "127.0.0.1"],
    ["64:ff9b::a9fe:a9fe", "metadata", "169.254.169.254"],
    ["64:ff9b::10.1.2.3", "private", "10.1.2.3"],
    ["64:ff9b::8.8.8.8", "public", "8.8.8.8"],
    ["64:ff9b:1::10.0.0.1", "private", "10.0.0.1"],
    ["64:ff9b:1:a00:0:108:808:808", "private", "10.0.0.1"],
    ["64:ff9b:1:a9fe:a9:fe08:808:808", "metadata", "169.254.169.254"],
    ["64:ff9b:1:808:8:808:808:808", "transition", "8.8.8.8"],
    ["2002:7f00:1::", "loopback", "127.0.0.1"],
    ["2002:a00:1::1", "private", "10.0.0.1"],
    ["2002:a9fe:a9fe::", "metadata", "169.254.169.254"],
    ["2002:808:808::1", "transition", "8.8.8.8"],
    ["2001:0:7f00:1:0:0:f7f7:f7f7", "loopback", "127.0.0.1"],
    ["2001:0:808:808:0:0:f5ff:fffe", "private", "10.0.0.1"],
    ["2001:0:808:808:0:0:5601:5601", "metadata", "169.254.169.254"],
    ["2001:0:808:808:0:0:f7f7:f7f7", "transition", "8.8.8.8"],
    ["2a00::5efe:10.0.0.1", "private", "10.0.0.1"],
    ["2a00::200:5efe:a00:1", "private", "10.0.0.1"],
    ["2a00::5efe:8.8.8.8", "transition", "8.8.8.8"],
    ["fe80::5efe:8.8.8.8", "link-local", "8.8.8.8"],
    ["fe80::5efe:169.254.169.254", "metadata", "169.254.169.254"],
  ])("%s is %s, for %s is inside", (ip, addressClass, embedded) => {
    expect(classifyAddress(ip)).toEqual({ class: addressClass, embedded, canonical: canonicalHost(ip) });
  });

  test("no IPv4 address that is closed opens by being embedded", () => {
    const forms: ((hi: string, lo: string) => string)[] = [
      (hi, lo) => `::ffff:${hi}:${lo}`,
      (hi, lo) => `64:ff9b::${hi}:${lo}`,
      (hi, lo) => `64:ff9b:1::${hi}:${lo}`,
      (hi, lo) => `2002:${hi}:${lo}::1`,
      (hi, lo) => `2001:0:${hi}:${lo}::`,
      (hi, lo) => `2a00:1:2:3:0:5efe:${hi}:${lo}`,
    ];
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(...forms), (value, form) => {
        const v4 = [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
        if (classifyAddress(v4).class === "public") return;
        expect(classifyAddress(form((value >>> 16).toString(16), (value & 0xffff).toString(16))).class).not.toBe(
          "public",
        );
      }),
      { numRuns: 2000 },
    );
  });
});
