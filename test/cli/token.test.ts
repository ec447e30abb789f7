// Tokens made and read by the real program.
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { describe, expect, test } from "vitest";
import { durationSeconds } from "../../src/cli/token.ts";
import { cli } from "./support/small-house.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-token-"));
const STRONG = "Vt9mS3xQ7pLzR1aYc8nKfW2uBd6hGj4e";
const keys = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  EdDSA: generateKeyPairSync("ed25519"),
};
for (const [name, pair] of Object.entries(keys)) {
  writeFileSync(join(folder, `${name}.key`), pair.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  writeFileSync(join(folder, `${name}.pub`), pair.publicKey.export({ type: "spki", format: "pem" }));
}
const file = (name: string) => join(folder, name);
const env = { S: STRONG, OTHER: `${STRONG}x`, WEAK: "secret" };
const token = async (...args: string[]) => {
  const { code, stdout, stderr } = await cli(["token", "create", "--sub", "admin", ...args], { env });
  return { code, text: stdout.toString().trim(), stderr };
};
const inspect = async (text: string, ...args: string[]) => {
  const { code, stdout, stderr } = await cli(["token", "inspect", text, ...args], { env });
  return { code, out: stdout.toString(), stderr };
};

describe("create and inspect", () => {
  test("HS256: subject, scope, times; a good one is good", async () => {
    const { code, text, stderr } = await token("--secret-env", "S", "--scope", "a", "b", "--exp", "10080");
    expect([code, stderr]).toEqual([0, ""]);
    expect(decodeProtectedHeader(text)).toEqual({ alg: "HS256", typ: "JWT" });
    const claims = decodeJwt(text);
    expect(claims).toMatchObject({ sub: "admin", scope: "a b" });
    expect((claims.exp as number) - (claims.iat as number)).toBe(7 * 86_400);
    expect((await inspect(text, "--secret-env", "S")).code).toBe(0);
    const wrong = await inspect(text, "--secret-env", "OTHER");
    expect([wrong.code, wrong.out]).toEqual([1, expect.stringContaining("signature does not fit")]);
  });
  test.each(["RS256", "ES256", "EdDSA"])("%s by key", async (alg) => {
    const { text } = await token("--key", file(`${alg}.key`));
    expect(decodeProtectedHeader(text).alg).toBe(alg);
    expect((await inspect(text, "--key", file(`${alg}.pub`))).code).toBe(0);
  });
  test("a token whose algorithm does not fit the key is not good", async () => {
    const { text } = await token("--secret-env", "S");
    const { code, out } = await inspect(text, "--key", file("RS256.pub"));
    expect([code, out]).toEqual([1, expect.stringContaining("RS256")]);
  });
  test("issuer and audience are compared when asked for", async () => {
    const { text } = await token("--secret-env", "S", "--iss", "me", "--aud", "proxy");
    expect((await inspect(text, "--secret-env", "S", "--iss", "me", "--aud", "proxy")).code).toBe(0);
    expect((await inspect("--aud", "other", "--aud", "proxy", text, "--secret-env", "S")).code).toBe(0);
    expect((await inspect(text, "--secret-env", "S", "--aud", "other")).code).toBe(1);
  });
  test("an expired one, also without a key; as JSON", async () => {
    const past = `${Buffer.from('{"alg":"HS256"}').toString("base64url")}.${Buffer.from('{"exp":1}').toString("base64url")}.AA`;
    const { code, out } = await inspect(past, "--json");
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ verified: false, problems: [expect.stringContaining("1970-01-01")] });
  });
  test("control characters of a token do not reach the terminal", async () => {
    const evil = `${Buffer.from('{"alg":"HS256"}').toString("base64url")}.${Buffer.from('{"exp":9999999999,"a":"\\u001b[2J\\u202e"}').toString("base64url")}.AA`;
    const { out } = await inspect(evil);
    expect(out).not.toContain("\u001b");
    expect(out).not.toContain("\u202e");
  });
  test("a weak secret is signed with, and warned about, without showing it", async () => {
    const { code, stderr } = await token("--secret-env", "WEAK");
    expect(code).toBe(0);
    expect(stderr).toContain("weak");
    expect(stderr).not.toContain("secret\n");
  });
});

describe("wrong usage: exit code 2", () => {
  test.each([
    ["no key", []],
    ["two keys", ["--secret", "x", "--key", file("RS256.key")]],
    ["an unset variable", ["--secret-env", "NOT_SET"]],
    ["a public key to sign with", ["--key", file("RS256.pub")]],
    ["a file that is not there", ["--key", file("none")]],
    ["an algorithm that does not fit", ["--key", file("ES256.key"), "--alg", "RS256"]],
    ["an unknown algorithm", ["--secret-env", "S", "--alg", "none"]],
    ["a duration that is none", ["--secret-env", "S", "--exp", "soon"]],
  ])("%s", async (_name, args) => {
    const { code, text, stderr } = await token(...args);
    expect([code, text]).toEqual([2, ""]);
    expect(stderr).not.toBe("");
  });
});

test.each([
  ["5", 300],
  ["30s", 30],
  ["10m", 600],
  ["12h", 43_200],
  ["7d", 604_800],
  ["2w", 1_209_600],
])("--exp %s is %i seconds", (text, seconds) => {
  expect(durationSeconds(text)).toBe(seconds);
});
test.each(["", "0", "-1", "1.5h", "7 d", "d"])("--exp %j is refused", (text) => {
  expect(() => durationSeconds(text)).toThrow("is not a duration");
});
