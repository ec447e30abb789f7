#!/usr/bin/env node
// argv in, exit code out. Each command's code is loaded only when it is asked for: `--help` must not wait for the rest.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { CommandError, EXIT, errorColours, nearest } from "./cli/output.ts";

/** Name, what it does, and how to load it. The order is that of `--help`. */
const COMMANDS: readonly (readonly [name: string, summary: string, load: () => Promise<Command>])[] = [
  ["start", "run the proxy", async () => (await import("./cli/start.ts")).startCommand(version())],
  [
    "run",
    "run a command whose traffic comes through the proxy",
    async () => (await import("./cli/run.ts")).runCommand(),
  ],
  ["env", "print the variables that `run` sets", async () => (await import("./cli/env.ts")).envCommand()],
  [
    "wrap-config",
    "let an MCP client start its servers under `run`",
    async () => (await import("./cli/wrap-config.ts")).wrapConfigCommand(),
  ],
  ["ca", "the local CA: init, show, export, rotate", async () => (await import("./cli/ca.ts")).caCommand()],
  ["policy", "check, explain and test policy files", async () => (await import("./cli/policy.ts")).policyCommand()],
  ["audit", "query, follow and verify the audit log", async () => (await import("./cli/audit.ts")).auditCommand()],
  ["token", "sign and read JSON Web Tokens", async () => (await import("./cli/token.ts")).tokenCommand()],
  [
    "doctor",
    "check from inside a child what works and what does not",
    async () => (await import("./cli/doctor.ts")).doctorCommand(),
  ],
];

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

function unknownCommand(asked: string): CommandError {
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
  const message = known ? error.message : String(error);
  process.stderr.write(`${errorColours.red("sallyport:")} ${message}\n`);
  if (known && process.env.SALLYPORT_DEBUG) process.stderr.write(`${error.stack}\n`);
  process.exitCode = error instanceof CommandError ? error.code : EXIT.usage;
}

// A reader that went away (`| head`) is not an error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.done);
});
main(process.argv.slice(2)).catch(fail);
