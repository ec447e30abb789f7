#!/usr/bin/env node
// argv in, exit code out. The commands are listed in cli/commands.ts.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { type CommandEntry, commandList } from "./cli/commands.ts";
import { CommandError, EXIT, errorColours, errorText, nearest } from "./cli/output.ts";

const COMMANDS: readonly CommandEntry[] = commandList(version);

function version(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("sallyport")
    .description("A forward egress proxy with TLS interception, a policy, and an audit log.")
    .usage("<command> [options]")
    .helpCommand("help [command]", "show the help of a command")
    .enablePositionalOptions()
    .addHelpText(
      "after",
      "\nExamples:\n  sallyport start\n  sallyport run -- curl -sS https://example.com\n  sallyport audit tail\n\n`sallyport COMMAND --help` shows more.",
    );
  const asked = argv[0] === "help" ? argv[1] : argv[0];
  if (asked === "--version" || asked === "-V") return void process.stdout.write(`${version()}\n`);
  const known = COMMANDS.find(([name]) => name === asked);
  if (known === undefined && asked !== undefined && !asked.startsWith("-")) throw unknownCommand(asked);
  for (const [name, summary, load] of COMMANDS) {
    program.addCommand(name === asked ? await load() : new Command(name).summary(summary).description(summary));
  }
  throwOnExit(program);
  if (argv.length === 0) {
    process.stderr.write(program.helpInformation());
    process.exitCode = EXIT.usage;
    return;
  }
  await program.parseAsync(argv, { from: "user" });
}

/** Commander leaves the process by itself otherwise, with codes that are not ours. */
function throwOnExit(command: Command): void {
  command.exitOverride().showHelpAfterError("(--help shows how it is used)");
  for (const c of command.commands) throwOnExit(c as Command);
}

/** Commands of later versions. */
const LATER: readonly string[] = ["mcp", "origins", "cache", "tunnel"];

function unknownCommand(asked: string): CommandError {
  if (LATER.includes(asked)) return new CommandError(`\`sallyport ${asked}\` is not supported in this version`);
  const near = nearest(
    asked,
    COMMANDS.map(([name]) => name),
  );
  const hint = near === null ? "`sallyport --help` lists the commands" : `did you mean \`sallyport ${near}\`?`;
  return new CommandError(`there is no command ${JSON.stringify(asked)}: ${hint}`);
}

/** Prints what went wrong, once, and settles the exit code. */
function fail(error: unknown): void {
  if (error instanceof CommanderError) {
    // Help and version were asked for; anything else is wrong usage, which commander has printed already.
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    return;
  }
  const known = error instanceof Error;
  const message = known ? errorText(error) : String(error);
  process.stderr.write(`${errorColours.red("sallyport:")} ${message}\n`);
  if (known && process.env.SALLYPORT_DEBUG) process.stderr.write(`${error.stack}\n`);
  process.exitCode = error instanceof CommandError ? error.code : EXIT.usage;
}

// A reader that went away (`| head`) is not an error of ours; a full disk behind `>` is.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.done);
  fail(new CommandError(`what was to be printed cannot be written: ${error.code ?? error.message}`));
  process.exit();
});
// A remark that nobody can read: nothing to end for.
process.stderr.on("error", () => {});
main(process.argv.slice(2)).catch(fail);
