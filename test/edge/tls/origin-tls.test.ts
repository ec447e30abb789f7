import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type TlsOptions } from "node:tls";
import { afterAll, describe, expect, test } from "vitest";
import {
  basicConstraints,
  leafKeyUsage,
  serverAuth,
  subjectAltName,
} from "../../../src/edge/tls/certificate-writer.ts";
import type { ExcusableFault } from "../../../src/edge/tls/origin-faults.ts";
import { OriginTls, type TlsException } from "../../../src/edge/tls/origin-tls.ts";
import { ProxyError } from "../../../src/shared/errors.ts";
import { clientAuth, DAY, ecKey, type Issued, issue, issueCa, issueLeaf, permittedNames, rsaKey } from "./issue.ts";

const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

async function origin(chain: readonly Issued[], more: TlsOptions = {}): Promise<number> {
  const options = { cert: chain.map((one) => one.pem).join(""), key: (chain[0] as Issued).keyPem, ...more };
  const server = createServer(options, (socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => socket.end(bytes));
  });
  server.on("tlsClientError", () => {});
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

const root = await issueCa("Origin Root");
const to = (host: string, port: number) => ({ scheme: "https", host, port }) as const;

function tls(
  exceptions: readonly TlsException[] = [],
  now = Date.now,
  more: Partial<ConstructorParameters<typeof OriginTls>[0]> = {},
): OriginTls {
  return new OriginTls({ roots: [root.pem], exceptions, clientCertificates: [], now, ...more });
}

const exception = (host: string, ...allow: ExcusableFault[]): TlsException => ({
  host,
  allow,
  reason: "a test",
  until: Date.now() + DAY,
});

interface Reached {
  readonly note: string | null;
  readonly reused: boolean;
  readonly protocol: string;
  readonly fingerprint: string | null;
  readonly servername: string | false;
}

/** Connects as the proxy does: accept before the first byte, errors classified. */
function reach(origins: OriginTls, host: string, port: number, client = "c"): Promise<Reached> {
  const destination = to(host, port);
  return new Promise((resolve, reject) => {
    const socket = connect({ ...origins.optionsFor(destination, client, []), host: "127.0.0.1", port });
    let reached: Reached | null = null;
    socket.on("session", (session) => origins.rememberSession(destination, client, session));
    socket.on("error", (error) => reject(origins.classify(error, destination)));
    socket.on("close", () => (reached === null ? reject(new Error("closed")) : resolve(reached)));
    socket.on("secureConnect", () => {
      try {
        const note = origins.accept(socket, destination);
        reached = { note, reused: socket.isSessionReused(), ...origins.describe(socket), servername: false };
        socket.write("x");
        socket.resume();
      } catch (error) {
        socket.destroy();
        reject(error);
      }
    });
  });
}

const past = { from: Date.now() - 9 * DAY, to: Date.now() - DAY };
const selfSigned = (host: string, wish = {}): Promise<Issued> =>
  issue({
    commonName: host,
    extensions: [basicConstraints(false), leafKeyUsage(), serverAuth(), subjectAltName(host, false)],
    ...wish,
  });
const middle = await issueCa("Middle", { issuer: root, pathLength: 0 });
const fenced = await issueCa("Fenced", { issuer: root, more: [permittedNames("corp.example")] });
const stranger = await issueCa("Stranger");
const constrained = await issueCa("Narrow", { issuer: root, pathLength: 0 });
const tooDeep = await issueCa("Deep", { issuer: constrained });
const deadMiddle = await issueCa("Dead", { issuer: root, ...past });

const bad: Record<string, () => Promise<Issued[]>> = {
  expired: async () => [await issueLeaf("a.example", root, past)],
  "not yet valid": async () => [await issueLeaf("a.example", root, { from: Date.now() + DAY })],
  "self-signed": async () => [await selfSigned("a.example")],
  "self-signed and expired": async () => [await selfSigned("a.example", past)],
  "self-signed for another host": async () => [await selfSigned("b.example")],
  "another host": async () => [await issueLeaf("b.example", root)],
  "expired for another host": async () => [await issueLeaf("b.example", root, past)],
  "name in the CN only": async () => [
    await issue({
      commonName: "a.example",
      issuer: root,
      extensions: [basicConstraints(false), leafKeyUsage(), serverAuth()],
    }),
  ],
  "wildcard of another level": async () => [await issueLeaf("*.a.example", root)],
  "an unknown issuer": async () => [await issueLeaf("a.example", stranger), stranger],
  "an unknown issuer, expired": async () => [await issueLeaf("a.example", stranger, past), stranger],
  "a broken chain": async () => [await issueLeaf("a.example", middle)],
  "a broken chain, expired": async () => [await issueLeaf("a.example", middle, past)],
  "wrong usage": async () => [
    await issueLeaf("a.example", root, {
      extensions: [basicConstraints(false), leafKeyUsage(), clientAuth(), subjectAltName("a.example", false)],
    }),
  ],
  "wrong usage, expired": async () => [
    await issueLeaf("a.example", root, {
      ...past,
      extensions: [basicConstraints(false), leafKeyUsage(), clientAuth(), subjectAltName("a.example", false)],
    }),
  ],
  "outside the name constraints": async () => [await issueLeaf("a.example", fenced), fenced],
  "outside the name constraints, expired": async () => [await issueLeaf("a.example", fenced, past), fenced],
  "signed by a leaf": async () => {
    const leaf = await issueLeaf("evil.example", root);
    return [await issueLeaf("a.example", leaf), leaf];
  },
  "signed by a leaf, expired": async () => {
    const leaf = await issueLeaf("evil.example", root);
    return [await issueLeaf("a.example", leaf, past), leaf];
  },
  "below a CA that may have none below it": async () => [await issueLeaf("a.example", tooDeep), tooDeep, constrained],
  "an expired intermediate": async () => [await issueLeaf("a.example", deadMiddle), deadMiddle],
  "a weak key": async () => [await issueLeaf("a.example", root, { key: rsaKey(1024) })],
  "the right name signed by another key of the same CA name": async () => {
    const twin = await issueCa("Origin Root");
    return [await issueLeaf("a.example", twin)];
  },
};
const ports = new Map<string, Promise<number>>();
const portOf = (fault: string): Promise<number> => {
  const made =
    ports.get(fault) ??
    (bad[fault] as () => Promise<Issued[]>)().then((chain) => origin(chain, { ciphers: "DEFAULT@SECLEVEL=0" }));
  ports.set(fault, made);
  return made;
};

describe("a good origin", () => {
  test.each([
    ["a name", "a.example", "a.example"],
    ["a wildcard", "x.a.example", "*.a.example"],
    ["an IPv4 address", "127.0.0.1", "127.0.0.1"],
    ["an IPv6 address", "2001:db8::1", "2001:db8::1"],
    ["an underscore", "a_b.example", "a_b.example"],
    ["an underscore under a wildcard", "a_b.example.test", "*.example.test"],
    ["an underscore under a wildcard in capitals", "a_b.example.test", "*.EXAMPLE.test"],
    ["an underscore beside the wildcard", "x.a_b.example.test", "*.a_b.example.test"],
  ])("with %s is reached, and described", async (_title, host, san) => {
    const leaf = await issueLeaf(san, root);
    const got = await reach(tls(), host, await origin([leaf]));
    expect(got).toMatchObject({ note: null, protocol: "TLSv1.3" });
    expect(got.fingerprint).toBe(leaf.certificate.fingerprint256.replaceAll(":", "").toLowerCase());
  });

  test("with an intermediate is reached; inside the name constraints too", async () => {
    expect(
      (await reach(tls(), "a.example", await origin([await issueLeaf("a.example", middle), middle]))).note,
    ).toBeNull();
    const inside = [await issueLeaf("a.corp.example", fenced), fenced];
    expect((await reach(tls(), "a.corp.example", await origin(inside))).note).toBeNull();
  });

  test("that is a self-signed certificate among the roots is reached", async () => {
    const own = await selfSigned("a.example");
    const trusting = tls([], Date.now, { roots: [root.pem, own.pem] });
    expect((await reach(trusting, "a.example", await origin([own]))).note).toBeNull();
  });

  test("gets SNI for names and none for addresses", () => {
    expect(tls().optionsFor(to("a.example", 443), "c", ["http/1.1"])).toMatchObject({
      servername: "a.example",
      ALPNProtocols: ["http/1.1"],
      rejectUnauthorized: true,
    });
    expect(tls().optionsFor(to("192.0.2.1", 443), "c", []).servername).toBe("");
  });
});

describe("a bad origin certificate is refused before a byte is sent (C7)", () => {
  test.each([
    ["of the level above", "a_b.c.example.test", "*.example.test"],
    ["of the level below", "a_b.example.test", "*.a_b.example.test"],
    ["in the middle", "a_b.c.example.test", "a_b.*.example.test"],
    ["of a part of a label", "a_b.example.test", "a*.example.test"],
    ["of a top-level domain", "a_b.test", "*.test"],
    ["that is all of the name", "a_b.test", "*"],
    ["within another name", "a_b.example.test", "x, DNS:*.example.test, DNS:y"],
  ])("an underscore under a wildcard %s", async (_title, host, san) => {
    const error = await reach(tls(), host, await origin([await issueLeaf(san, root)])).catch((e) => e);
    expect(error).toMatchObject({ reason: "origin-certificate" });
  });

  const why: Record<string, RegExp> = {
    expired: /expired/,
    "not yet valid": /not valid yet/,
    "self-signed": /self-signed/,
    "another host": /another host \(DNS:b\.example\)/,
    "name in the CN only": /names no host/,
    "an unknown issuer": /root that is not trusted/,
    "a broken chain": /issuer|incomplete/,
    "wrong usage": /wrong usage/,
    "outside the name constraints": /subtree/,
  };
  test.each(Object.keys(bad))("%s", async (fault) => {
    const error = await reach(tls(), "a.example", await portOf(fault)).catch((e) => e);
    expect(error).toBeInstanceOf(ProxyError);
    expect(error).toMatchObject({ reason: "origin-certificate", message: expect.stringMatching(why[fault] ?? /./) });
    expect(error.message).toContain("a.example");
  });

  test.each([
    [
      "TLS 1.1 only",
      { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" },
      /no TLS of version 1\.2/,
    ],
    ["no AEAD", { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA256" }, /no cipher in common/],
    [
      "a client certificate wanted",
      { requestCert: true, rejectUnauthorized: true, maxVersion: "TLSv1.2" },
      /TLS with a\.example failed/,
    ],
  ] as const)("%s: origin-tls", async (_title, options, message) => {
    const port = await origin([await issueLeaf("a.example", root)], options);
    const error = await reach(tls(), "a.example", port).catch((e) => e);
    expect(error).toMatchObject({ reason: "origin-tls", message: expect.stringMatching(message) });
  });
});

describe("an exception excuses what it names and nothing else", () => {
  const kinds: ExcusableFault[] = ["self-signed", "expired", "hostname", "untrusted"];
  /** What must be allowed for it to pass; absent: nothing helps. */
  const needs: Record<string, ExcusableFault[]> = {
    expired: ["expired"],
    "self-signed": ["self-signed"],
    "self-signed and expired": ["self-signed", "expired"],
    "self-signed for another host": ["self-signed", "hostname"],
    "another host": ["hostname"],
    "expired for another host": ["expired", "hostname"],
    "name in the CN only": ["hostname"],
    "wildcard of another level": ["hostname"],
    "an unknown issuer": ["untrusted"],
    "an unknown issuer, expired": ["untrusted", "expired"],
    "a broken chain": ["untrusted"],
    "a broken chain, expired": ["untrusted", "expired"],
    "signed by a leaf, expired": ["untrusted", "expired"],
    "an expired intermediate": ["untrusted"],
    "signed by a leaf": ["untrusted"],
  };
  const never = [
    "outside the name constraints, expired",
    "the right name signed by another key of the same CA name",
    "not yet valid",
    "wrong usage",
    "wrong usage, expired",
    "outside the name constraints",
    "a weak key",
    "below a CA that may have none below it",
  ];

  test("every bad certificate is in one of the two lists", () => {
    expect([...Object.keys(needs), ...never].sort()).toEqual(Object.keys(bad).sort());
  });

  test.each(Object.entries(needs))("%s needs %j", async (fault, wanted) => {
    const port = await portOf(fault);
    const passed = await reach(tls([exception("a.example", ...wanted)]), "a.example", port);
    expect(passed.note).toMatch(/^tls-exception:/);
    // Each of the others together, with one of the wanted left out: refused.
    for (const left of wanted) {
      const allow = kinds.filter((kind) => kind !== left);
      const refused = reach(tls([exception("a.example", ...allow)]), "a.example", port);
      await expect(refused, `without ${left}`).rejects.toMatchObject({ reason: "origin-certificate" });
    }
  });

  test.each(never)("%s is never excused", async (fault) => {
    const all = tls([exception("a.example", ...kinds)]);
    await expect(reach(all, "a.example", await portOf(fault))).rejects.toMatchObject({ reason: "origin-certificate" });
  });

  test("for one host only, and below a suffix only", async () => {
    const port = await portOf("self-signed");
    for (const host of ["b.example", "x.a.example", "*.a.example", "*.ample"]) {
      const other = tls([exception(host, ...kinds)]);
      await expect(reach(other, "a.example", port), host).rejects.toMatchObject({ reason: "origin-certificate" });
    }
    expect((await reach(tls([exception("*.example", "self-signed")]), "a.example", port)).note).toBe(
      "tls-exception:self-signed",
    );
  });

  test("until its end, also for who has just connected", async () => {
    const port = await portOf("self-signed");
    let clock = Date.now();
    const until = clock + 1000;
    const origins = tls([{ ...exception("a.example", "self-signed"), until }], () => clock);
    expect((await reach(origins, "a.example", port)).note).toBe("tls-exception:self-signed");
    const destination = to("a.example", port);
    const socket = connect({ ...origins.optionsFor(destination, "c", []), host: "127.0.0.1", port });
    await new Promise((resolve) => socket.once("secureConnect", resolve));
    clock = until;
    expect(() => origins.accept(socket, destination)).toThrow(/self-signed/);
    socket.destroy();
    await expect(reach(origins, "a.example", port)).rejects.toMatchObject({ reason: "origin-certificate" });
  });
});

describe("sessions", () => {
  test.each(["TLSv1.2", "TLSv1.3"] as const)(
    "%s: resumed for the same host and client, and for no other (C9)",
    async (version) => {
      const leaf = await issueLeaf("*.s.example", root, { key: ecKey() });
      const port = await origin([leaf], { minVersion: version, maxVersion: version });
      const origins = tls();
      expect((await reach(origins, "a.s.example", port, "alice")).reused).toBe(false);
      const again = await reach(origins, "a.s.example", port, "alice");
      expect(again).toMatchObject({
        reused: true,
        protocol: version,
        fingerprint: leaf.certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
      });
      expect((await reach(origins, "a.s.example", port, "bob")).reused).toBe(false);
      expect((await reach(origins, "b.s.example", port, "alice")).reused).toBe(false);
    },
  );

  test("are dropped after a day, and when there are too many", async () => {
    let clock = Date.now();
    const origins = tls([], () => clock, { sessions: 2 });
    const keep = (host: string) => origins.rememberSession(to(host, 443), "c", Buffer.from(host));
    const has = (host: string) => origins.optionsFor(to(host, 443), "c", []).session !== undefined;
    for (const host of ["a.example", "b.example", "c.example"]) keep(host);
    expect([has("a.example"), has("b.example")]).toEqual([false, true]);
    clock += 2 * DAY;
    expect(has("c.example")).toBe(false);
  });

  test("do not hide that the certificate has expired meanwhile", async () => {
    const leaf = await issueLeaf("a.example", root, { to: Date.now() + DAY / 24 });
    const port = await origin([leaf]);
    let clock = Date.now();
    const origins = tls([], () => clock);
    await reach(origins, "a.example", port);
    expect((await reach(origins, "a.example", port)).reused).toBe(true);
    clock += DAY / 12;
    const destination = to("a.example", port);
    await expect(reach(origins, "a.example", port)).rejects.toMatchObject({
      reason: "origin-certificate",
      message: expect.stringMatching(/expired on/),
    });
    expect(origins.optionsFor(destination, "c", []).session).toBeUndefined();
  });
});

describe("client certificates", () => {
  const clients = issueCa("Client Root");
  async function asking(): Promise<number> {
    const leaf = await issueLeaf("a.example", root);
    return await origin([leaf], {
      requestCert: true,
      rejectUnauthorized: true,
      ca: (await clients).pem,
      maxVersion: "TLSv1.2",
    });
  }
  const ours = async (host: string) => {
    const one = await issue({
      commonName: "sallyport",
      issuer: await clients,
      extensions: [basicConstraints(false), leafKeyUsage(), clientAuth()],
    });
    return { host, cert: { pem: one.pem }, key: { pem: one.keyPem }, passphrase: null };
  };

  test("are shown to their host and to no other", async () => {
    const port = await asking();
    const right = tls([], Date.now, { clientCertificates: [await ours("a.example")] });
    expect((await reach(right, "a.example", port)).note).toBeNull();
    const other = tls([], Date.now, { clientCertificates: [await ours("b.example")] });
    await expect(reach(other, "a.example", port)).rejects.toMatchObject({ reason: "origin-tls" });
  });

  test("that do not fit their key are refused at load, without showing it", async () => {
    const one = await ours("a.example");
    const wrong = { ...one, key: { pem: ecKey().export({ type: "pkcs8", format: "pem" }) as string } };
    const make = () => tls([], Date.now, { clientCertificates: [wrong] });
    expect(make).toThrow(/tls\.client-certificates: a\.example/);
    expect(make).not.toThrow(/PRIVATE/);
  });
});
