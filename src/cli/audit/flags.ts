// The filters that the audit commands share, from flags to what the reader understands.
import { accessSync, constants, statSync } from "node:fs";
import { type Command, Option } from "commander";
import { type Filter, GROUPS, type Group, QueryError, TEXT_FILTERS } from "../../audit/query.ts";
import { durationOf, momentOf } from "../../audit/units.ts";
import { databaseFile } from "../../edge/audit/folder.ts";
import { AuditReader, type Damage } from "../../edge/audit/reader.ts";
import { explained } from "../../edge/audit/schema.ts";
import { CommandError, EXIT, errorText, notice, safeText } from "../output.ts";
import { findPlaces } from "../places.ts";

export interface PlaceFlags {
  readonly data?: string;
  readonly config?: string;
  readonly json?: boolean;
}

export interface FilterFlags extends PlaceFlags, Readonly<Partial<Record<(typeof TEXT_FILTERS)[number], string>>> {
  readonly since?: string;
  readonly until?: string;
  readonly uninspected?: boolean;
  readonly mcpServer?: string;
  readonly tool?: string;
}

/** `json`: what `--json` prints. */
export const withPlace = (command: Command, json = "print JSON"): Command =>
  command
    .option("--data <dir>", "the folder of the log (default: ./data)")
    .option("-c, --config <file>", "the policy file that names the folder")
    .option("--json", json);

export const withFilters = (command: Command, json?: string): Command =>
  withPlace(command, json)
    .option("--since <when>", "1h, 7d, 2026-03-01 or 2026-03-01T12:00:00Z")
    .option("--until <when>", "the same; records from before it")
    .option("--client <name>", "* is any run of characters; - for anonymous")
    .option("--host <name>", "such as '*.github.com'")
    .option("--method <method>", "several with commas")
    .option("--path <path>", "such as '/repos/*'; without *: this path with any query")
    .option("--status <status>", "404, 4xx, 401,403, or - for none")
    .addOption(new Option("--decision <decision>", "what was decided").choices(["allow", "deny", "would-deny"]))
    .option("--rule <id>", "- for the default")
    .option("--reason <reason>", "such as origin-timeout; - for none")
    .option("--digest <sha256>", "of a body, at least its first 12 hex digits")
    .option("--id <id>", "one record")
    .addOption(
      new Option("--kind <kind>", "what the record is of").choices(["connect", "exchange", "connection", "upgrade"]),
    )
    .option("--uninspected", "only what was not opened")
    .addOption(new Option("--mcp-server <name>").hideHelp())
    .addOption(new Option("--tool <name>").hideHelp());

/** The filter. Throws CommandError for what cannot be understood, or is not supported. */
export function filterOf(flags: FilterFlags, now: number): Filter {
  if (flags.mcpServer !== undefined || flags.tool !== undefined)
    throw new CommandError(`--${flags.tool === undefined ? "mcp-server" : "tool"} is not supported in this version`);
  const filter: { -readonly [K in keyof Filter]: Filter[K] } = {};
  for (const key of TEXT_FILTERS) {
    const text = flags[key];
    if (text !== undefined) filter[key] = text;
  }
  if (flags.since !== undefined) filter.since = momentFlag("--since", flags.since, now);
  if (flags.until !== undefined) filter.until = momentFlag("--until", flags.until, now);
  if (flags.uninspected === true) filter.uninspected = true;
  return filter;
}

function momentFlag(flag: string, text: string, now: number): number {
  const at = momentOf(text, now);
  if (at === null)
    throw new CommandError(`${flag} ${text}: write a duration such as 1h or 7d, or a date such as 2026-03-01`);
  return at;
}

export function durationFlag(flag: string, text: string): number {
  const ms = durationOf(text);
  if (ms === null) throw new CommandError(`${flag} ${text}: write a duration such as 12h or 90d`);
  return ms;
}

export function limitOf(text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0)
    throw new CommandError(`--limit ${text}: write a number from 1 on`);
  return Number(text);
}

export function groupOf(text: string): Group {
  if ((GROUPS as readonly string[]).includes(text)) return text as Group;
  throw new CommandError(`--group-by ${text}: choose ${GROUPS.join(", ")}`);
}

/** `--sort` of records, or of groups. Throws CommandError for one that says nothing about what is listed. */
export function sortOf<T extends string>(text: string | undefined, possible: readonly T[], what: string): T {
  const found = text === undefined ? possible[0] : possible.find((p) => p === text);
  if (found === undefined) throw new CommandError(`--sort ${text}: ${what} are sorted by ${possible.join(", ")}`);
  return found;
}

export const dataFolder = (flags: PlaceFlags): string =>
  findPlaces(
    {
      ...(flags.config === undefined ? {} : { config: [flags.config] }),
      ...(flags.data === undefined ? {} : { data: flags.data }),
    },
    process.env,
  ).data;

/** Runs `work` with the log open for reading. What cannot be opened or asked is wrong usage, told without a stack. */
export async function withReader<T>(
  flags: PlaceFlags,
  work: (reader: AuditReader, dir: string) => T | Promise<T>,
): Promise<T> {
  const dir = dataFolder(flags);
  let reader: AuditReader;
  try {
    if (statSync(dir, { throwIfNoEntry: false })?.isFile())
      throw new CommandError(`${safeText(dir)} is a file, not the folder of a log`);
    accessSync(dir, constants.X_OK);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    if ((error as NodeJS.ErrnoException).code === "EACCES") throw new CommandError(errorText(error as Error));
  }
  try {
    reader = new AuditReader(dir);
  } catch (error) {
    throw new CommandError((error as Error).message);
  }
  try {
    return await work(reader, dir);
  } catch (error) {
    if (error instanceof QueryError) throw new CommandError(error.message);
    throw explained(error, databaseFile(dir));
  } finally {
    reader.close();
  }
}

/** `withReader` for what shows records: those that are damaged are left out, which is said at the end, with exit code 1. */
export const withRecords = (flags: PlaceFlags, work: (reader: AuditReader) => void | Promise<void>): Promise<void> =>
  withReader(flags, async (reader) => {
    await work(reader);
    const text = damageText(reader.damage);
    if (text === null) return;
    notice(text);
    process.exitCode = EXIT.no;
  });

function damageText({ records, words }: Damage): string | null {
  const said: string[] = [];
  if (records.size > 0) {
    const first = Math.min(...records);
    said.push(
      records.size === 1
        ? `record ${first} is left out`
        : `${records.size} records are left out, the first is ${first}`,
    );
  }
  if (words.size > 0) said.push(`${words.size} of the values that records share cannot be read`);
  if (said.length === 0) return null;
  return `the audit log is damaged: ${said.join("; ")}. Run \`sallyport audit verify\`: it says from where on it is not what was written`;
}
