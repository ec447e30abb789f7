import { execFileSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Ca, openCa, reloadCa, rotateCa } from "../../../src/edge/tls/ca.ts";
import { basicConstraints, caKeyUsage, subjectKeyId } from "../../../src/edge/tls/certificate-writer.ts";
import { clientAuth, DAY, ecKey, type Issued, issue, issueCa, permittedNames, rsaKey, signOnly } from "./issue.ts";

const base = mkdtempSync(join(tmpdir(), "ca-test-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const folder = (): string => join(base, String(++count));
const now = (): number => Date.now();

function brought(chain: readonly Issued[], keyPem = (chain[0] as Issued).keyPem, mode = 0o600): string {
  const dir = folder();
  mkdirSync(dir);
  writeFileSync(join(dir, "ca.pem"), chain.map((one) => one.pem).join(""));
  writeFileSync(join(dir, "ca.key"), keyPem, { mode });
  chmodSync(join(dir, "ca.key"), mode);
  return dir;
}

/** OpenSSL's own opinion, in its strictest mode, as a TLS client would ask. */
function opensslVerify(ca: Ca, certPem: string, host: string): string {
  const dir = folder();
  mkdirSync(dir);
  const blocks = certPem.split(/(?<=-----END CERTIFICATE-----\n)/);
  writeFileSync(join(dir, "root.pem"), ca.certificatePem);
  writeFileSync(join(dir, "leaf.pem"), blocks[0] as string);
  writeFileSync(join(dir, "more.pem"), blocks.slice(1).join(""));
  const name = /^[0-9.]+$|:/.test(host) ? ["-verify_ip", host] : ["-verify_hostname", host];
  const more = blocks.length > 1 ? ["-untrusted", join(dir, "more.pem")] : [];
  const args = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", join(dir, "root.pem"), ...more, ...name];
  return execFileSync("openssl", [...args, join(dir, "leaf.pem")], { encoding: "utf8", stdio: "pipe" });
}

const text = (certPem: string): string =>
  execFileSync("openssl", ["x509", "-noout", "-text"], { input: certPem, encoding: "utf8" });

describe("the CA that is made on first start", () => {
  test("is made once, with a key for its owner alone, and read from then on", async () => {
    const dir = folder();
    const first = await openCa({ dir, now });
    const again = await openCa({ dir, now });
    expect([first.created, again.created]).toEqual([true, false]);
    expect(again.fingerprint).toBe(first.fingerprint);
    expect(first.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    expect(statSync(join(dir, "ca.key")).mode & 0o777).toBe(0o600);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem"]);
    const shown = text(first.certificatePem);
    expect(shown).toContain("Public-Key: (2048 bit)");
    expect(shown).toMatch(/Basic Constraints: critical\s+CA:TRUE/);
    expect(shown).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
    const years = (first.notAfter - Date.now()) / (365.25 * DAY);
    expect(years).toBeGreaterThan(9.9);
    expect(years).toBeLessThan(10.1);
  });

  test("is one CA, however many processes start at once", async () => {
    const dir = folder();
    const all = await Promise.all(Array.from({ length: 5 }, () => openCa({ dir, now })));
    expect(new Set(all.map((ca) => ca.fingerprint)).size).toBe(1);
    expect(all.filter((ca) => ca.created)).toHaveLength(1);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem"]);
  });

  test("is finished by the next start when the first was cut between its two files", async () => {
    const dir = folder();
    const { fingerprint } = await openCa({ dir, now });
    const certificate = join(dir, "ca.pem");
    renameSync(certificate, join(dir, "ca.pem.0123456789ab.tmp"));
    writeFileSync(join(dir, "ca.pem.000000000000.tmp"), "-----BEGIN CERTIFICATE-----\nMIIB");
    writeFileSync(join(dir, "ca.pem.111111111111.tmp"), (await issueCa("Another")).pem);
    const again = await openCa({ dir, now });
    expect([again.created, again.fingerprint]).toEqual([false, fingerprint]);
    expect(readdirSync(dir)).toContain("ca.pem");
    rmSync(certificate);
    await expect(openCa({ dir, now })).rejects.toThrow(/ca\.key is there but .*ca\.pem is not/);
  });

  test("has an encrypted key when there is a passphrase", async () => {
    const dir = folder();
    const ca = await openCa({ dir, passphrase: "correct horse", now });
    expect(readFileSync(join(dir, "ca.key"), "utf8")).toContain("ENCRYPTED PRIVATE KEY");
    expect((await openCa({ dir, passphrase: "correct horse", now })).fingerprint).toBe(ca.fingerprint);
    await expect(openCa({ dir, passphrase: "wrong one", now })).rejects.toThrow(/does not open with this passphrase/);
    await expect(openCa({ dir, now })).rejects.toThrow(/needs its passphrase/);
  });
});

describe("leaves", () => {
  const hosts = [
    ["a DNS name", "api.example.com", "DNS:api.example.com"],
    ["an IPv4 address (C1)", "192.0.2.7", "IP Address:192.0.2.7"],
    ["an IPv6 address (C1)", "2001:db8::7", "IP Address:2001:DB8:0:0:0:0:0:7"],
    ["a name with an underscore (C6)", "a_b.example.com", "DNS:a_b.example.com"],
    [
      "a name longer than a common name may be (C6)",
      `${"a".repeat(60)}.example.com`,
      `DNS:${"a".repeat(60)}.example.com`,
    ],
    [
      "a name of 253 characters (C6)",
      `${`${"b".repeat(49)}.`.repeat(5)}com`,
      `DNS:${`${"b".repeat(49)}.`.repeat(5)}com`,
    ],
    ["a name of one label", "intranet", "DNS:intranet"],
  ] as const;

  const made = openCa({ dir: folder(), now });
  test.each(hosts)("for %s", async (_title, host, san) => {
    const ca = await made;
    const leaf = await ca.mint(host);
    expect(opensslVerify(ca, leaf.certPem, host)).toContain("OK");
    const x = new X509Certificate(leaf.certPem);
    expect(x.subjectAltName?.toUpperCase()).toBe(san.toUpperCase());
    expect(x.checkPrivateKey(createPrivateKey(leaf.keyPem))).toBe(true);
    const shown = text(leaf.certPem);
    expect(shown).toMatch(/Key Usage: critical\s+Digital Signature\n/);
    expect(shown).toMatch(/Extended Key Usage: *\s+TLS Web Server Authentication\n/);
    expect(shown).toMatch(/CA:FALSE/);
    expect(shown).toContain("NIST CURVE: P-256");
    const ski = /Subject Key Identifier: *\n\s+([0-9A-F:]+)/.exec(text(ca.certificatePem))?.[1];
    expect(/Authority Key Identifier: *\n\s+(?:keyid:)?([0-9A-F:]+)/.exec(shown)?.[1]).toBe(ski);
    if (host.length > 64 || san.startsWith("IP")) {
      expect(shown).toMatch(/Subject: *\n/);
      expect(shown).toMatch(/Subject Alternative Name: critical/);
    }
  });

  test.each(["*.example.com", "A.example.com", "a.example.com.", "", "a b", "a\0b.com", `${"c".repeat(64)}.com`])(
    "for %j there is none: it is not a canonical host",
    async (host) => {
      await expect((await made).mint(host)).rejects.toThrow();
    },
  );

  test("live 7 days at most, an hour of them past (C5), with serials of their own and a key that is not the CA's", async () => {
    const ca = await made;
    const leaves = await Promise.all(Array.from({ length: 50 }, () => ca.mint("a.example")));
    const parsed = leaves.map((leaf) => new X509Certificate(leaf.certPem));
    for (const x of parsed) {
      const [from, to] = [Date.parse(x.validFrom), Date.parse(x.validTo)];
      expect(to - from).toBeLessThanOrEqual(7 * DAY);
      expect(Math.abs(Date.now() - 3_600_000 - from)).toBeLessThan(120_000);
      expect(BigInt(`0x${x.serialNumber}`) > 0n).toBe(true);
      expect(x.serialNumber.length).toBe(32);
      expect(text(x.toString())).not.toContain("Serial Number: -");
    }
    expect(new Set(parsed.map((x) => x.serialNumber)).size).toBe(50);
    const caKey = new X509Certificate(ca.certificatePem).publicKey.export({ type: "spki", format: "der" });
    expect(parsed[0]?.publicKey.export({ type: "spki", format: "der" }).equals(caKey)).toBe(false);
  });

  test("never outlive the CA, and end with it", async () => {
    const end = Math.floor(Date.now() / 1000) * 1000 + 2 * DAY;
    const dir = brought([await issueCa("short", { to: end })]);
    let clock = Date.now();
    const ca = await openCa({ dir, now: () => clock });
    expect((await ca.mint("a.example")).notAfter).toBe(end);
    expect(ca.warnings.join()).toContain("expires on");
    clock = end;
    await expect(ca.mint("a.example")).rejects.toThrow(/the CA ended/);
  });
});

describe("a CA that was brought (C4)", () => {
  test.each([
    ["RSA 2048", () => rsaKey()],
    ["RSA 3072", () => rsaKey(3072)],
    ["P-256", () => ecKey()],
    ["P-384", () => ecKey("secp384r1")],
    ["P-521", () => ecKey("secp521r1")],
  ])("%s works", async (_title, key) => {
    const ca = await openCa({ dir: brought([await issueCa("Corp Root", { key: key() })]), now });
    expect(opensslVerify(ca, (await ca.mint("a.example")).certPem, "a.example")).toContain("OK");
    expect(ca.warnings).toEqual([]);
  });

  test("with a subject key identifier of its own making: leaves carry exactly that one", async () => {
    const key = ecKey();
    const odd = Buffer.from("0badcafe", "hex");
    const root = await issue({
      commonName: "Odd",
      key,
      extensions: [basicConstraints(true), caKeyUsage(), subjectKeyId(odd)],
    });
    const ca = await openCa({ dir: brought([root]), now });
    const leaf = await ca.mint("a.example");
    expect(text(leaf.certPem)).toMatch(/Authority Key Identifier: *\n\s+(keyid:)?0B:AD:CA:FE/);
    expect(opensslVerify(ca, leaf.certPem, "a.example")).toContain("OK");
  });

  test("without a subject key identifier: leaves carry no authority key identifier, and we say so", async () => {
    const root = await issue({ commonName: "Bare", extensions: [basicConstraints(true), caKeyUsage()] });
    const ca = await openCa({ dir: brought([root]), now });
    expect(text((await ca.mint("a.example")).certPem)).not.toContain("Authority Key Identifier");
    expect(ca.warnings.join()).toContain("subject key identifier");
  });

  test("an intermediate with its root: the chain is sent, the root exported", async () => {
    const root = await issueCa("Root", { pathLength: 1 });
    const middle = await issueCa("Middle", { issuer: root, pathLength: 0 });
    const ca = await openCa({ dir: brought([middle, root]), now });
    expect(ca.certificatePem).toBe(root.pem);
    const leaf = await ca.mint("a.example");
    expect(leaf.certPem).toContain(middle.pem);
    expect(leaf.certPem).not.toContain(root.pem);
    expect(execFileSync("openssl", ["version"], { encoding: "utf8" })).toContain("OpenSSL");
    const dir = folder();
    mkdirSync(dir);
    writeFileSync(join(dir, "root.pem"), root.pem);
    writeFileSync(join(dir, "chain.pem"), leaf.certPem);
    const args = [
      "verify",
      "-CAfile",
      join(dir, "root.pem"),
      "-untrusted",
      join(dir, "chain.pem"),
      join(dir, "chain.pem"),
    ];
    expect(execFileSync("openssl", args, { encoding: "utf8" })).toContain("OK");
  });

  test("name constraints are honoured and explained", async () => {
    const ca = await openCa({
      dir: brought([await issueCa("Fenced", { more: [permittedNames("corp.example")] })]),
      now,
    });
    expect(ca.warnings.join()).toContain("permits corp.example");
    expect(opensslVerify(ca, (await ca.mint("a.corp.example")).certPem, "a.corp.example")).toContain("OK");
    await expect(ca.mint("evilcorp.example")).rejects.toThrow(/name constraints.*tunnel rule/);
    expect(opensslVerify(ca, (await ca.mint("192.0.2.1")).certPem, "192.0.2.1")).toContain("OK");
  });

  const root = issueCa("Root");
  const refused: [string, RegExp, () => Promise<string>][] = [
    ["another key", /the key does not fit/, async () => brought([await root], (await issueCa("x")).keyPem)],
    [
      "expired",
      /expired on 20/,
      async () => brought([await issueCa("x", { from: Date.now() - 9 * DAY, to: Date.now() - DAY })]),
    ],
    ["not yet valid", /not valid before/, async () => brought([await issueCa("x", { from: Date.now() + DAY })])],
    [
      "not a CA",
      /not a CA certificate/,
      async () => brought([await issue({ commonName: "x", extensions: [basicConstraints(false)] })]),
    ],
    ["no basic constraints", /not a CA certificate/, async () => brought([await issue({ commonName: "x" })])],
    [
      "no keyCertSign",
      /keyCertSign/,
      async () => brought([await issue({ commonName: "x", extensions: [basicConstraints(true), signOnly()] })]),
    ],
    ["for clients only", /serverAuth/, async () => brought([await issueCa("x", { more: [clientAuth()] })])],
    [
      "a path length that leaves no room",
      /path length of 0/,
      async () => {
        const top = await issueCa("Top", { pathLength: 0 });
        return brought([await issueCa("Middle", { issuer: top }), top]);
      },
    ],
    ["a chain that does not fit", /did not issue/, async () => brought([await root, await issueCa("Other")])],
    [
      "a weak key",
      /2048 bits or more/,
      async () => {
        const key = rsaKey(1024);
        const strong = await root;
        return brought([{ ...(await issueCa("x", { key, issuer: strong })) }]);
      },
    ],
    ["a key that others may read", /chmod 600/, async () => brought([await root], (await root).keyPem, 0o640)],
    [
      "a certificate without its key",
      /ca\.key is not/,
      async () => {
        const dir = brought([await root]);
        rmSync(join(dir, "ca.key"));
        return dir;
      },
    ],
    [
      "text instead of a certificate",
      /no certificate in PEM/,
      async () => brought([{ ...(await root), pem: "hello" }]),
    ],
    ["text instead of a key", /not a private key/, async () => brought([await root], "hello")],
  ];
  test.each(refused)("is refused: %s", async (_title, why, make) => {
    const dir = await make();
    const before = readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), "utf8")]);
    const error = await openCa({ dir, now }).then(
      () => null,
      (e: Error) => e,
    );
    expect(error).toMatchObject({ reason: "bad-configuration", message: expect.stringMatching(why) });
    expect(error?.message).not.toContain("PRIVATE KEY");
    expect(readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), "utf8")])).toEqual(before);
  });
});

describe("rotation", () => {
  test("keeps the old root for 30 days, and a running house picks the new one up", async () => {
    const dir = folder();
    const old = await openCa({ dir, now });
    const { ca, kept } = await rotateCa({ dir, now });
    expect(ca.fingerprint).not.toBe(old.fingerprint);
    expect(readFileSync(kept, "utf8")).toBe(old.certificatePem);
    expect(kept).toMatch(/ca-previous-\d{4}-\d\d-\d\d\.pem$/);
    expect(statSync(join(dir, "ca.key")).mode & 0o777).toBe(0o600);
    const reloaded = await reloadCa({ dir, now });
    expect(reloaded.fingerprint).toBe(ca.fingerprint);
    expect(reloaded.previous).toEqual([old.certificatePem]);
    const { ca: third } = await rotateCa({ dir, now });
    expect(third.previous).toHaveLength(2);
    expect((await reloadCa({ dir, now: () => Date.now() + 29 * DAY })).previous).toHaveLength(2);
    expect((await reloadCa({ dir, now: () => Date.now() + 32 * DAY })).previous).toEqual([]);
  });

  test("that was cut between its two renames is finished by the next reader", async () => {
    const dir = folder();
    await openCa({ dir, now });
    const before = readFileSync(join(dir, "ca.pem"), "utf8");
    const { ca } = await rotateCa({ dir, now });
    writeFileSync(join(dir, "ca.pem.new"), readFileSync(join(dir, "ca.pem")));
    writeFileSync(join(dir, "ca.pem"), before);
    expect((await openCa({ dir, now })).fingerprint).toBe(ca.fingerprint);
    expect(readdirSync(dir)).not.toContain("ca.pem.new");
  });

  test("of a CA that was brought is refused", async () => {
    const dir = brought([await issueCa("Corp Root")]);
    await expect(rotateCa({ dir, now })).rejects.toThrow(/by hand/);
  });
});
