// Files, environment and flags in; a LoadedConfig out, or one error that lists every problem. Nothing is half applied.
import { createHash } from "node:crypto";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compilePolicy } from "../policy/compile.ts";
import type { PolicyDocument } from "../policy/document.ts";
import { Findings, PolicyError } from "../policy/problems.ts";
import { checkAnonymous } from "./anonymous-check.ts";
import { fittingParts } from "./fitting-parts.ts";
import { schemaProblems } from "./issues.ts";
import { ConfigError, type ConfigProblem, type LoadedConfig, type PolicyTest, type Source } from "./loaded.ts";
import { MergedDocument } from "./merge.ts";
import { checkNetwork } from "./network-check.ts";
import { checkOpenProxy } from "./open-proxy-check.ts";
import { type Environment, Outside } from "./outside.ts";
import { putIn } from "./references.ts";
import { Report } from "./report.ts";
import { type ConfigDocument, configSchema, policyPart } from "./schema.ts";
import { readSecrets, SecretValues } from "./secrets.ts";
import { type Flags, finishSettings } from "./settings.ts";
import { readYaml, type YamlSource } from "./yaml-source.ts";

export interface LoadOptions {
  /** Policy files in order; none: SALLYPORT_CONFIG, or the observe.yaml that is shipped. Never a file that merely lies
   * in the working directory: it could name commands to run. */
  readonly files: readonly string[];
  readonly env: Environment;
  readonly flags: Flags;
  /** The folder that relative paths of flags, environment, `data` and `ca` start from. Default: the working directory. */
  readonly cwd?: string;
  /** `placeholder`: secrets that are missing do not matter, and no command is run (explain, test). Default: `resolve`. */
  readonly secrets?: "resolve" | "placeholder";
  /** For the end of report mode. Default: the clock of the machine. */
  readonly now?: () => number;
}

const MOST_FILES = 64;

/** The file that is used when none is named. */
export function defaultFile(env: Environment, cwd: string): string {
  const named = env.SALLYPORT_CONFIG;
  if (named !== undefined && named !== "") return resolve(cwd, named);
  return fileURLToPath(new URL("../../policies/observe.yaml", import.meta.url));
}

/** Loads the configuration. Throws a ConfigError that holds every problem with its place. */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const cwd = options.cwd ?? process.cwd();
  const outside = new Outside(options.env);
  const files = options.files.length > 0 ? options.files.map((f) => resolve(cwd, f)) : [defaultFile(options.env, cwd)];
  const sources = await readSources(files, outside);
  const merged = new MergedDocument(sources);
  const secrets = new SecretValues();
  const report = new Report(merged, secrets);
  report.throwIfAny();
  await warnOfWritable(sources, outside, report);
  const lenient = options.secrets === "placeholder";
  await readSecrets(merged, outside, secrets, lenient, report);
  const tree = await putIn(merged, outside, secrets, lenient, report);
  const assembly = { options, cwd, outside, sources, merged, secrets, report, lenient };
  return assemble(await validate(tree, assembly), assembly);
}

/** The files and what they include, each once, in order. */
async function readSources(files: readonly string[], outside: Outside): Promise<YamlSource[]> {
  const sources: YamlSource[] = [];
  const problems: ConfigProblem[] = [];
  const visit = async (file: string, from: ConfigProblem): Promise<void> => {
    if (sources.some((s) => s.file === file)) {
      problems.push({ ...from, message: `${file} is included twice` });
      return;
    }
    if (sources.length >= MOST_FILES) {
      problems.push({ ...from, message: `more than ${MOST_FILES} files` });
      return;
    }
    try {
      const { text, sha256 } = await outside.file(file);
      const source = readYaml(file, text, sha256);
      sources.push(source);
      const included = source.tree.include;
      for (const [i, name] of (Array.isArray(included) ? included : []).entries()) {
        if (typeof name !== "string") continue;
        await visit(resolve(dirname(file), name), { ...source.locate(["include", i]), message: "" });
      }
    } catch (error) {
      problems.push({ ...from, message: (error as Error).message });
    }
  };
  for (const file of files) await visit(file, { file, line: 1, column: 1, message: "" });
  if (problems.length > 0) throw new ConfigError([...problems, ...sources.flatMap((s) => s.problems)]);
  return sources;
}

/** Whoever writes a policy decides what goes out, and names commands that run as this user. */
async function warnOfWritable(sources: readonly YamlSource[], outside: Outside, report: Report): Promise<void> {
  for (const { file } of sources) {
    const { anybodyWrites } = await outside.file(file);
    if (anybodyWrites)
      report.warnAt(file, `every user of this machine may change this file: run chmod o-w ${basename(file)}`);
  }
}

async function validate(tree: unknown, a: Assembly): Promise<ConfigDocument> {
  const { report } = a;
  const parsed = configSchema.safeParse(tree);
  if (parsed.success) return parsed.data;
  for (const p of schemaProblems(parsed.error.issues, tree)) report.problem(p.path, p.message, p.key);
  await tellMore(tree as Record<string, unknown>, a);
  report.throwIfAny();
  throw parsed.error;
}

/** Problems of those parts that fit the schema, although the document as a whole does not: they are told at once. */
async function tellMore(tree: Record<string, unknown>, a: Assembly): Promise<void> {
  const { document, ruleAt, clients } = fittingParts(tree);
  const findings = new Findings();
  const settings = await finishSettings(document, a, findings);
  const policy = tryCompile({ ...policyPart(document), clients }, "", () => 0, a.secrets, findings);
  checkNetwork(document, settings, policy, findings);
  for (const { path, message } of findings.problems) {
    const [section, index, ...rest] = path;
    const at = section === "rules" ? [section, ruleAt[index as number] as number, ...rest] : path;
    a.report.problem(at, message);
  }
}

interface Assembly {
  readonly options: LoadOptions;
  readonly cwd: string;
  readonly outside: Outside;
  readonly sources: readonly YamlSource[];
  readonly merged: MergedDocument;
  readonly secrets: SecretValues;
  readonly report: Report;
  readonly lenient: boolean;
}

async function assemble(document: ConfigDocument, a: Assembly): Promise<LoadedConfig> {
  const { report, secrets, merged } = a;
  const findings = new Findings();
  secrets.collect(document);
  const settings = await finishSettings(document, a, findings);
  const sources: Source[] = a.sources.map(({ file, sha256 }) => ({ file, sha256 }));
  const now = a.options.now ?? Date.now;
  const policy = tryCompile(policyPart(document), versionOf(sources), now, secrets, findings);
  checkNetwork(document, settings, policy, findings);
  checkAnonymous(settings, policy, findings);
  checkOpenProxy(document, settings, policy, findings, now());
  report.take(findings);
  report.throwIfAny();
  if (policy === null) throw new Error("a policy that does not compile names its problems");
  for (const w of policy.warnings) report.warn(w.path, w.message);
  const tests = document.tests.map(
    (test, i): PolicyTest => ({
      as: test.as ?? null,
      request: test.request,
      expect: test.expect,
      rule: test.rule,
      place: merged.locate(["tests", i]),
    }),
  );
  return Object.freeze({
    ...settings,
    policy,
    tests,
    sources,
    secretValues: secrets.values(),
    secretVariables: secrets.variables(),
    warnings: Object.freeze(report.warnings),
  });
}

function tryCompile(
  document: PolicyDocument,
  version: string,
  now: () => number,
  secrets: SecretValues,
  findings: Findings,
) {
  try {
    return compilePolicy(document, { version, now, secrets: secrets.named() });
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    findings.problems.push(...error.problems);
    return null;
  }
}

const versionOf = (sources: readonly Source[]): string =>
  createHash("sha256")
    .update(sources.map((s) => s.sha256).join("\n"))
    .digest("hex")
    .slice(0, 16);
