import { execFile } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");
const policies = join(root, "policies");

/** Runs the command in a process of its own, as `main` does: exit code, output, errors. */
function policy(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const script = `
    import { policyCommand } from ${JSON.stringify(join(root, "src/cli/policy.ts"))};
    policyCommand().parseAsync(process.argv.slice(1), { from: "user" }).catch((e) => {
      console.error(e.message);
      process.exitCode = e.code;
    });`;
  return new Promise((resolve) => {
    const argv = ["--import", "tsx", "--input-type=module", "-e", script, "--", ...args];
    execFile(
      process.execPath,
      argv,
      { cwd: root, env: { PATH: process.env.PATH, NO_COLOR: "1" } },
      (error, out, err) => {
        resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err });
      },
    );
  });
}

describe("policy", () => {
  it("check: 0 and a summary, or 2 and every problem", async () => {
    const good = await policy("check", join(policies, "strict.yaml"));
    expect(good).toMatchObject({ code: 0 });
    expect(good.out).toMatch(/1 rule, default deny.*\n.*443 for https and 80 for http/);
    const file = join(mkdtempSync(join(tmpdir(), "sallyport-cli-")), "p.yaml");
    writeFileSync(file, "version: 1\nrulez: 1\nrules: [{ id: r }]\n");
    const bad = await policy("check", file, "--json");
    expect(bad.code).toBe(2);
    expect(JSON.parse(bad.out)).toMatchObject({ ok: false, problems: [{ line: 2, column: 1 }, { line: 3 }] });
  });
  it("explain: 0 for allow, 1 for deny, 2 for what cannot be asked", async () => {
    const c = ["-c", join(policies, "examples/mcp-server.yaml")];
    const yes = await policy(
      "explain",
      "GET",
      "https://api.github.com/repos/a/b",
      "--as",
      "github-mcp",
      "--json",
      ...c,
    );
    expect(yes.code).toBe(0);
    expect(JSON.parse(yes.out)).toMatchObject({ outcome: "allow", rule: "github-read" });
    const no = await policy("explain", ...c, "DELETE", "https://api.github.com/repos/a/b", "--as", "github-mcp");
    expect(no.code).toBe(1);
    expect(no.out).toMatch(/no rule allows DELETE/);
    const observe = ["-c", join(policies, "observe.yaml")];
    for (const asked of [
      ["GET", "http://169.254.169.254/"],
      ["CONNECT", "169.254.169.254:443"],
    ]) {
      const closed = await policy("explain", ...asked, ...observe);
      expect(closed.code).toBe(1);
      expect(closed.out).toMatch(/169\.254\.169\.254 is metadata/);
    }
    const wrong = await policy("explain", "GET", "api.github.com", ...c);
    expect(wrong).toMatchObject({ code: 2 });
    const lower = await policy("explain", "get", "https://api.github.com/", ...c);
    expect(lower).toMatchObject({ code: 2 });
    expect(lower.err).toContain("did you mean GET?");
    const nobody = await policy("explain", "GET", "https://a.example/", "--as", "nobody", ...c);
    expect(nobody.err).toMatch(/no client is called nobody \(github-mcp\)/);
  });
  it("test: 0 when all pass, 1 and the place when not", async () => {
    expect(await policy("test", join(policies, "examples/company.yaml"))).toMatchObject({
      code: 0,
      out: "6 of 6 tests passed\n",
    });
    const file = join(mkdtempSync(join(tmpdir(), "sallyport-cli-")), "p.yaml");
    writeFileSync(file, "version: 1\ntests:\n  - { request: GET https://a.example/, expect: allow }\n");
    const failed = await policy("test", file);
    expect(failed.code).toBe(1);
    expect(failed.out).toMatch(
      /p\.yaml:3:5: failed: GET https:\/\/a\.example\/: expected allow, got deny by the default/,
    );
  });
  it("schema: prints it", async () => {
    const { out, code } = await policy("schema");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ title: "Sallyport policy file", type: "object" });
  });
});
