// The printed variables, read back by the shells that they are for.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHILD_VARIABLES, childVariables } from "../../src/cli/child-environment.ts";
import { assignment } from "../../src/cli/env.ts";
import { cleanEnvironment, cli, openSmallHouse, type SmallHouse } from "./support/small-house.ts";

let house: SmallHouse;
beforeAll(async () => {
  house = await openSmallHouse();
});
afterAll(() => house.close());
const print = async (...args: string[]) => (await cli(["env", "--data", house.data, ...args])).stdout.toString();

describe("env", () => {
  test("sh reads what --json says, all of the table", async () => {
    const wanted = JSON.parse(await print("--json")) as Record<string, string>;
    expect(Object.keys(wanted)).toEqual(CHILD_VARIABLES.map(([name]) => name));
    const script = `${await print()}\nenv -0`;
    const said = execFileSync("sh", ["-c", script], { env: cleanEnvironment() }).toString().split("\0");
    for (const [name, value] of Object.entries(wanted)) expect(said).toContain(`${name}=${value}`);
  });
  test("curl goes through the proxy with them", async () => {
    const script = `eval "$1"; curl -sS https://from-env.example/y`;
    const { stdout } = await cli(["run", "--data", house.data, "--", "sh", "-c", script, "sh", await print()]);
    expect(stdout.toString()).toBe("answered GET from-env.example /y for null");
  });
  test("the Java trust store holds every certificate of the bundle", async () => {
    const variables = JSON.parse(await print("--json")) as Record<string, string>;
    const bundle = readFileSync(variables.SSL_CERT_FILE as string, "utf8");
    const store = readFileSync(join(house.data, "trust", "java.jks"));
    expect(store.readUInt32BE(0)).toBe(0xfeedfeed);
    expect(store.readUInt32BE(8)).toBe(bundle.split("BEGIN CERTIFICATE").length - 1);
  });
  test("without a house: exit code 1, and what to do", async () => {
    const { code, stdout, stderr } = await cli(["env", "--data", join(house.folder, "nowhere")]);
    expect([code, stdout.toString()]).toEqual([1, ""]);
    expect(stderr).toContain("sallyport start");
    expect(existsSync(join(house.folder, "nowhere"))).toBe(false);
  });
});

test("a proxy port that wants TLS is named with https", () => {
  const files = { ca: "/a", bundle: "/b", java: "/c", wgetrc: "/d", preload: "/e" };
  const settings = { proxy: { host: "::1", port: 8443, tls: true }, noProxy: [], files };
  expect(childVariables(settings, {}).find(([name]) => name === "HTTPS_PROXY")).toEqual([
    "HTTPS_PROXY",
    "https://[::1]:8443",
  ]);
});

test.each([
  ["sh", "export A='it'\\''s $x'"],
  ["fish", "set -gx A 'it\\'s $x'"],
  ["powershell", "$env:A = 'it''s $x'"],
  ["dotenv", 'A="it\'s $x"'],
  ["docker", "A=it's $x"],
] as const)("%s: %s", (shell, text) => {
  expect(assignment(shell, "A", "it's $x")).toBe(text);
});
