// `sallyport policy check|explain|test|schema`: what a policy file says, before it decides anything.
import { METHODS } from "node:http";
import { Command } from "commander";
import { policyJsonSchema } from "../config/describe.ts";
import { loadConfig } from "../config/load.ts";
import { ConfigError, type ConfigProblem, type LoadedConfig, problemText } from "../config/loaded.ts";
import { factsOf, runTests } from "../config/run-tests.ts";
import { compileNetwork } from "../policy/addresses.ts";
import { explainRequest, withAddresses } from "../policy/explain.ts";
import { CommandError, colours, EXIT, print, printJson, safeText } from "./output.ts";
import { configOption } from "./places.ts";

interface Options {
  readonly json?: boolean;
  readonly config?: string[];
  readonly as?: string;
}

/** The command `policy`. Its parts set `process.exitCode` (0 yes, 1 no) or throw a CommandError (2). */
export function policyCommand(): Command {
  const command = new Command("policy").description("check, explain and test policy files");
  command.addCommand(checkCommand()).addCommand(explainCommand()).addCommand(testCommand()).addCommand(schemaCommand());
  return command.addHelpText(
    "after",
    "\nExamples:\n  sallyport policy check my.yaml\n  sallyport policy explain GET https://example.com/ -c my.yaml\n  sallyport policy test my.yaml",
  );
}

const checkCommand = (): Command =>
  new Command("check")
    .description("every problem at once, each with its place; then what is probably not meant")
    .argument("<file...>", "policy files, in order")
    .option("--json", "print data")
    .addHelpText("after", "\nExample:\n  sallyport policy check policies/strict.yaml")
    .action((files: string[], options: Options) => check(files, options));

const explainCommand = (): Command =>
  new Command("explain")
    .description("the decision, the rule, and why each other rule did not apply")
    .argument("<method>", "such as GET; case matters")
    .argument("<url>", "http:// or https://; host:port for CONNECT")
    .addOption(configOption("policy file (SALLYPORT_CONFIG; default: policies/observe.yaml)"))
    .option("--as <client>", "the client that asks; default: an anonymous one")
    .option("--json", "print data")
    .addHelpText(
      "after",
      "\nExample:\n  sallyport policy explain DELETE https://api.github.com/repos/a/b -c policies/examples/mcp-server.yaml",
    )
    .action((method: string, url: string, options: Options) => explain(method, url, options));

const testCommand = (): Command =>
  new Command("test")
    .description("run the tests in policy files")
    .argument("<file...>", "policy files, in order")
    .option("--json", "print data")
    .addHelpText("after", "\nExample:\n  sallyport policy test policies/examples/company.yaml")
    .action((files: string[], options: Options) => test(files, options));

const schemaCommand = (): Command =>
  new Command("schema")
    .description("print the JSON Schema of policy files, for editors")
    .option("--json", "print data (it always is)")
    .addHelpText("after", "\nExample:\n  sallyport policy schema > policy.schema.json")
    .action(() => printJson(policyJsonSchema()));

async function check(files: readonly string[], options: Options): Promise<void> {
  const result = await attempt(files, "resolve");
  if (options.json) {
    printJson({ ok: result.config !== null, problems: result.problems, warnings: result.config?.warnings ?? [] });
  } else {
    for (const p of result.problems) print(line(p, colours.red("error")));
    for (const w of result.config?.warnings ?? []) print(line(w, colours.yellow("warning")));
    print(result.config === null ? countText(result.problems.length) : goodText(result.config));
  }
  process.exitCode = result.config === null ? EXIT.usage : EXIT.done;
}

const line = (p: ConfigProblem, kind: string): string =>
  `${safeText(`${p.file}:${p.line}:${p.column}`)}: ${kind}: ${safeText(p.message)}`;

const countText = (count: number): string => `${count} ${count === 1 ? "problem" : "problems"}; nothing was applied`;

function goodText({ policy }: LoadedConfig): string {
  const bare = policy.rules.some((rule) => rule.patterns.some((p) => p.port === null));
  const ports = bare ? "\na pattern without a port means 443 for https and 80 for http, never any port" : "";
  return `${policy.rules.length} ${policy.rules.length === 1 ? "rule" : "rules"}, default ${policy.defaultAction}, version ${policy.version}${ports}`;
}

async function explain(method: string, url: string, options: Options): Promise<void> {
  const config = await load(options.config ?? []);
  const { as } = options;
  if (as !== undefined && !config.clients.some((c) => c.name === as)) {
    throw new CommandError(
      `no client is called ${as} (${config.clients.map((c) => c.name).join(", ") || "there are none"})`,
    );
  }
  if (!METHODS.includes(method)) {
    const meant = METHODS.includes(method.toUpperCase()) ? `: did you mean ${method.toUpperCase()}?` : "";
    throw new CommandError(`${method} is no method that goes on, and is answered 501${meant}`);
  }
  const facts = factsOf(method, url, as ?? null);
  if (facts === null) throw new CommandError(`${method} ${url} is not METHOD URL, such as GET https://example.com/`);
  if (method === "CONNECT") return explainConnect(config, facts, options);
  const explanation = explainRequest(config.policy, facts, compileNetwork(config.network.allow));
  if (options.json) printJson(explanation);
  else print(explanation.text.split("\n").map(safeText).join("\n"));
  process.exitCode = explanation.allowed ? EXIT.done : EXIT.no;
}

function explainConnect(
  config: LoadedConfig,
  facts: Parameters<LoadedConfig["policy"]["decideConnect"]>[0],
  options: Options,
): void {
  const network = compileNetwork(config.network.allow);
  const decision = withAddresses(config.policy.decideConnect(facts), facts.host, network);
  const { kind, outcome, rule, reason, message } = decision;
  if (options.json) printJson({ kind, outcome, rule, reason, message });
  else print(safeText(`${kind}  CONNECT ${facts.host}:${facts.port}  ${rule ?? "the default"}  ${message}`.trimEnd()));
  process.exitCode = kind === "refuse" ? EXIT.no : EXIT.done;
}

async function test(files: readonly string[], options: Options): Promise<void> {
  const config = await load(files);
  const results = runTests(config);
  const failed = results.filter((r) => !r.passed);
  if (options.json) {
    printJson({
      ok: failed.length === 0,
      results: results.map((r) => ({ ...r.test, passed: r.passed, message: r.message })),
    });
  } else {
    for (const { test: t, message } of failed)
      print(line({ ...t.place, message: `${t.request}: ${message}` }, colours.red("failed")));
    print(`${results.length - failed.length} of ${results.length} tests passed`);
  }
  process.exitCode = failed.length === 0 ? EXIT.done : EXIT.no;
}

/** For commands that decide and send nothing: secrets need not be there. */
async function load(files: readonly string[]): Promise<LoadedConfig> {
  const { config, problems } = await attempt(files, "placeholder");
  if (config === null) throw new CommandError(problems.map((p) => safeText(problemText(p))).join("\n"));
  return config;
}

async function attempt(
  files: readonly string[],
  secrets: "resolve" | "placeholder",
): Promise<{ config: LoadedConfig | null; problems: readonly ConfigProblem[] }> {
  try {
    return { config: await loadConfig({ files, env: process.env, flags: {}, secrets }), problems: [] };
  } catch (error) {
    if (error instanceof ConfigError) return { config: null, problems: error.problems };
    throw error;
  }
}
