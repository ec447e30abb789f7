// The program as a whole: help, wrong usage, exit codes, speed of the start.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { commandList } from "../../src/cli/commands.ts";
import { errorText } from "../../src/cli/output.ts";
import { cli } from "./support/small-house.ts";

const COMMANDS = commandList(() => "").map(([name]) => name);

describe("help", () => {
  test("names every command, on standard output", async () => {
    const { code, stdout } = await cli(["--help"]);
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout.toString()).toMatch(new RegExp(`^  ${name} `, "m"));
  });
  const examples = COMMANDS.map((name) => [name]);
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
    [["mcp", "list"], "not supported in this version"],
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

describe("what the system says is told so that one can act on it", () => {
  const system = (facts: object): string => errorText(Object.assign(new Error("raw"), facts));
  test.each([
    [{ code: "EADDRINUSE", syscall: "listen", address: "127.0.0.1", port: 8080 }, "another program has this port"],
    [{ code: "EACCES", syscall: "listen", address: "0.0.0.0", port: 80 }, "ports below 1024"],
    [{ code: "EADDRNOTAVAIL", syscall: "listen", address: "192.0.2.1", port: 1 }, "does not have this address"],
    [{ code: "EACCES", syscall: "mkdir", path: "/x/journal" }, "/x/journal: permission denied"],
    [{ code: "ENOTDIR", syscall: "mkdir", path: "/x" }, "is a file, not a folder"],
    [{ code: "ENOENT", syscall: "open", path: "/x\u001b[2J" }, "/x\\x1b[2J: there is no such file"],
  ])("%j", (facts, said) => {
    expect(system(facts)).toContain(said);
  });
  test("what it does not know keeps its own words", () => {
    expect(system({ code: "EODD", syscall: "open", path: "/x" })).toBe("raw");
  });

  test("a port that is taken: which, and what to do", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const folder = mkdtempSync(join(tmpdir(), "sallyport-busy-"));
    const at = `127.0.0.1:${(holder.address() as AddressInfo).port}`;
    try {
      const places = ["--data", join(folder, "data"), "--ca", join(folder, "ca"), "--admin", "off"];
      const { code, stderr } = await cli(["start", "--listen", at, ...places]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(`cannot listen at ${at}: another program has`)]);
    } finally {
      holder.close();
      rmSync(folder, { recursive: true });
    }
  });
  test.each([
    [["--listen", "8080"], '--listen: "8080" is not host:port'],
    [["--log-level", "loud"], '--log-level: "loud" is not a log level'],
  ])("a bad %j names the flag", async (args, said) => {
    const { code, stderr } = await cli(["start", ...args]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(said)]);
  });
});
