// The real house, started as people start it: banner, notices, errors, signals, and a house for children alone.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { joinHouse } from "../../src/roles/control.ts";
import { cli, startCli } from "./support/small-house.ts";

let folder: string;
let places: string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-start-"));
  places = ["--data", join(folder, "data"), "--ca", join(folder, "certs")];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function started(env: NodeJS.ProcessEnv = {}, more: readonly string[] = []) {
  const child = startCli(["start", ...places, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", ...more], env);
  let out = "";
  let err = "";
  child.stdout.on("data", (b) => {
    out += b;
  });
  child.stderr.on("data", (b) => {
    err += b;
  });
  await expect.poll(() => out).toMatch(/\n {2}try .*\n/);
  return { child, out: () => out, err: () => err };
}

describe("start", () => {
  test("says where everything is; SIGTERM ends it with 0", async () => {
    const { child, out } = await started();
    for (const word of ["proxy", "admin", "policy", "CA", "audit", "roots"])
      expect(out()).toMatch(new RegExp(`^ {2}${word} `, "m"));
    expect(out()).toMatch(/SHA-256 (?:[0-9A-F]{2}:){31}[0-9A-F]{2}/);
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(0);
    expect(await joinHouse(join(folder, "data"))).toBeNull();
  });
  test("proxy variables in its environment are ignored, with a notice", async () => {
    const { child, err } = await started({ https_proxy: "http://127.0.0.1:9", NO_PROXY: "*" });
    expect(err()).toContain("NO_PROXY, https_proxy in the environment ignored");
    child.kill("SIGINT");
    expect((await once(child, "exit"))[0]).toBe(0);
  });
  test("an open proxy is warned of, in the banner and in the log, also where a reload made it one", async () => {
    const file = join(folder, "p.yaml");
    writeFileSync(file, "version: 1\ndefaults: { action: allow }\n");
    const { child, out, err } = await started({}, ["-c", file, "--listen", "0.0.0.0:0"]);
    const place = `${file}:2:21: an open proxy: it listens at 0.0.0.0:0`;
    expect(out()).toContain(`\n  warning  ${place}`);
    const logged = () =>
      err()
        .split("\n")
        .filter((l) => l.includes('"level":40') && l.includes("an open proxy"));
    await expect.poll(logged).toEqual([expect.stringContaining(place)]);
    writeFileSync(file, "version: 1\ndefaults: { action: deny }\n");
    await expect.poll(err, { timeout: 10_000 }).toContain("the policy is in force");
    expect(logged()).toHaveLength(1);
    writeFileSync(file, "version: 1\n\ndefaults: { action: allow }\n");
    await expect.poll(logged, { timeout: 10_000 }).toHaveLength(2);
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(0);
  });
  test("a bad configuration: every problem, exit code 2", async () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "version: 1\nnonsense: 1\nserver: { listne: x }\n");
    const { code, stdout, stderr } = await cli(["start", ...places, "-c", file]);
    expect([code, stdout.toString()]).toEqual([2, ""]);
    expect(stderr).toContain("bad.yaml:2:1");
    expect(stderr).toContain("bad.yaml:3:");
  });
});

describe("run without a house", () => {
  test("starts one, which two children share, and which ends after them", async () => {
    const curl = "curl -sS -o /dev/null -w '%{http_code}' https://nothing.invalid/";
    const both = [0.2, 1.5].map((s) => cli(["run", ...places, "--", "sh", "-c", `sleep ${s}; ${curl}`]));
    for (const { code, stdout } of await Promise.all(both)) {
      expect([code, stdout.toString()]).toEqual([0, expect.stringMatching(/^50[24]$/)]);
    }
    await expect.poll(() => joinHouse(join(folder, "data"))).toBeNull();
  });
  test("says what is wrong with the policy file, exit code 2", async () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "version: 1\nnonsense: 1\n");
    const { code, stdout, stderr } = await cli(["run", ...places, "-c", file, "--", "echo", "x"]);
    expect([code, stdout.toString()]).toEqual([2, ""]);
    expect(stderr).toContain("bad.yaml:2:1");
  });
});
