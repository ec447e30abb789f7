import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const base = mkdtempSync(join(tmpdir(), "ca-cli-"));
const dir = join(base, "certs");
const roots = join(base, "roots.pem");
afterAll(() => rmSync(base, { recursive: true, force: true }));

// The command by itself, so that the test does not depend on the other commands.
const RUN = `import { caCommand } from ${JSON.stringify(join(import.meta.dirname, "../../src/cli/ca.ts"))};
caCommand().exitOverride().parseAsync(process.argv.slice(1), { from: "user" }).catch((e) => { process.stderr.write(e.message); process.exit(e.code ?? 9); });`;

function ca(...args: string[]): { status: number | null; out: Buffer; err: string } {
  const env = { ...process.env, SSL_CERT_FILE: roots };
  const run = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", RUN, "--", ...args], {
    env,
  });
  return { status: run.status, out: run.stdout, err: run.stderr.toString() };
}
const json = (...args: string[]) => JSON.parse(ca(...args, "--json").out.toString());
const hasKeytool = spawnSync("keytool", ["-help"]).error === undefined;

beforeAll(() => {
  expect(ca("show", "--ca", dir)).toMatchObject({ status: 2, err: expect.stringContaining("ca init") });
  expect(json("init", "--ca", dir)).toMatchObject({ created: true });
  writeFileSync(roots, readFileSync(join(dir, "ca.pem")));
});

describe("sallyport ca", () => {
  test("init makes it once", () => {
    expect(json("init", "--ca", dir)).toMatchObject({ created: false });
  });

  test("show says what clients trust", () => {
    const x = new X509Certificate(readFileSync(join(dir, "ca.pem")));
    expect(json("show", "--ca", dir)).toMatchObject({ fingerprint: x.fingerprint256, key: "rsa 2048", previous: 0 });
    expect(ca("show", "--ca", dir).out.toString()).toContain(x.fingerprint256);
  });

  test.each(["pem", "der", "p12"] as const)("export --format %s gives the certificate, and never the key", (format) => {
    const { status, out } = ca("export", "--ca", dir, "--format", format);
    expect(status).toBe(0);
    expect(out.toString("latin1")).not.toContain("PRIVATE");
    const key = readFileSync(join(dir, "ca.key"), "utf8").replace(/-----.*-----|\n/g, "");
    expect(out.includes(Buffer.from(key, "base64").subarray(-100))).toBe(false);
    const raw = new X509Certificate(readFileSync(join(dir, "ca.pem"))).raw;
    if (format !== "p12") expect(new X509Certificate(out).raw.equals(raw)).toBe(true);
    else expect(out.includes(raw)).toBe(true);
  });

  test("export --format p12 is read by OpenSSL, its digest checked, and has no key", () => {
    const file = join(base, "trust.p12");
    expect(ca("export", "--ca", dir, "--format", "p12", "--out", file).status).toBe(0);
    const shown = execFileSync("openssl", ["pkcs12", "-in", file, "-passin", "pass:changeit", "-info"], {
      encoding: "utf8",
      stdio: "pipe",
    });
    expect(shown.match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
    expect(shown).not.toContain("PRIVATE KEY");
    const wrong = spawnSync("openssl", ["pkcs12", "-in", file, "-passin", "pass:wrong"]);
    expect(wrong.status).not.toBe(0);
  });

  // Where there is no keytool, the run of .ci, which installs it, is the one that looks.
  test("export --format p12 is one trusted entry for keytool", () => {
    if (!hasKeytool) {
      expect(process.env.SALLYPORT_REQUIRE_CLIENTS, "keytool is required here").toBeUndefined();
      return;
    }
    const file = join(base, "java.p12");
    ca("export", "--ca", dir, "--format", "p12", "--out", file);
    const shown = execFileSync("keytool", ["-list", "-keystore", file, "-storepass", "changeit"], { encoding: "utf8" });
    expect(shown).toContain("contains 1 entry");
    expect(shown).toContain("trustedCertEntry");
  });

  test("export --format bundle holds the system's roots and ours", () => {
    const other = execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "/dev/null",
        "-subj",
        "/CN=Other",
      ],
      { encoding: "utf8", stdio: "pipe" },
    );
    writeFileSync(roots, other);
    const out = ca("export", "--ca", dir, "--format", "bundle").out.toString();
    expect(out.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(out).toContain(readFileSync(join(dir, "ca.pem"), "utf8"));
  });

  test("export refuses to write over the key", () => {
    const before = readFileSync(join(dir, "ca.key"));
    expect(ca("export", "--ca", dir, "--out", join(dir, "ca.key"))).toMatchObject({ status: 2 });
    expect(readFileSync(join(dir, "ca.key")).equals(before)).toBe(true);
  });

  test("rotate keeps the old root in the bundles", () => {
    const old = readFileSync(join(dir, "ca.pem"), "utf8");
    const { fingerprint } = json("rotate", "--ca", dir);
    expect(json("show", "--ca", dir)).toMatchObject({ fingerprint, previous: 1 });
    expect(ca("export", "--ca", dir, "--format", "bundle").out.toString()).toContain(old);
    expect(readdirSync(dir).filter((name) => name.startsWith("ca-previous-"))).toHaveLength(1);
  });

  test("help has examples; a wrong format is wrong usage", () => {
    expect(ca("export", "--help").out.toString()).toContain("sallyport ca export --format bundle");
    expect(ca("export", "--ca", dir, "--format", "jks").err).toMatch(/Allowed choices/);
  });
});
