// `sallyport wrap-config`: rewrites an MCP client's configuration so that its stdio servers start under `sallyport run`.
import { isUtf8 } from "node:buffer";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { lineDiff } from "./line-diff.ts";
import { CommandError, colours, errorText, notice, print, printJson, safeText } from "./output.ts";
import { configOption, findPlaces, type PlaceOptions } from "./places.ts";
import { rewriteFile } from "./rewrite-file.ts";
import { replaceServers, type ServerEntry, serversIn } from "./server-config.ts";

interface WrapOptions extends PlaceOptions {
  readonly write?: boolean;
  readonly unwrap?: boolean;
  readonly json?: boolean;
}

/** How a wrapped server starts: everything absolute, since MCP clients start servers in any folder. */
export interface Launcher {
  /** Node and our program, with what stands before the command: `run --data … --ca …`. */
  readonly command: string;
  readonly args: readonly string[];
}

export type WrapResult = "wrapped" | "unwrapped" | "unchanged" | "url" | "not-understood";

export function wrapConfigCommand(): Command {
  return new Command("wrap-config")
    .summary("let an MCP client start its servers under `run`")
    .description(
      "Rewrites the `mcpServers` of an MCP client's JSON file so that each stdio server starts under `sallyport run --as NAME`. Prints what would change; --write changes it and keeps a backup.",
    )
    .argument("<file>", "the client's configuration file")
    .option("--write", "change the file")
    .option("--unwrap", "take sallyport out again")
    .addOption(configOption("policy file of the house; one that has others is not joined"))
    .option("--data <dir>", "data folder of the house")
    .option("--ca <dir>", "folder of the CA")
    .option("--json", "print what happens to each server as JSON")
    .addHelpText("after", "\nExample:\n  sallyport wrap-config ~/.config/Claude/claude_desktop_config.json --write")
    .action((file: string, options: WrapOptions) => wrapConfig(file, options));
}

function wrapConfig(name: string, options: WrapOptions): void {
  const file = existsSync(name) ? realpathSync(name) : resolve(name);
  const bytes = readBytes(file);
  const before = textOf(bytes, file);
  const servers = serversIn(before);
  if (servers.length === 0) throw new CommandError(`${file} names no MCP servers (mcpServers, servers or mcp.servers)`);
  const launcher = launcherFor(options);
  const results = servers.map((s) => ({ server: s, ...(options.unwrap ? unwrapServer(s) : wrapServer(s, launcher)) }));
  const after = replaceServers(
    before,
    results.filter((r) => r.value !== null),
  );
  report(options, results);
  if (after === before) return void notice("nothing to change");
  if (!options.json) print(lineDiff(before, after).map(paint).join("\n"));
  if (options.write) notice(`written; the old file is ${safeText(rewriteFile(file, bytes, after))}`);
  else notice("nothing was written; --write changes the file");
}

function readBytes(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const folder = (error as NodeJS.ErrnoException).code === "EISDIR";
    throw new CommandError(folder ? `cannot use ${safeText(file)}: it is a folder` : errorText(error as Error));
  }
}

/** Bytes that are no text would come out as others. */
function textOf(bytes: Buffer, file: string): string {
  if (!isUtf8(bytes)) throw new CommandError(`${safeText(file)} is not UTF-8, as JSON has to be: save it so first`);
  return bytes.toString("utf8");
}

function report(options: WrapOptions, results: readonly { server: ServerEntry; result: WrapResult }[]): void {
  if (options.json) printJson(results.map(({ server, result }) => ({ server: server.name, result })));
  for (const { server, result } of results) {
    const name = safeText(server.name);
    if (result === "url") notice(`${name} is reached by a URL: it is left as it is, and does not go through sallyport`);
    if (result === "not-understood") notice(`${name} has no command: it is left as it is`);
  }
}

/** The program and its first arguments, absolute, for this installation and these places. */
function launcherFor(options: WrapOptions): Launcher {
  const places = findPlaces(options, process.env);
  const files = places.configFiles.flatMap((f) => ["-c", f]);
  const script = resolve(process.argv[1] as string);
  return {
    command: process.execPath,
    args: [
      ...process.execArgv,
      existsSync(script) ? realpathSync(script) : script,
      "run",
      ...files,
      "--data",
      places.data,
      "--ca",
      places.ca,
    ],
  };
}

/** The entry as it is to be, or null when it stays. A server that is wrapped already is wrapped anew, never twice. */
export function wrapServer(server: ServerEntry, launcher: Launcher): { result: WrapResult; value: object | null } {
  const { command, url, serverUrl, httpUrl } = server.value;
  if (typeof command !== "string" || command === "") {
    const remote = [url, serverUrl, httpUrl].some((u) => typeof u === "string");
    return { result: remote ? "url" : "not-understood", value: null };
  }
  const inner = innerCommand(server.value) ?? [command, ...textArgs(server.value)];
  const value = {
    ...server.value,
    command: launcher.command,
    args: [...launcher.args, "--as", server.name, "--", ...inner],
  };
  const same = JSON.stringify(value) === JSON.stringify(server.value);
  return same ? { result: "unchanged", value: null } : { result: "wrapped", value };
}

/** The entry without us, or null when we are not in it. */
export function unwrapServer(server: ServerEntry): { result: WrapResult; value: object | null } {
  const inner = innerCommand(server.value);
  if (inner === null) return { result: "unchanged", value: null };
  return { result: "unwrapped", value: { ...server.value, command: inner[0], args: inner.slice(1) } };
}

/** What stands behind our `run … --as NAME --`, or null. */
function innerCommand(value: Readonly<Record<string, unknown>>): string[] | null {
  const words = [String(value.command), ...textArgs(value)];
  const end = words.indexOf("--");
  const before = end < 0 ? [] : words.slice(0, end);
  const run = before.indexOf("run");
  const ours =
    run > 0 && /(^|[\\/])(sallyport(\.cmd)?|main\.[jt]s)$/.test(before[run - 1] as string) && before.includes("--as");
  return ours && end + 1 < words.length ? words.slice(end + 1) : null;
}

function textArgs(value: Readonly<Record<string, unknown>>): string[] {
  return Array.isArray(value.args) ? value.args.map(String) : [];
}

function paint(line: string): string {
  const safe = safeText(line);
  if (line.startsWith("+")) return colours.green(safe);
  return line.startsWith("-") ? colours.red(safe) : safe;
}
