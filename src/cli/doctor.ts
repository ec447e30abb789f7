// `sallyport doctor`: checks from inside a child what works, what does not, why, and what to do about it.
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { Command } from "commander";
import { type ChildSettings, childEnvironment, withoutSecrets } from "./child-environment.ts";
import { prepareTrust, withoutOurBundle } from "./child-trust.ts";
import { tryCommand } from "./doctor-command.ts";
import { failed, ok, type Step, traceRequest, warning, within } from "./doctor-hops.ts";
import { explainFailure, RUNTIMES, type Runtime } from "./doctor-runtimes.ts";
import { joinOrStartHouse } from "./house-access.ts";
import { DEFAULT_NO_PROXY, parseNoProxy } from "./no-proxy.ts";
import { CommandError, colours, EXIT, notice, print, printJson, safeText, table } from "./output.ts";
import { configOption, findPlaces, type PlaceOptions } from "./places.ts";
import { dropProxyVariables } from "./proxy-variables.ts";

interface DoctorOptions extends PlaceOptions {
  readonly as?: string;
  readonly json?: boolean;
}

const DEFAULT_URL = "https://example.com/";
const RUNTIME_DEADLINE = 25_000;
const AROUND_DEADLINE = 3000;

export function doctorCommand(): Command {
  return new Command("doctor")
    .summary("check from inside a child what works and what does not")
    .description(
      "Checks, in a child as `run` makes it: is the proxy reached, is the CA trusted by each runtime found here, can anything get out around the proxy, and what happens to a request, hop by hop. With a command after --, runs that as well.",
    )
    .argument("[words...]", `URLs to try (default: ${DEFAULT_URL}), or a command after --`)
    .option("--as <client>", "the client's name")
    .addOption(configOption("policy file of the house; one that has others is not joined"))
    .option("--data <dir>", "data folder of the house")
    .option("--ca <dir>", "folder of the CA")
    .option("--json", "print as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  sallyport doctor\n  sallyport doctor --as github-mcp https://api.github.com/\n  sallyport doctor -- npm view express version",
    )
    .action(async (words: string[], options: DoctorOptions) => {
      // Commander takes the `--` away; the line itself still tells a command from URLs.
      const end = process.argv.indexOf("--");
      const command = end < 0 ? [] : process.argv.slice(end + 1);
      process.exitCode = await doctor(words.slice(0, words.length - command.length), command, options);
    });
}

async function doctor(words: readonly string[], command: readonly string[], options: DoctorOptions): Promise<number> {
  const urls = (words.length === 0 ? [DEFAULT_URL] : words).map(parseUrl);
  const steps: Step[] = [];
  const add = (...more: Step[]) => {
    steps.push(...more);
    if (!options.json)
      for (const s of more) process.stderr.isTTY && process.stderr.write(`  ${s.status}  ${safeText(s.step)}\n`);
  };
  await examine(urls, command, options, add);
  if (options.json) printJson({ ok: steps.every((s) => s.status !== "failed"), steps });
  else print(stepTable(steps));
  return steps.some((s) => s.status === "failed") ? EXIT.no : EXIT.done;
}

async function examine(
  urls: readonly URL[],
  command: readonly string[],
  options: DoctorOptions,
  add: (...steps: Step[]) => void,
): Promise<void> {
  const places = findPlaces(options, process.env);
  const env = { ...withoutOurBundle(process.env, places.data) };
  dropProxyVariables(env);
  let house: Awaited<ReturnType<typeof joinOrStartHouse>>;
  try {
    house = await joinOrStartHouse(places, env);
  } catch (error) {
    return add(failed("house", (error as Error).message, "sallyport policy check FILE names every problem"));
  }
  try {
    const { facts, pid } = await house.status();
    add(ok("house", `process ${pid}, data folder ${places.data}, policy ${facts.policyFile}`));
    const port = await house.openChildPort(options.as ?? null);
    add(ok("child port", `127.0.0.1:${port}${options.as === undefined ? "" : ` for ${options.as}`}`));
    const files = await prepareTrust(facts.caFile, places.data, process.env);
    const settings: ChildSettings = {
      proxy: { host: "127.0.0.1", port },
      noProxy: parseNoProxy(DEFAULT_NO_PROXY),
      files,
    };
    const child = childEnvironment(settings, withoutSecrets(process.env, facts.secretVariables ?? [], notice));
    add(caStep(facts.caFile));
    for (const url of urls) add(...(await traceRequest(url, port, readFileSync(files.bundle, "utf8"))));
    const first = urls[0] as URL;
    const runtimes = RUNTIMES.filter(({ program }) => isInstalled(program));
    // All at once: most of the time they wait.
    add(...(await Promise.all(runtimes.map((runtime) => tryRuntime(runtime, first, child)))));
    add(await wayAround(first));
    if (command.length > 0) {
      add(...(await tryCommand(command, child, { log: dirname(facts.auditFile), client: options.as ?? null })));
    }
  } catch (error) {
    add(failed("child", (error as Error).message, "is the house of the same version? see its log"));
  } finally {
    house.end();
  }
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new CommandError(`${JSON.stringify(text)} is not an http or https URL (a command goes after --)`);
  }
  return url;
}

function caStep(file: string): Step {
  const certificate = new X509Certificate(readFileSync(file));
  const days = Math.floor((Date.parse(certificate.validTo) - Date.now()) / 86_400_000);
  if (days < 0) return failed("CA", `it ended on ${certificate.validTo}`, "sallyport ca rotate");
  if (days < 30) return warning("CA", `it ends in ${days} days`, "sallyport ca rotate");
  return ok("CA", `${file}, good until ${certificate.validTo}`);
}

async function tryRuntime(runtime: Runtime, url: URL, env: NodeJS.ProcessEnv): Promise<Step> {
  const folder = runtime.source === undefined ? null : mkdtempSync(join(tmpdir(), "sallyport-doctor-"));
  try {
    const source = folder === null ? "" : join(folder, runtime.source?.file ?? "");
    if (folder !== null) writeFileSync(source, runtime.source?.text ?? "");
    return await askWith(runtime, runtime.command(url.href, source), url, env);
  } finally {
    if (folder !== null) rmSync(folder, { recursive: true, force: true });
  }
}

async function askWith(runtime: Runtime, command: string[], url: URL, env: NodeJS.ProcessEnv): Promise<Step> {
  const [program = "", ...args] = command;
  const { said, fine } = await new Promise<{ said: string; fine: boolean }>((done) => {
    const options = { env: { ...env, GIT_TERMINAL_PROMPT: "0" }, timeout: RUNTIME_DEADLINE, maxBuffer: 1 << 20 };
    execFile(program, args, options, (error, stdout, stderr) => {
      done({ said: `${stdout}\n${stderr}`, fine: error === null });
    }).stdin?.end();
  });
  const match = [...said.matchAll(new RegExp(runtime.status ?? /status ([1-5]\d\d)/, "g"))].at(-1);
  const step = `${runtime.name}: ${url.host}`;
  if (match || fine)
    return ok(step, `it reached the proxy and trusts the CA${match?.[1] ? ` (status ${match[1]})` : ""}`);
  const { why, todo } = explainFailure(said);
  const line =
    said
      .split("\n")
      .map((l) => l.trim())
      .filter((l) => l !== "" && !/^(?:status 000|exit status \d|at )/.test(l))
      .at(-1) ?? "";
  return failed(step, line === "" ? why : `${why}: ${line.slice(0, 200)}`, todo);
}

/** Does a program that ignores the variables get out? Only the network can prevent that, so it is a warning. */
async function wayAround(url: URL): Promise<Step> {
  const socket = connect({
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port) || (url.protocol === "https:" ? 443 : 80),
  });
  try {
    await within(once(socket, "connect"), AROUND_DEADLINE);
    const todo = "put the child where the proxy is the only way out (compose.yaml shows how)";
    return warning("around the proxy", `a direct connection to ${url.host} is possible`, todo);
  } catch (error) {
    return ok("around the proxy", `a direct connection to ${url.host} is not possible: ${(error as Error).message}`);
  } finally {
    socket.on("error", () => {}).destroy();
  }
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function stepTable(steps: readonly Step[]): string {
  const paint = { ok: colours.green, failed: colours.red, warning: colours.yellow };
  // What to do has a line of its own: beside the reason it would be too wide for any terminal.
  const rows = steps.flatMap((s) => [
    [paint[s.status](s.status), safeText(s.step), safeText(s.why)],
    ...(s.todo === "" ? [] : [["", "", colours.bold(`→ ${safeText(s.todo)}`)]]),
  ]);
  return table([{ title: "RESULT" }, { title: "STEP" }, { title: "WHY" }], rows);
}
