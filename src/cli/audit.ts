// `sallyport audit`: questions to the audit log. Reading works beside a running house.
import { Command, Option } from "commander";
import { exportLog, query, show, tail } from "./audit/ask.ts";
import { findBody, head, prune, verify } from "./audit/check.ts";
import { withFilters, withPlace } from "./audit/flags.ts";
import { FORMATS } from "./audit/records.ts";
import { stats } from "./audit/stats.ts";

const EXAMPLES = `
Examples:
  sallyport audit query --since 1h --decision deny --host '*.github.com'
  sallyport audit query --group-by host --since 24h --sort sent     where did the bytes go?
  sallyport audit tail --client github-mcp
  sallyport audit find-body quarterly-report.pdf                    was this file sent?
  sallyport audit export --format har --since 7d --out week.har
  sallyport audit verify --head head.json`;

const EXAMPLE: Readonly<Record<string, readonly string[]>> = {
  query: ["--since 1h --decision deny --host '*.github.com'", "--group-by host --since 24h --sort sent"],
  tail: ["--client github-mcp", "--decision deny --format jsonl"],
  show: ["01JABCDEFGHJKMNPQRSTVWXYZ0"],
  stats: ["--since 7d", "--since 24h --uninspected"],
  export: ["--format har --since 7d --out week.har", "--format csv --client github-mcp --out github.csv"],
  verify: ["", "--head head.json"],
  head: ["--json > head.json"],
  prune: ["--older-than 90d --dry-run", "--to-size 20GiB"],
  "find-body": ["quarterly-report.pdf"],
};

function exampleOf(name: string): string {
  const lines = (EXAMPLE[name] ?? []).map((rest) => `  sallyport audit ${name} ${rest}`.trimEnd());
  return `\n${lines.length > 1 ? "Examples" : "Example"}:\n${lines.join("\n")}`;
}

const JSON_LINES = "print JSON, one record a line";

const format = (): Option => new Option("--format <format>", "how records look").choices(FORMATS).default("table");

/** The `audit` command with its sub-commands. */
export function auditCommand(): Command {
  const command = new Command("audit").description("query, follow and verify the audit log");
  asking(command);
  checking(command);
  command.addHelpText(
    "after",
    "\nRecords that are damaged are left out, which is said at the end, with exit code 1: `audit verify` tells more.",
  );
  command.addHelpText("after", EXAMPLES);
  for (const sub of command.commands) sub.addHelpText("after", exampleOf(sub.name()));
  return command;
}

function asking(command: Command): void {
  withFilters(command.command("query").description("records that match, newest last"))
    .addOption(format())
    .option("--limit <n>", "at most so many", "50")
    .option("--group-by <column>", "client, host, method, status, decision, rule, reason, kind, address")
    .option("--sort <by>", "records: time, sent, received, took; groups: records, denied, sent, received")
    .action(query);
  withFilters(command.command("tail").description("the last records, then every new one"), JSON_LINES)
    .addOption(format())
    .option("--limit <n>", "so many of the last", "10")
    .action(tail);
  withPlace(command.command("show <id>").description("one record in full")).action(show);
  withFilters(command.command("stats").description("refusals, failures, top hosts, what was not opened"))
    .option("--limit <n>", "so many hosts", "10")
    .action(stats);
  withFilters(command.command("export").description("all that match, oldest first"), "the same as --format jsonl")
    .addOption(
      new Option("--format <format>", "what is written")
        .choices(["jsonl", "csv", "har"])
        .default("jsonl")
        .conflicts("json"),
    )
    .option("--out <file>", "a new file instead of standard output")
    .action(exportLog);
}

function checking(command: Command): void {
  withPlace(command.command("verify").description("is the log what was written? names the first problem; exit code 1"))
    .option("--head <head>", "a head kept elsewhere: SEQ:HASH, or what `audit head --json` printed")
    .option("--key <key>", "the public key, where audit.key is not at hand")
    .action(verify);
  withPlace(command.command("head").description("the newest signed head, to be kept elsewhere")).action(head);
  withPlace(command.command("prune").description("remove the oldest records; the chain stays verifiable"))
    .option("--older-than <age>", "such as 90d")
    .option("--to-size <size>", "such as 20GiB")
    .option("--dry-run", "only say how many would go")
    .action(prune);
  withPlace(
    command.command("find-body <file>").description("was this file sent or received whole? (never proves absence)"),
  )
    .addOption(format())
    .action(findBody);
}
