// The program as a whole: help, wrong usage, exit codes, speed of the start.
import { describe, expect, test } from "vitest";
import { cli } from "./support/small-house.ts";

const COMMANDS = ["start", "run", "env", "wrap-config", "ca", "policy", "audit", "token", "doctor"];

describe("help", () => {
  test("names every command, on standard output", async () => {
    const { code, stdout } = await cli(["--help"]);
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout.toString()).toMatch(new RegExp(`^  ${name} `, "m"));
  });
  const examples = COMMANDS.map((name) => (name === "policy" ? ["policy", "check"] : [name]));
  test.each(examples.map((words) => [words.join(" "), words] as const))(
    "of %s has an example",
    async (_name, words) => {
      const { code, stdout } = await cli([...words, "--help"]);
      expect(code).toBe(0);
      expect(stdout.toString()).toMatch(/Examples?:/);
    },
  );
  test("without a command: wrong usage, help on standard error", async () => {
    const { code, stdout, stderr } = await cli([]);
    expect([code, stdout.toString()]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: sallyport");
  });
  test("the version", async () => {
    expect((await cli(["--version"])).stdout.toString()).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("wrong usage: exit code 2, and why on standard error", () => {
  test.each([
    [["strat"], "did you mean `sallyport start`"],
    [["polcy", "check"], "did you mean `sallyport policy`"],
    [["xyzzyplugh"], "--help"],
    [["start", "--bogus"], "unknown option"],
    [["run"], "missing required argument"],
    [["env", "--shell", "tcl"], "Allowed choices"],
    [["token"], "sallyport token"],
  ])("%j", async (args, why) => {
    const { code, stdout, stderr } = await cli(args);
    expect([code, stdout.toString()]).toEqual([2, ""]);
    expect(stderr).toContain(why);
  });
});
