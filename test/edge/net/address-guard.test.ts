import { afterEach, describe, expect, test } from "vitest";
import { AddressGuard, type GuardOptions } from "../../../src/edge/net/address-guard.ts";
import { Resolver } from "../../../src/edge/net/resolver.ts";
import { canonicalHost } from "../../../src/http/target.ts";
import { compileNetwork } from "../../../src/policy/addresses.ts";
import { type DnsAnswer, startDns, type TestDns, zone } from "../../support/dns.ts";

let dns: TestDns | null = null;
afterEach(async () => {
  await dns?.close();
  dns = null;
});

interface Settings {
  readonly allow?: readonly string[];
  readonly answer?: DnsAnswer;
  readonly listeners?: readonly { address: string; port: number }[];
  readonly local?: readonly string[];
}
async function guardFor({
  allow = [],
  answer = zone({}),
  listeners = [],
  local = [],
}: Settings): Promise<AddressGuard> {
  dns = await startDns(answer);
  const options: GuardOptions = {
    resolver: new Resolver({ servers: [dns.server], hostsFile: "/nonexistent", resolvConf: "/nonexistent" }),
    network: () => compileNetwork(allow),
    ownListeners: () => listeners,
    localAddresses: () => local,
  };
  return new AddressGuard(options);
}
const PROHIBITED = { reason: "address-prohibited" };

describe("hosts that are never resolved", () => {
  // H4, H10, H11, H12, H14, H15
  test.each([
    ["127.0.0.1"],
    ["127.1"],
    ["0x7f000001"],
    ["2130706433"],
    ["017700000001"],
    ["１２７.0.0.1"],
    ["127.0.0.1."],
    ["0"],
    ["::"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["::ffff:7f00:1"],
    ["::127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["2002:7f00:1::"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["fd00:ec2::254"],
    ["metadata.google.internal"],
    ["Metadata.Google.Internal."],
    ["localhost"],
    ["LOCALHOST."],
    ["a.localhost"],
    // public inside another spelling
    ["::ffff:8.8.8.8"],
    ["64:ff9b::8.8.8.8"],
  ])("%s is refused, and no name server is asked", async (text) => {
    const guard = await guardFor({ answer: () => ({ addresses: ["8.8.8.8"] }) });
    const host = canonicalHost(text) as string;
    await expect(guard.check(host, 443)).rejects.toMatchObject(PROHIBITED);
    expect(() => guard.checkLiteral(host, 443)).toThrow(expect.objectContaining(PROHIBITED));
    expect(dns?.questions).toEqual([]);
  });

  test("public addresses pass, and names wait for their addresses", async () => {
    const guard = await guardFor({});
    expect(await guard.check("8.8.8.8", 443)).toEqual([{ address: "8.8.8.8", family: 4 }]);
    expect(await guard.check("2606:4700::1", 443)).toEqual([{ address: "2606:4700::1", family: 6 }]);
    expect(guard.checkLiteral("example.com", 443)).toBeUndefined();
  });

  test("one open loopback address is enough for localhost", async () => {
    const guard = await guardFor({ allow: ["127.0.0.1/32"] });
    expect(await guard.check("localhost", 80)).toEqual([{ address: "127.0.0.1", family: 4 }]);
  });

  test("the refusal names address and class", async () => {
    const guard = await guardFor({ answer: zone({ "a.test": ["10.0.0.7"] }) });
    await expect(guard.check("a.test", 443)).rejects.toThrow(/10\.0\.0\.7 is private.*a\.test/);
  });
});

describe("names", () => {
  // H16
  test.each([
    ["private", ["10.0.0.1"]],
    ["mixed, private last", ["8.8.8.8", "8.8.4.4", "192.168.0.1"]],
    ["mixed families", ["8.8.8.8", "::1"]],
    ["metadata", ["169.254.169.254"]],
    ["mapped", ["::ffff:7f00:1"]],
    ["unspecified", ["0.0.0.0"]],
    ["NAT64 of a private one", ["64:ff9b::a00:1"]],
  ])("one closed answer closes the name: %s", async (_what, addresses) => {
    const guard = await guardFor({ answer: zone({ "a.test": addresses }) });
    await expect(guard.check("a.test", 443)).rejects.toMatchObject(PROHIBITED);
  });

  test("families in turn, IPv6 first", async () => {
    const addresses = ["8.8.8.8", "8.8.4.4", "1.1.1.1", "2606:4700::1", "2606:4700::2"];
    const guard = await guardFor({ answer: zone({ "a.test": addresses }) });
    const families = (await guard.check("a.test", 443)).map((checked) => checked.family);
    expect(families).toEqual([6, 4, 6, 4, 4]);
  });

  test("DNS64 answers pass when the address inside does", async () => {
    const guard = await guardFor({ answer: zone({ "a.test": ["64:ff9b::808:808"] }) });
    expect(await guard.check("a.test", 443)).toEqual([{ address: "64:ff9b::808:808", family: 6 }]);
  });

  test("rebinding: what is returned is what was checked, and the next answer is checked again", async () => {
    const guard = await guardFor({
      answer: (_name, type, count) => ({
        addresses: type === "A" ? [count === 0 ? "8.8.8.8" : "127.0.0.1"] : [],
        ttl: 0,
      }),
    });
    expect(await guard.check("a.test", 443)).toEqual([{ address: "8.8.8.8", family: 4 }]);
    expect(dns?.questions).toHaveLength(2);
    await expect(guard.check("a.test", 443)).rejects.toMatchObject(PROHIBITED);
  });

  test("what network.allow opens passes; a metadata name wants its own entry beside its address", async () => {
    const answer = zone({ "a.test": ["10.0.0.1"], "metadata.google.internal": ["169.254.169.254"] });
    const open = await guardFor({ allow: ["10.0.0.0/8", "169.254.169.254/32"], answer });
    expect(await open.check("a.test", 80)).toEqual([{ address: "10.0.0.1", family: 4 }]);
    await expect(open.check("metadata.google.internal", 80)).rejects.toMatchObject(PROHIBITED);
    await dns?.close();
    const both = await guardFor({ allow: ["169.254.169.254/32", "metadata.google.internal"], answer });
    expect(await both.check("metadata.google.internal", 80)).toHaveLength(1);
  });

  test("what the resolver says is passed on", async () => {
    const guard = await guardFor({});
    await expect(guard.check("none.test", 443)).rejects.toMatchObject({ reason: "origin-unresolved" });
  });
});

// H18, O12
describe("our own listeners", () => {
  const everything = ["0.0.0.0/0", "::/0", "127.0.0.1"];
  const local = ["127.0.0.1", "::1", "10.0.0.5", "fe80::1%eth0", "2001:db8::5"];
  test.each([
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.1", "127.0.0.2", false],
    ["127.0.0.1", "10.0.0.5", false],
    ["127.0.0.1", "::ffff:127.0.0.1", true],
    ["::ffff:127.0.0.1", "127.0.0.1", true],
    ["0.0.0.0", "127.0.0.1", true],
    ["0.0.0.0", "127.9.9.9", true],
    ["0.0.0.0", "10.0.0.5", true],
    ["0.0.0.0", "10.0.0.6", false],
    ["0.0.0.0", "::ffff:10.0.0.5", true],
    ["::", "127.0.0.1", true],
    ["::", "::1", true],
    ["::", "10.0.0.5", true],
    ["::", "2001:db8::5", true],
    ["::", "fe80::1", true],
    ["::", "8.8.8.8", false],
    ["10.0.0.5", "10.0.0.5", true],
  ])("bound to %s, asked for %s: own is %s", async (bound, asked, own) => {
    const guard = await guardFor({ allow: everything, listeners: [{ address: bound, port: 8080 }], local });
    const host = canonicalHost(asked) as string;
    if (own) await expect(guard.check(host, 8080)).rejects.toThrow("this proxy itself");
    else expect(await guard.check(host, 8080)).toHaveLength(1);
    expect(await guard.check(host, 8081)).toHaveLength(1);
  });

  test("by a name, and by localhost", async () => {
    const guard = await guardFor({
      allow: everything,
      listeners: [{ address: "127.0.0.1", port: 8080 }],
      local,
      answer: zone({ "me.test": ["127.0.0.1"] }),
    });
    await expect(guard.check("me.test", 8080)).rejects.toMatchObject(PROHIBITED);
    await expect(guard.check("localhost", 8080)).rejects.toMatchObject(PROHIBITED);
  });
});
