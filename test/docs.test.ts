// The documents say what the code does: generated ones are up to date, links lead somewhere, lists are complete.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { generatedDocs } from "../scripts/generated-docs.ts";

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
