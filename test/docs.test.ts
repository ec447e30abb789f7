// The documents say what the code does: generated ones are up to date, links lead somewhere, lists are complete.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { generatedDocs } from "../scripts/generated-docs.ts";
import { commandList } from "../src/cli/commands.ts";
import { loadConfig } from "../src/config/load.ts";
import { runTests } from "../src/config/run-tests.ts";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const documents = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...readdirSync(join(ROOT, "docs"), { recursive: true })
    .map((name) => `docs/${String(name).replaceAll("\\", "/")}`)
    .filter((name) => name.endsWith(".md")),
];

test("generated documents are up to date (npm run docs)", async () => {
  for (const [path, text] of Object.entries(await generatedDocs()))
    expect({ path, text: read(path) }).toEqual({ path, text });
});

describe.each(documents)("%s", (path) => {
  test("links lead to files that are there", () => {
    const links = [...read(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)/g)].map(
      (m) => m[1] as string,
    );
    expect(links.filter((link) => !existsSync(join(ROOT, dirname(path), link)))).toEqual([]);
  });

  test("paths of the source that it names are there", () => {
    const named = [...read(path).matchAll(/`((?:src|scripts|policies|docs|test)\/[\w./-]+)`/g)].map(
      (m) => m[1] as string,
    );
    const examples = named.filter((name) => !/my-/.test(name));
    expect(examples.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  });
});

test("every dependency has its line in docs/dependencies.md, and no line is left over", () => {
  const { dependencies, devDependencies } = JSON.parse(read("package.json")) as Record<string, Record<string, string>>;
  const [own = "", development = ""] = read("docs/dependencies.md").split("For development only:");
  const listed = (text: string) => [...text.matchAll(/^\| ([@\w][^ |]*) \| (?!why)\S/gm)].map((m) => m[1]).sort();
  expect(listed(own)).toEqual(Object.keys(dependencies ?? {}).sort());
  expect(listed(development)).toEqual(Object.keys(devDependencies ?? {}).sort());
});

test("the lock file names no registry but npm's, and each package has its digest", () => {
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { resolved?: string; integrity?: string; link?: boolean }>;
  };
  for (const [path, { resolved, integrity, link }] of Object.entries(packages)) {
    if (path === "" || link) continue;
    if (resolved !== undefined) expect(resolved).toMatch(/^https:\/\/registry\.npmjs\.org\//);
    expect({ path, integrity }).toEqual({ path, integrity: expect.stringMatching(/^sha512-/) });
  }
});

test("versions of dependencies are exact, and only approved install steps run", () => {
  const manifest = JSON.parse(read("package.json"));
  const versions = Object.values({ ...manifest.dependencies, ...manifest.devDependencies });
  for (const version of versions) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  const approved = Object.keys(manifest.allowScripts).filter((name) => manifest.allowScripts[name] === true);
  expect(approved).toEqual(["better-sqlite3"]);
});

test("the README begins with the two commands, and they are there", () => {
  const commands = [...read("README.md").matchAll(/^\$ (npm \w+)/gm)].map((m) => m[1]);
  expect(commands.slice(0, 2)).toEqual(["npm start", "npm test"]);
  expect(JSON.parse(read("package.json")).scripts).toMatchObject({
    start: expect.any(String),
    test: expect.any(String),
  });
});

test("there are nine invariants", () => {
  expect(read("docs/invariants.md").match(/^\d\. /gm)).toEqual(Array.from({ length: 9 }, (_, i) => `${i + 1}. `));
});

const commandNames = commandList(() => "").map(([name]) => name);

describe.each(documents)("%s, tried", (path) => {
  const text = read(path);

  test("the policies in it are good, and pass their own tests", async () => {
    const blocks = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map((m) => m[1] as string);
    for (const block of blocks.filter((b) => /^version:/m.test(b))) {
      const folder = mkdtempSync(join(tmpdir(), "sallyport-docs-"));
      try {
        writeFileSync(join(folder, "p.yaml"), block);
        const config = await loadConfig({ files: ["p.yaml"], cwd: folder, env: {}, flags: {}, secrets: "placeholder" });
        expect(config.warnings).toEqual([]);
        expect(runTests(config).filter((r) => !r.passed)).toEqual([]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    }
  });

  test("the commands and options in it exist", async () => {
    const calls = [...text.matchAll(/(?:`|\$ |^)(?:npx )?sallyport ([a-z][^`\n#]*)/gm)].map((m) => m[1] as string);
    const wrong = [];
    for (const call of calls) {
      const why = await objection(call.split(/ -- | \| | > |[;)"]/)[0] as string);
      if (why !== null) wrong.push(`${call}: ${why}`);
    }
    expect(wrong).toEqual([]);
  });

  test("the npm scripts in it exist", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const named = [...text.matchAll(/npm run ([\w:-]+)/g)].map((m) => m[1] as string);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });
});

/** Why a call of ours in a document cannot be right, or null. Arguments are not looked at. */
async function objection(call: string): Promise<string | null> {
  const [name = "", second = "", ...rest] = call.split(/\s+/);
  const entry = commandList(() => "").find(([known]) => known === name);
  if (entry === undefined) return name === "COMMAND" ? null : `no command ${name}`;
  const command = await entry[2]();
  const sub = command.commands.find((c) => c.name() === second);
  if (command.commands.length > 0 && sub === undefined && /^[a-z]/.test(second)) return `no ${name} ${second}`;
  const known = (sub ?? command).options.flatMap((o) => [o.short, o.long]);
  const flags = [second, ...rest].filter((word) => /^--?[a-z]/.test(word) && word !== "--help");
  const odd = flags.find((flag) => !known.includes(flag.replace(/[.,]$/, "")));
  return odd === undefined ? null : `no option ${odd}`;
}

test("every command is in the README or the list of commands, and the objections can object", async () => {
  for (const name of commandNames) expect(read("docs/commands.md")).toContain(`## sallyport ${name}\n`);
  expect(await objection("audit qurey --since 1h")).toBe("no audit qurey");
  expect(await objection("audit query --sinse 1h")).toBe("no option --sinse");
  expect(await objection("strat")).toBe("no command strat");
});

test("the decisions are all in their list", () => {
  const files = readdirSync(join(ROOT, "docs/decisions")).filter((name) => /^\d{4}-/.test(name));
  const listed = [...read("docs/decisions/README.md").matchAll(/\]\((\d{4}-[^)]+)\)/g)].map((m) => m[1]);
  expect(listed).toEqual(files.sort());
});

test("the stages are told in their order", () => {
  const text = read("src/stages/index.ts");
  const list = text.slice(text.indexOf("=> ["));
  const names = [...list.matchAll(/^ {2}(\w+)/gm)].map((m) => m[1] as string);
  const [, told = ""] = /in the order of the list: (.*?)\./.exec(read("docs/life-of-a-request.md")) ?? [];
  expect([...told.matchAll(/`(\w+)`/g)].map((m) => m[1])).toEqual(names);
});
