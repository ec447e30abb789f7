// The house rules as a document: who may import whom, what pure folders may not do, how files are shaped.
// biome.json says the import rules to the editor; this test reads the imports itself and checks that the linter agrees.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");

interface Rule {
  /** Folders of ours. */
  readonly ours: readonly string[];
  /** Packages, by the name in the import. */
  readonly packages: readonly string[];
  /** Modules of Node. `*`: any. */
  readonly node: readonly string[];
}

const PURE_NODE = ["node:crypto", "node:buffer"];
/** The table of CONTRIBUTING.md. */
const TABLE: Readonly<Record<string, Rule>> = {
  shared: { ours: [], packages: [], node: PURE_NODE },
  http: { ours: ["shared"], packages: ["tr46", "ipaddr.js"], node: PURE_NODE },
  policy: {
    ours: ["shared", "http", "filters"],
    packages: ["zod", "micromatch", "re2js", "ipaddr.js", "tr46"],
    node: PURE_NODE,
  },
  filters: { ours: ["shared", "http"], packages: ["zod", "re2js"], node: [...PURE_NODE, "node:string_decoder"] },
  audit: { ours: ["shared", "http", "policy"], packages: ["zod"], node: PURE_NODE },
  exchange: { ours: ["shared", "http", "policy", "audit"], packages: [], node: [...PURE_NODE, "node:stream"] },
  stages: { ours: ["shared", "http", "policy", "filters", "audit", "exchange"], packages: [], node: PURE_NODE },
};
const PURE = Object.keys(TABLE);
const CONFIG_OURS = ["policy", "filters", "http", "shared"];
/** The files of config/ that reach outside, and what they use. */
const LOADING_FILES = ["src/config/load.ts", "src/config/outside.ts"];
const LOADERS = ["node:fs", "node:fs/promises", "node:child_process"];

/** Clocks, dice and the process: a pure folder gets them as arguments. */
const IMPURE =
  /\b(?:Date\.now|new Date\(\)|performance\.now|set(?:Timeout|Interval|Immediate)|Math\.random)\b|\bprocess\./;
/** State machines that would not be easier to read in two files. The list only shrinks. */
const SIZE_EXCEPTIONS: readonly string[] = ["src/exchange/relay.ts", "src/edge/proxy/client-connection.ts"];

const files = readdirSync(join(ROOT, "src"), { recursive: true })
  .map((name) => `src/${String(name).replaceAll("\\", "/")}`)
  .filter((name) => /\.(?:[mc]?ts|[mc]?js)$/.test(name));
const sources = new Map(files.map((file) => [file, readFileSync(join(ROOT, file), "utf8")]));

/** What stands after `from`, in `import "x"` and in `import("x")`. */
function importsOf(text: string): string[] {
  const found = text.matchAll(
    /^(?:import|export)\s(?:[\w$*\s{},]+\sfrom\s+)?["']([^"'\n]+)["'];|\bimport\(\s*["']([^"'\n]+)["']/gm,
  );
  return [...found].map((match) => (match[1] ?? match[2]) as string);
}

/** Code without comments and strings, roughly: enough to look for calls. */
function codeOf(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[^:"'`])\/\/.*$/gm, "$1");
}

const folderOf = (file: string): string => file.split("/")[1] as string;
/** The path in the repository that a relative import of `file` leads to. */
const target = (file: string, specifier: string): string =>
  normalize(join(dirname(file), specifier)).replaceAll("\\", "/");
const packageOf = (specifier: string): string => specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");

/** What is wrong with one import of one file, or null. */
function objection(file: string, specifier: string): string | null {
  const from = folderOf(file);
  if (specifier.startsWith(".")) return objectionToOurs(file, from, target(file, specifier));
  const rule = TABLE[from];
  if (specifier.startsWith("node:")) {
    if (rule && !rule.node.includes(specifier)) return `${from}/ is pure`;
    if (from === "config" && LOADERS.includes(specifier) && !LOADING_FILES.includes(file)) {
      return "files and children are for the loaders";
    }
    return null;
  }
  return rule && !rule.packages.includes(packageOf(specifier)) ? `${from}/ does not use this package` : null;
}

function objectionToOurs(file: string, from: string, to: string): string | null {
  if (!to.startsWith("src/")) return "leads out of src/";
  const folder = folderOf(to);
  if (from === "edge") {
    if (folder === "edge") return to.split("/")[2] === file.split("/")[2] ? null : "an edge imports no other edge";
    return PURE.includes(folder) || folder === "config" ? null : "edges import pure folders";
  }
  if (folder === from) return null;
  if (from === "config") return CONFIG_OURS.includes(folder) ? null : `config/ may import ${CONFIG_OURS.join(", ")}`;
  const rule = TABLE[from];
  return rule && !rule.ours.includes(folder)
    ? `${from}/ may import ${rule.ours.join(", ") || "nothing of ours"}`
    : null;
}

describe("imports", () => {
  test("there are files to check", () => {
    expect(files.length).toBeGreaterThan(20);
  });

  test("follow the table", () => {
    const wrong = [];
    for (const [file, text] of sources) {
      for (const specifier of importsOf(text)) {
        const why = objection(file, specifier);
        if (why !== null) wrong.push(`${file}: ${specifier} (${why})`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test.each([
    ["src/policy/a.ts", "node:fs"],
    ["src/policy/a.ts", "../edge/net/b.ts"],
    ["src/http/a.ts", "../policy/b.ts"],
    ["src/shared/a.ts", "../http/b.ts"],
    ["src/filters/a.ts", "pino"],
    ["src/edge/tls/a.ts", "../audit/b.ts"],
    ["src/edge/tls/a.ts", "../../roles/b.ts"],
    ["src/config/a.ts", "../edge/net/b.ts"],
    ["src/config/schema.ts", "node:fs"],
    ["src/shared/a.ts", "../../test/b.ts"],
  ])("the table says no to %s importing %s", (file, specifier) => {
    expect(objection(file, specifier)).not.toBeNull();
  });

  test.each([
    ["src/policy/a.ts", "../filters/b.ts"],
    ["src/edge/audit/a.ts", "../../audit/b.ts"],
    ["src/edge/tls/a.ts", "node:tls"],
    ["src/config/load.ts", "node:fs/promises"],
    ["src/roles/a.ts", "../edge/net/b.ts"],
  ])("and yes to %s importing %s", (file, specifier) => {
    expect(objection(file, specifier)).toBeNull();
  });

  test("outside the edges, files do not import each other in circles", () => {
    const edges = new Map<string, string[]>();
    for (const [file, text] of sources) {
      if (file.startsWith("src/edge/")) continue;
      // Types are gone at run time: a circle of them does no harm.
      const values = text.replace(/^\s*(?:import|export) type\b[^;]*;/gm, "");
      const next = importsOf(values).filter((specifier) => specifier.startsWith("."));
      edges.set(
        file,
        next.map((specifier) => target(file, specifier)),
      );
    }
    expect(circleIn(edges)).toEqual([]);
  });
});

/** The first circle that a walk finds, or []. */
function circleIn(edges: ReadonlyMap<string, readonly string[]>): string[] {
  const done = new Set<string>();
  const walk = (file: string, path: string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const next of edges.get(file) ?? []) {
      const circle = walk(next, [...path, file]);
      if (circle.length > 0) return circle;
    }
    done.add(file);
    return [];
  };
  for (const file of edges.keys()) {
    const circle = walk(file, []);
    if (circle.length > 0) return circle;
  }
  return [];
}

describe("the linter says the same", () => {
  const probes: readonly (readonly [file: string, text: string, rule: string | null])[] = [
    ["src/policy/a.ts", 'import "node:fs";\n', "noRestrictedImports"],
    ["src/policy/b.ts", 'import "../edge/net/b.ts";\n', "noRestrictedImports"],
    ["src/policy/c.ts", 'import "../filters/b.ts";\n', null],
    ["src/http/a.ts", 'import "../policy/b.ts";\n', "noRestrictedImports"],
    ["src/shared/a.ts", 'import "../http/b.ts";\n', "noRestrictedImports"],
    ["src/stages/a.ts", 'import "node:timers/promises";\n', "noRestrictedImports"],
    ["src/edge/tls/a.ts", 'import "../audit/b.ts";\n', "noRestrictedImports"],
    ["src/edge/tls/b.ts", 'import "../../audit/b.ts";\n', null],
    ["src/edge/tls/c.ts", 'import "../../roles/b.ts";\n', "noRestrictedImports"],
    ["src/config/a.ts", 'import "../edge/net/b.ts";\n', "noRestrictedImports"],
    ["src/config/load.ts", 'import "node:fs";\n', null],
    ["src/edge/net/d.ts", "export default 1;\n", "noDefaultExport"],
    ["src/edge/net/e.ts", "async function f() {}\nf();\n", "noFloatingPromises"],
  ];

  test("about each probe", () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "sallyport-lint-")));
    try {
      copyFileSync(join(ROOT, "biome.json"), join(folder, "biome.json"));
      for (const [file, text] of probes) {
        mkdirSync(join(folder, dirname(file)), { recursive: true });
        writeFileSync(join(folder, file), text);
      }
      const found = lint(folder);
      for (const [file, , rule] of probes) {
        const rules = found.filter((item) => item.file === file).map((item) => item.rule);
        expect({ file, rules }).toEqual({ file, rules: rule === null ? [] : [rule] });
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("and knows every edge folder", () => {
    const config = readFileSync(join(ROOT, "biome.json"), "utf8");
    const edges = new Set(files.filter((file) => file.startsWith("src/edge/")).map((file) => file.split("/")[2]));
    for (const edge of edges) expect(config).toContain(`"src/edge/${edge}/**"`);
  });

  function lint(folder: string): { file: string; rule: string }[] {
    const binary = join(ROOT, "node_modules/@biomejs/biome/bin/biome");
    let out: string;
    try {
      out = execFileSync(process.execPath, [binary, "lint", "--reporter=github", "--max-diagnostics=none", "src"], {
        cwd: folder,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
    } catch (error) {
      out = String((error as { stdout: string }).stdout);
    }
    const lines = out.matchAll(/title=lint\/\w+\/(\w+),file=([^,]+),/g);
    return [...lines].map(([, rule, file]) => ({ file: relative(folder, file as string), rule: rule as string }));
  }
});

describe("shape", () => {
  test("pure folders use no clock, no dice and no process", () => {
    const wrong = [...sources]
      .filter(([file]) => PURE.includes(folderOf(file)))
      .flatMap(([file, text]) => {
        const match = codeOf(text).match(IMPURE);
        return match ? [`${file}: ${match[0]}`] : [];
      });
    expect(wrong).toEqual([]);
  });

  test("no file is called utils, helpers, common or misc", () => {
    expect(files.filter((file) => /(?:^|[/-])(?:utils?|helpers?|common|misc)(?:[/.-]|$)/.test(file))).toEqual([]);
  });

  test("names are kebab-case", () => {
    expect(
      files.filter((file) => !/^src\/(?:[a-z0-9-]+\/)*[a-z0-9]+(?:-[a-z0-9]+)*(?:\.d)?\.[a-z]+$/.test(file)),
    ).toEqual([]);
  });

  test("there are no default exports", () => {
    expect([...sources].filter(([, text]) => /^export default\b/m.test(text)).map(([file]) => file)).toEqual([]);
  });

  // V8 keeps the functions of such a getter in its old generation, and with them all that they see, until it marks the whole:
  // one in an object for each tunnel made all of it outlive its end. A class has its getters once.
  test("no object literal has a getter of its own", () => {
    const wrong = [...sources].filter(([, text]) => /^ {4,}(?:get|set) \w+\(/m.test(codeOf(text)));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  test("no file is over 400 lines", () => {
    const long = [...sources].filter(([, text]) => text.split("\n").length > 401).map(([file]) => file);
    expect(long.filter((file) => !SIZE_EXCEPTIONS.includes(file))).toEqual([]);
  });

  test("each file begins with a comment that says what belongs there", () => {
    const without = [...sources].filter(([, text]) => !/^(?:#!.*\n)?\s*(?:"use strict";\s*)?(?:\/\/|\/\*)/.test(text));
    expect(without.map(([file]) => file)).toEqual([]);
  });
});
