// `sallyport run`: a command whose traffic comes through the house. Nothing of ours is ever printed on standard output, which
// belongs to the command (an MCP server speaks its protocol there).
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { Command } from "commander";
import { type ChildSettings, childEnvironment, droppedNoProxy, withoutSecrets } from "./child-environment.ts";
import { prepareTrust, withoutOurBundle } from "./child-trust.ts";
import { joinOrStartHouse } from "./house-access.ts";
import { DEFAULT_NO_PROXY, type NoProxyEntry, parseNoProxy } from "./no-proxy.ts";
import { CommandError, notice } from "./output.ts";
import { configOption, findPlaces, type PlaceOptions } from "./places.ts";
import { dropProxyVariables } from "./proxy-variables.ts";

export interface RunOptions extends PlaceOptions {
  readonly as?: string;
  readonly proxy?: string | boolean;
  readonly noProxy?: string;
}

/** What a shell answers when a command is not there, or cannot be run. */
const NOT_FOUND = 127;
const NOT_RUNNABLE = 126;
const PASSED_ON: readonly NodeJS.Signals[] =
  process.platform === "win32"
    ? ["SIGINT", "SIGTERM", "SIGBREAK"]
    : ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT"];
/** A terminal sends these to the command as well, so that passing them on would make two of one. */
const FROM_TERMINAL = new Set<NodeJS.Signals>(["SIGINT", "SIGQUIT", "SIGWINCH"]);

export function runCommand(): Command {
  return new Command("run")
    .summary("run a command whose traffic comes through the proxy")
    .description(
      "Runs a command with every proxy and CA variable that common tools read. Joins the house that holds the data folder, " +
        "else starts one for as long as it is needed. Standard input and output, signals and the exit code pass untouched. " +
        "Variables that the policy reads secrets from are not passed on.",
    )
    .addOption(configOption("policy file of the house; one that has others is not joined"))
    .option("--as <client>", "the client's name, as the policy and the audit log know it")
    .option("--no-proxy <list>", `hosts that are reached without the proxy (default: ${DEFAULT_NO_PROXY})`)
    .option("--data <dir>", "data folder of the house")
    .option("--ca <dir>", "folder of the CA")
    .argument("<command...>", "the command and its arguments, after --")
    .passThroughOptions()
    .addHelpText(
      "after",
      "\nExamples:\n  sallyport run -- curl -sS https://example.com\n  sallyport run --as github-mcp -- npx -y @modelcontextprotocol/server-github",
    )
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await run(command, options);
    });
}

/** Runs the command; the exit code for this process. */
export async function run(command: readonly string[], options: RunOptions): Promise<number> {
  const entries = noProxyEntries(options);
  const places = findPlaces(options, process.env);
  const inherited = { ...process.env };
  const houseEnvironment = { ...withoutOurBundle(process.env, places.data) };
  dropProxyVariables(houseEnvironment);
  const house = await joinOrStartHouse(places, houseEnvironment);
  let over = false;
  try {
    const { facts } = await house.status();
    const port = await house.openChildPort(options.as ?? null);
    const files = await prepareTrust(facts.caFile, places.data, inherited);
    const settings: ChildSettings = { proxy: { host: "127.0.0.1", port }, noProxy: entries, files };
    for (const name of droppedNoProxy(settings, inherited)) {
      notice(`the inherited ${name} is not passed on; use --no-proxy to say which hosts are reached without the proxy`);
    }
    const passed = withoutSecrets(inherited, facts.secretVariables ?? [], notice);
    void house.gone.then(() => {
      if (!over) notice("the house went away: the command has no way out any more");
    });
    return await spawnAndWait(command, childEnvironment(settings, passed));
  } finally {
    over = true;
    house.end();
  }
}

/** What `--no-proxy` says. Throws CommandError. */
export function noProxyEntries(options: Pick<RunOptions, "proxy" | "noProxy">): NoProxyEntry[] {
  const list = typeof options.proxy === "string" ? options.proxy : (options.noProxy ?? DEFAULT_NO_PROXY);
  try {
    return parseNoProxy(list);
  } catch (error) {
    throw new CommandError(`--no-proxy: ${(error as Error).message}`);
  }
}

/** Spawns with everything inherited; resolves with the code to exit with (128 and the signal's number for a killed one). */
export async function spawnAndWait(command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [file = "", ...args] = command;
  const child = spawn(file, args, { stdio: "inherit", env, windowsHide: true });
  const stop = passSignals(child);
  try {
    return await new Promise<number>((done) => {
      child.once("error", (error: NodeJS.ErrnoException) => {
        if (child.pid !== undefined) return;
        notice(`${JSON.stringify(file)} cannot be run: ${error.code === "ENOENT" ? "not found" : error.code}`);
        done(error.code === "ENOENT" ? NOT_FOUND : NOT_RUNNABLE);
      });
      child.once("exit", (code, signal) => done(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    });
  } finally {
    stop();
  }
}

function passSignals(child: ChildProcess): () => void {
  const onTerminal = process.stdin.isTTY === true || process.stderr.isTTY === true;
  const handlers = PASSED_ON.map((signal) => {
    const handler = () => {
      if (!(onTerminal && FROM_TERMINAL.has(signal))) child.kill(signal);
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  return () => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  };
}
