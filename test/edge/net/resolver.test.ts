import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Resolver, type ResolverOptions } from "../../../src/edge/net/resolver.ts";
import { type DnsAnswer, type DnsType, startDns, type TestDns, zone } from "../../support/dns.ts";

let folder: string;
let dns: TestDns | null = null;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "names-"));
});
afterEach(async () => {
  await dns?.close();
  dns = null;
});
afterAll(() => rm(folder, { recursive: true }));

async function resolverFor(answer: DnsAnswer, options: ResolverOptions = {}): Promise<Resolver> {
  dns = await startDns(answer);
  const none = join(folder, "none");
  return new Resolver({ servers: [dns.server], hostsFile: none, resolvConf: none, ...options });
}
const asked = (): number => dns?.questions.length ?? 0;

describe("answers", () => {
  test("A and AAAA are asked at once, and both count", async () => {
    const resolver = await resolverFor(zone({ "a.test": ["192.0.2.1", "2001:db8::1", "192.0.2.2"] }));
    expect([...(await resolver.resolve("a.test"))].sort()).toEqual(["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    expect([...(dns?.questions ?? [])].sort()).toEqual(["A a.test", "AAAA a.test"]);
  });

  test("one family is enough", async () => {
    const resolver = await resolverFor(zone({ "four.test": ["192.0.2.1"], "six.test": ["2001:db8::1"] }));
    expect(await resolver.resolve("four.test")).toEqual(["192.0.2.1"]);
    expect(await resolver.resolve("six.test")).toEqual(["2001:db8::1"]);
  });

  test("a server that never answers AAAA costs a quarter of a second, not the deadline", async () => {
    const resolver = await resolverFor((_name, type) => (type === "A" ? { addresses: ["192.0.2.1"] } : null));
    const started = performance.now();
    expect(await resolver.resolve("a.test")).toEqual(["192.0.2.1"]);
    expect(performance.now() - started).toBeLessThan(4_500);
  });

  test("a name that does not exist, or has no address, is unresolved", async () => {
    const resolver = await resolverFor((name) => (name === "empty.test" ? {} : { code: "nxdomain" }));
    await expect(resolver.resolve("none.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
    await expect(resolver.resolve("empty.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
  });

  test("a failing server is an unresolved name", async () => {
    const resolver = await resolverFor(() => ({ code: "refused" }));
    await expect(resolver.resolve("a.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
  });

  test("a silent server ends at the deadline", async () => {
    const resolver = await resolverFor(() => null, { deadline: 400 });
    const started = performance.now();
    await expect(resolver.resolve("a.test")).rejects.toMatchObject({ reason: "origin-dns-timeout" });
    expect(performance.now() - started).toBeLessThan(4_500);
  });

  test("too many addresses refuse the name, and are not cut", async () => {
    const many = Array.from({ length: 65 }, (_, i) => `192.0.2.${i}`);
    const resolver = await resolverFor(zone({ "many.test": many }));
    await expect(resolver.resolve("many.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
  });
});

describe("one family is late", () => {
  const [FOUR, SIX] = ["192.0.2.1", "2001:db8::1"];
  /** Both addresses, but the first `lost` questions of one type are not answered. */
  const losing =
    (lossy: DnsType, lost: number, ttl = 60): DnsAnswer =>
    (_name, type, count) =>
      type === lossy && count < lost ? null : { addresses: [type === "A" ? FOUR : SIX], ttl };
  const dualStack = { localAddresses: () => ["127.0.0.1", "10.0.0.2", "::1", "fe80::1", "2001:db8::2"] };
  const onlyFour = { localAddresses: () => ["127.0.0.1", "10.0.0.2", "::1", "fe80::1", "fd00::2"] };
  const onlySix = { localAddresses: () => ["127.0.0.1", "169.254.0.2", "::1", "fe80::1", "2001:db8::2"] };

  test.each([
    ["A", SIX],
    ["AAAA", FOUR],
  ] as const)("%s: the other is used meanwhile, and both once it has come", async (lossy, meanwhile) => {
    const resolver = await resolverFor(losing(lossy, 1), { ...dualStack, deadline: 3000 });
    expect(await resolver.resolve("a.test")).toEqual([meanwhile]);
    expect(await resolver.resolve("a.test")).toEqual([meanwhile]);
    const sorted = async () => [...(await resolver.resolve("a.test"))].sort();
    await expect.poll(sorted, { timeout: 4_000 }).toEqual([FOUR, SIX]);
    expect(dns?.questions.filter((question) => question === `${lossy} a.test`)).toHaveLength(2);
  });

  test("A, and this machine has no IPv6: it is awaited", async () => {
    const resolver = await resolverFor(losing("A", 1), { ...onlyFour, deadline: 2000 });
    expect(await resolver.resolve("a.test")).toEqual([SIX, FOUR]);
  });

  test("AAAA, and this machine has no IPv4: it is awaited", async () => {
    const resolver = await resolverFor(losing("AAAA", 1), { ...onlySix, deadline: 2000 });
    expect(await resolver.resolve("a.test")).toEqual([SIX, FOUR]);
  });

  test.each([
    ["A", SIX, onlyFour],
    ["AAAA", FOUR, onlySix],
  ] as const)(
    "%s is awaited and does not come: the other at the deadline, and not kept",
    async (lossy, rest, machine) => {
      let isLost = true;
      const whole = losing(lossy, 0);
      const answer: DnsAnswer = (...question) => (isLost && question[1] === lossy ? null : whole(...question));
      const resolver = await resolverFor(answer, { ...machine, deadline: 600 });
      expect(await resolver.resolve("a.test")).toEqual([rest]);
      isLost = false;
      expect(await resolver.resolve("a.test")).toEqual([SIX, FOUR]);
    },
  );

  test("a family that never comes is waited for once, as long as the answer lives", async () => {
    const resolver = await resolverFor(losing("AAAA", 99), { ...dualStack, deadline: 400 });
    expect(await resolver.resolve("a.test")).toEqual([FOUR]);
    await wait(600);
    const before = asked();
    expect(await resolver.resolve("a.test")).toEqual([FOUR]);
    expect(asked()).toBe(before);
  });

  test("late answers that are awaited have a bound; the others are asked for again soon", async () => {
    const resolver = await resolverFor(losing("AAAA", 99), { ...dualStack, maxUnderWay: 1 });
    await resolver.resolve("a.test");
    await resolver.resolve("b.test");
    const before = asked();
    expect(await resolver.resolve("b.test")).toEqual([FOUR]);
    expect(asked()).toBe(before);
    await wait(1_100);
    await resolver.resolve("b.test");
    expect(dns?.questions.filter((question) => question === "A b.test")).toHaveLength(2);
    expect(dns?.questions.filter((question) => question === "A a.test")).toHaveLength(1);
  });

  test("an answer that may not be kept awaits nothing", async () => {
    const resolver = await resolverFor(losing("A", 1, 0), dualStack);
    expect(await resolver.resolve("a.test")).toEqual([SIX]);
    expect(await resolver.resolve("a.test")).toEqual([SIX, FOUR]);
    await wait(1_500);
    expect(asked()).toBe(4);
  });
});

describe("bounds", () => {
  test("forty dead names do not hold up another", async () => {
    const resolver = await resolverFor(
      (name, type) => (name.startsWith("dead") ? null : { addresses: type === "A" ? ["192.0.2.1"] : [] }),
      { deadline: 2_500 },
    );
    let over = 0;
    const dead = Array.from({ length: 40 }, async (_, i) => {
      const reason = await resolver.resolve(`dead${i}.test`).catch((e) => e.reason);
      over++;
      return reason;
    });
    expect(await resolver.resolve("alive.test")).toEqual(["192.0.2.1"]);
    expect(over).toBe(0);
    expect(new Set(await Promise.all(dead))).toEqual(new Set(["origin-dns-timeout"]));
  });

  test("one question for many askers; then the cache answers", async () => {
    const resolver = await resolverFor(zone({ "a.test": ["192.0.2.1"] }));
    await Promise.all(Array.from({ length: 50 }, () => resolver.resolve("a.test")));
    await resolver.resolve("a.test");
    expect(asked()).toBe(2);
  });

  test("TTL 0 is asked again each time", async () => {
    const resolver = await resolverFor((_name, type, count) => ({
      addresses: type === "A" ? [`192.0.2.${count + 1}`] : [],
      ttl: 0,
    }));
    expect(await resolver.resolve("a.test")).toEqual(["192.0.2.1"]);
    expect(await resolver.resolve("a.test")).toEqual(["192.0.2.2"]);
  });

  test("a failure is not kept", async () => {
    const resolver = await resolverFor((_name, type, count) =>
      count === 0 ? { code: "nxdomain" } : { addresses: type === "A" ? ["192.0.2.1"] : [] },
    );
    await expect(resolver.resolve("a.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
    expect(await resolver.resolve("a.test")).toEqual(["192.0.2.1"]);
  });

  test("names under way have a bound", async () => {
    const resolver = await resolverFor(() => null, { deadline: 300, maxUnderWay: 3 });
    const waiting = [1, 2, 3].map((i) => resolver.resolve(`a${i}.test`).catch((e) => e.reason));
    await expect(resolver.resolve("a4.test")).rejects.toMatchObject({ reason: "busy" });
    await Promise.all(waiting);
    await expect(resolver.resolve("a5.test")).rejects.toMatchObject({ reason: "origin-dns-timeout" });
  });
});

describe("the system's files", () => {
  test("the hosts file comes before the name server, and is read again when it changes", async () => {
    const hostsFile = join(folder, "hosts");
    await writeFile(hostsFile, "192.0.2.9\tMyHost.Test alias # x\n::1 alias\nfe80::1%lo0 alias\nnonsense y\n");
    const resolver = await resolverFor(() => ({ code: "nxdomain" }), { hostsFile });
    expect(await resolver.resolve("myhost.test")).toEqual(["192.0.2.9"]);
    expect(await resolver.resolve("alias")).toEqual(["192.0.2.9", "::1"]);
    expect(asked()).toBe(0);
    await writeFile(hostsFile, "192.0.2.10 myhost.test other.test\n");
    expect(await resolver.resolve("myhost.test")).toEqual(["192.0.2.10"]);
    await rm(hostsFile);
    await expect(resolver.resolve("myhost.test")).rejects.toMatchObject({ reason: "origin-unresolved" });
  });

  test("localhost is loopback, whatever the files and servers say", async () => {
    const hostsFile = join(folder, "hosts-localhost");
    await writeFile(hostsFile, "192.0.2.9 localhost a.localhost\n");
    const resolver = await resolverFor(() => ({ addresses: ["192.0.2.8"] }), { hostsFile });
    expect(await resolver.resolve("localhost")).toEqual(["127.0.0.1", "::1"]);
    expect(await resolver.resolve("a.localhost")).toEqual(["127.0.0.1", "::1"]);
    expect(asked()).toBe(0);
  });

  test("search domains and ndots", async () => {
    const resolvConf = join(folder, "resolv.conf");
    await writeFile(resolvConf, "nameserver 192.0.2.53\nsearch corp.test other.test\noptions ndots:2 edns0\n");
    const resolver = await resolverFor(
      zone({ "intranet.other.test": ["192.0.2.1"], "a.b": ["192.0.2.2"], "x.y.z": ["192.0.2.3"] }),
      { resolvConf },
    );
    const order = (): string[] => (dns?.questions ?? []).filter((q) => q.startsWith("A ")).map((q) => q.slice(2));
    expect(await resolver.resolve("intranet")).toEqual(["192.0.2.1"]);
    expect(order()).toEqual(["intranet.corp.test", "intranet.other.test"]);
    expect(await resolver.resolve("a.b")).toEqual(["192.0.2.2"]);
    expect(order().slice(2)).toEqual(["a.b.corp.test", "a.b.other.test", "a.b"]);
    expect(await resolver.resolve("x.y.z")).toEqual(["192.0.2.3"]);
    expect(order().slice(5)).toEqual(["x.y.z"]);
  });
});
