// Configurations of MCP clients, rewritten and restored by the real program.
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { rewriteFile } from "../../src/cli/rewrite-file.ts";
import { cli, REPOSITORY } from "./support/small-house.ts";

const CLAUDE = `{
  "theme": "dark",
  "mcpServers": {
    "github": { "command": "npx", "args": ["-y", "server-github", "--", "x"], "env": { "T": "1" } },
    "bare": { "command": "/usr/bin/server" },
    "remote": { "url": "https://mcp.example/mcp" }
  }
}
`;
const VSCODE = `{
	// my servers
	"mcp": {
		"inputs": [],
		"servers": {
			"one": { "type": "stdio", "command": "one", "args": ["a b"], }, // the first
			"two": { "type": "http", "url": "https://x.example" },
		},
	},
}
`;
let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-wrap-"));
  file = join(folder, "config.json");
});
const put = (text: string) => writeFileSync(file, text, { mode: 0o600 });
const text = () => readFileSync(file, "utf8");
const wrap = (...more: string[]) => cli(["wrap-config", file, "--data", join(folder, "data"), ...more]);
const backups = () => readdirSync(folder).filter((n) => n.endsWith(".bak"));

describe("wrap-config", () => {
  test("shows what would change and writes nothing", async () => {
    put(CLAUDE);
    const { code, stdout, stderr } = await wrap();
    expect(code).toBe(0);
    expect(stdout.toString()).toMatch(/^-.*npx/m);
    expect(stdout.toString()).toMatch(/^\+.*"--as"/m);
    expect(stderr).toContain("remote");
    expect([text(), backups()]).toEqual([CLAUDE, []]);
  });
  test("-c before the file: each names one policy, absolute afterwards", async () => {
    put(CLAUDE);
    const policies = ["policies/observe.yaml", "policies/strict.yaml"];
    await cli(["wrap-config", ...policies.flatMap((p) => ["-c", p]), "--write", file]);
    const { args } = JSON.parse(text()).mcpServers.github;
    for (const p of policies) expect(args[args.indexOf(join(REPOSITORY, p)) - 1]).toBe("-c");
  });
  test("--write: absolute, complete, with a backup, and as private as before", async () => {
    put(CLAUDE);
    await wrap("--write");
    const { mcpServers, theme } = JSON.parse(text());
    const { command, args, env } = mcpServers.github;
    expect(command).toBe(process.execPath);
    expect(args).toContain(join(folder, "data"));
    expect(args.slice(args.indexOf("--as"))).toEqual(["--as", "github", "--", "npx", "-y", "server-github", "--", "x"]);
    expect(mcpServers.bare.args.slice(-4)).toEqual(["--as", "bare", "--", "/usr/bin/server"]);
    expect([theme, env, mcpServers.remote]).toEqual(["dark", { T: "1" }, { url: "https://mcp.example/mcp" }]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder, backups()[0] as string), "utf8")).toBe(CLAUDE);
  });
  test("a second time changes nothing", async () => {
    put(CLAUDE);
    await wrap("--write");
    const once = text();
    const { stderr } = await wrap("--write");
    expect(text()).toBe(once);
    expect(stderr).toContain("nothing to change");
    expect(backups().length).toBe(1);
  });
  test("--unwrap restores what was there", async () => {
    put(CLAUDE);
    await wrap("--write");
    await wrap("--unwrap", "--write");
    const restored = JSON.parse(text());
    const original = JSON.parse(CLAUDE);
    original.mcpServers.bare.args = [];
    expect(restored).toEqual(original);
  });
  test("comments, trailing commas and tabs of a VS Code file stay", async () => {
    put(VSCODE);
    const { stderr } = await wrap("--write");
    expect(text()).toContain("// my servers");
    expect(text()).toContain("}, // the first");
    expect(text()).toContain('"--as",\n');
    expect(text()).toContain('"two": { "type": "http", "url": "https://x.example" },');
    expect(stderr).toContain("two");
  });
  test("what a wrapped server gets is what the original command line was", async () => {
    put(VSCODE);
    const { stdout } = await wrap("--json");
    expect(JSON.parse(stdout.toString())).toEqual([
      { server: "one", result: "wrapped" },
      { server: "two", result: "url" },
    ]);
  });
  test.each([
    ["not JSON", "{ nonsense"],
    ["no servers", "{}"],
  ])("%s: exit code 2, file untouched", async (_name, content) => {
    put(content);
    expect((await wrap("--write")).code).toBe(2);
    expect(text()).toBe(content);
  });
  test("a BOM, CRLF and comments stay", async () => {
    put(`\ufeff${VSCODE.replaceAll("\n", "\r\n")}`);
    expect((await wrap("--write")).code).toBe(0);
    expect(text()).toMatch(/^\ufeff\{\r\n\t\/\/ my servers\r\n/);
    expect(text().replaceAll("\r\n", "")).not.toMatch(/[\r\n]/);
    expect(text()).toContain('"--as",');
  });
  test("through a symbolic link the file is written, and the link stays", async () => {
    const link = file;
    file = join(folder, "real.json");
    put(CLAUDE);
    symlinkSync("real.json", link);
    const { code } = await cli(["wrap-config", link, "--data", join(folder, "data"), "--write"]);
    expect([code, readlinkSync(link)]).toEqual([0, "real.json"]);
    expect(text()).toContain('"--as"');
    expect(backups()).toEqual([expect.stringMatching(/^real\.json\./)]);
  });
  test("mode and owner stay, whatever the umask", async () => {
    put(CLAUDE);
    chmodSync(file, 0o664);
    if (process.getuid?.() === 0) chownSync(file, 65534, 65533);
    const before = statSync(file);
    expect((await wrap("--write")).code).toBe(0);
    for (const name of ["config.json", ...backups()]) {
      const { mode, uid, gid } = statSync(join(folder, name));
      expect([name, mode, uid, gid]).toEqual([name, before.mode, before.uid, before.gid]);
    }
  });
  test.each<[string, Buffer, RegExp]>([
    ["UTF-16", Buffer.from("\ufeff{}", "utf16le"), /config\.json is not UTF-8/],
    ["bytes that are no text", Buffer.concat([Buffer.from(CLAUDE), Buffer.of(0xff)]), /config\.json is not UTF-8/],
  ])("%s: exit code 2, file untouched", async (_name, bytes, wanted) => {
    writeFileSync(file, bytes);
    const { code, stderr } = await wrap("--write");
    expect([code, readFileSync(file)]).toEqual([2, bytes]);
    expect(stderr).toMatch(wanted);
  });
  test("a file that is read-only is not changed, and nothing is left beside it", async () => {
    put(CLAUDE);
    chmodSync(file, 0o444);
    const { code, stderr } = await wrap("--write");
    expect([code, text(), readdirSync(folder)]).toEqual([2, CLAUDE, ["config.json"]]);
    expect(stderr).toContain("config.json is read-only: chmod u+w");
  });
  test("what somebody else wrote meanwhile is kept", () => {
    put(CLAUDE);
    const read = Buffer.from(CLAUDE.replace("dark", "light"));
    expect(() => rewriteFile(file, read, "{}")).toThrow(/was changed meanwhile/);
    expect([text(), readdirSync(folder)]).toEqual([CLAUDE, ["config.json"]]);
  });
  test("a folder in the place of the file: exit code 2", async () => {
    mkdirSync(file);
    const { code, stderr } = await wrap();
    expect([code, stderr]).toEqual([2, expect.stringMatching(/config\.json: it is a folder/)]);
  });
  test("a file that is not there: exit code 2", async () => {
    expect((await wrap()).code).toBe(2);
  });
});
