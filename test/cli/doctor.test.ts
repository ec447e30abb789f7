// The doctor with patients: a healthy house, one that refuses, and none at all.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Step } from "../../src/cli/doctor-hops.ts";
import { explainFailure } from "../../src/cli/doctor-runtimes.ts";
import { cli, openSmallHouse, type SmallHouse } from "./support/small-house.ts";

let house: SmallHouse;
beforeAll(async () => {
  house = await openSmallHouse();
});
afterAll(() => house.close());
const doctor = async (...args: string[]) => {
  const { code, stdout } = await cli(["doctor", "--json", ...args]);
  return { code, ...(JSON.parse(stdout.toString()) as { ok: boolean; steps: Step[] }) };
};

test("everything is well: each runtime found here, and each hop", async () => {
  const { code, ok, steps } = await doctor("--data", house.data, "--as", "patient", "https://well.invalid/");
  expect(steps.filter((s) => s.status !== "ok")).toEqual([]);
  expect([code, ok]).toEqual([0, true]);
  const names = steps.map((s) => s.step);
  for (const step of ["house", "CA", "well.invalid: CONNECT", "well.invalid: TLS", "node fetch: well.invalid"]) {
    expect(names).toContain(step);
  }
  expect(house.seen.filter((s) => s.client === "patient").length).toBeGreaterThan(2);
});
test("a refused tunnel is told from an untrusted CA", async () => {
  const { code, steps } = await doctor("--data", house.data, "https://refused.example/");
  expect(code).toBe(1);
  const curl = steps.find((s) => s.step === "node https: refused.example");
  expect(curl).toMatchObject({ status: "failed", why: expect.stringContaining("the proxy refused the tunnel") });
});
test("-c takes one file, so that the URLs behind it are still URLs", async () => {
  const { steps } = await doctor("--data", house.data, "-c", "policies/observe.yaml", "https://refused.example/");
  expect(steps.map((s) => s.step)).toContain("refused.example: CONNECT");
});
test("a command that it runs does not get the variables that the policy reads secrets from, as under `run`", async () => {
  const file = join(house.folder, "environment.json");
  const code = `require("fs").writeFileSync(${JSON.stringify(file)}, JSON.stringify(process.env))`;
  const env = { SMALL_HOUSE_SECRET: "battery staple", OTHER: "passed on" };
  const ran = await cli(["doctor", "--json", "--data", house.data, "--", process.execPath, "-e", code], { env });
  const seen = JSON.parse(readFileSync(file, "utf8"));
  expect([seen.SMALL_HOUSE_SECRET, seen.OTHER]).toEqual([undefined, "passed on"]);
  expect(seen.HTTPS_PROXY).toMatch(/^http:/);
  expect(ran.stderr).toContain("SMALL_HOUSE_SECRET is not passed on");
  expect(ran.stdout.toString() + ran.stderr).not.toContain("battery staple");
});
test("a house that cannot start: why", async () => {
  const file = join(house.folder, "bad.yaml");
  writeFileSync(file, "nonsense: 1\n");
  const { code, steps } = await doctor("--data", join(house.folder, "other"), "-c", file);
  expect(code).toBe(1);
  expect(steps).toEqual([
    expect.objectContaining({ step: "house", status: "failed", why: expect.stringContaining("bad.yaml") }),
  ]);
});
test("what is not a URL: exit code 2", async () => {
  expect((await cli(["doctor", "--data", house.data, "ftp://x"])).code).toBe(2);
});
test.each([
  ["Proxy tunneling failed: ForbiddenUnable to establish SSL connection.", "the proxy refused the tunnel"],
  [
    'java.io.IOException: Unable to tunnel through proxy. Proxy returns "HTTP/1.1 403 Forbidden (x)" at javax.net.ssl.SSLx',
    "the proxy refused the tunnel",
  ],
  ["curl: (60) SSL certificate problem: unable to get local issuer", "it does not trust the CA"],
  ["PKIX path building failed", "it does not trust the CA"],
  ["curl: (56) CONNECT tunnel failed, response 403", "the proxy refused the tunnel"],
  ["getaddrinfo ENOTFOUND a.example", "it looked the name up itself: it does not use the proxy"],
  ["?", "no response"],
])("%s", (said, why) => {
  expect(explainFailure(said).why).toBe(why);
});
