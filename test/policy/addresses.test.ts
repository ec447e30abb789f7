import { describe, expect, test } from "vitest";
import { canonicalHost } from "../../src/http/target.ts";
import { compileNetwork, METADATA_HOSTS, parseNetworkEntry } from "../../src/policy/addresses.ts";
import { ProxyError } from "../../src/shared/errors.ts";

describe("network.allow", () => {
  test.each([
    [[], "8.8.8.8", true],
    [[], "10.0.0.1", false],
    [[], "2606:4700::1", true],
    [["10.20.0.0/16"], "10.20.255.255", true],
    [["10.20.0.0/16"], "10.21.0.0", false],
    [["10.20.0.0/15"], "10.21.0.0", true],
    [["127.0.0.1"], "127.0.0.1", true],
    [["127.0.0.1"], "127.0.0.2", false],
    [["::1"], "::1", true],
    [["::1/128"], "0:0::1", true],
    [["fd00::/8"], "fd12::1", true],
    [["fc00::/7"], "fe80::1", false],
    [["0.0.0.0/0"], "192.168.1.1", true],
    [["0.0.0.0/0"], "::1", false],
    [["::/0"], "10.0.0.1", false],
    // a range does not reach into other spellings of its addresses
    [["127.0.0.0/8"], "::ffff:127.0.0.1", false],
    [["10.0.0.0/8"], "64:ff9b::a00:1", false],
    [["64:ff9b::/96"], "64:ff9b::a00:1", true],
    // metadata: by an exact entry alone
    [["169.254.0.0/16"], "169.254.169.254", false],
    [["169.254.169.254/31"], "169.254.169.254", false],
    [["0.0.0.0/0"], "169.254.169.254", false],
    [["169.254.169.254/32"], "169.254.169.254", true],
    [["169.254.169.254"], "169.254.169.254", true],
    [["169.254.0.0/16"], "169.254.1.1", true],
    [["100.64.0.0/10"], "100.100.100.200", false],
    [["fd00::/8"], "fd00:ec2::254", false],
    [["fd00:ec2::254/128"], "fd00:ec2::254", true],
    [["::/0"], "::ffff:169.254.169.254", false],
    [["169.254.169.254/32"], "::ffff:169.254.169.254", false],
    [["64:ff9b::/96"], "64:ff9b::a9fe:a9fe", false],
    // H11: never
    [["0.0.0.0/0"], "0.0.0.0", false],
    [["0.0.0.0/32"], "0.0.0.0", false],
    [["::/128", "::/0"], "::", false],
    [["::/0"], "::ffff:0.0.0.0", false],
    // not an address
    [["0.0.0.0/0", "::/0"], "localhost", false],
    [["0.0.0.0/0", "::/0"], "127.1", false],
  ])("%j: %s is open: %s", (allow, ip, allowed) => {
    expect(compileNetwork(allow).permits(ip).allowed).toBe(allowed);
  });

  test("a refusal names the address, its class, what is inside, and the line to add", () => {
    expect(compileNetwork([]).permits("::ffff:10.0.0.1")).toEqual({
      allowed: false,
      class: "private",
      why: "::ffff:a00:1 (10.0.0.1 inside) is private; network.allow: [::ffff:a00:1/128] would open it",
    });
    expect(compileNetwork([]).permits("0.0.0.0").why).toBe("0.0.0.0 is unspecified");
  });

  test("metadata names are closed but by their exact name; every other name is its addresses' matter", () => {
    const closed = compileNetwork(["0.0.0.0/0", "::/0"]);
    for (const name of METADATA_HOSTS) {
      expect(canonicalHost(name)).toBe(name);
      expect(closed.permitsName(name)).toBe(false);
    }
    expect(closed.permitsName("example.com")).toBe(true);
    const open = compileNetwork(["Metadata.Google.Internal."]);
    expect(open.permitsName("metadata.google.internal")).toBe(true);
    expect(open.permitsName("metadata.azure.internal")).toBe(false);
  });

  test.each([
    ["10.0.0.0/"],
    ["10.0.0.0/33"],
    ["10.0.0.0/-1"],
    ["10.0.0.0/08"],
    ["10.0.0.0/8 "],
    ["10.0.0.0/255.0.0.0"],
    ["10.0.0.0/8/8"],
    ["10.0.0.1/8"],
    ["10/8"],
    ["127.1"],
    ["/8"],
    [""],
    ["*"],
    ["::/129"],
    ["::1/0"],
    ["[::1]"],
    ["fe80::1%eth0"],
    ["internal.example"],
    ["*.google.internal"],
    ["10.0.0.0-10.0.0.9"],
  ])("%j is an error, never a match of everything", (entry) => {
    expect(parseNetworkEntry(entry)).toHaveProperty("problem");
    expect(() => compileNetwork(["10.0.0.0/8", entry])).toThrow(ProxyError);
  });

  test("one error lists every problem", () => {
    expect(() => compileNetwork(["10.0.0.0/", "x"])).toThrow(/10\.0\.0\.0\/".*"x"/);
  });
});
