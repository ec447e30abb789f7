// `sallyport doctor -- COMMAND`: runs the command, and looks in the audit log for what it asked for.
import { setTimeout as sleep } from "node:timers/promises";
import type { AuditRecord } from "../audit/record.ts";
import { AuditReader } from "../edge/audit/reader.ts";
import { failed, ok, type Step, warning } from "./doctor-hops.ts";
import { spawnAndWait } from "./run.ts";

/** Where its records are, and under which name (null: none). */
export interface CommandRecords {
  /** The folder of the audit log. */
  readonly log: string;
  readonly client: string | null;
}

/** Records reach the database in batches, a moment after the response. */
const SETTLES = 1_500;
const POLL = 100;
/** As many records are looked at, and as many hosts named. */
const MOST_RECORDS = 10_000;
const MOST_HOSTS = 5;
const NONE = "none reached the proxy";
const SILENT = "it opened a connection through the proxy and asked for nothing";

/** Runs the command to its end. Two steps: how it ended, and which of its requests reached the proxy. */
export async function tryCommand(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  where: CommandRecords,
): Promise<Step[]> {
  const began = Date.now();
  const code = await spawnAndWait(command, env);
  const step = `command: ${command[0]}`;
  const ended =
    code === 0
      ? ok(step, "exit code 0")
      : failed(step, `exit code ${code}`, "sallyport audit tail shows its requests, if there were any");
  return [ended, await requestsStep(`${step}, its requests`, began, where)];
}

async function requestsStep(step: string, began: number, where: CommandRecords): Promise<Step> {
  try {
    let found: AuditRecord[] = [];
    for (const end = performance.now() + SETTLES; performance.now() < end; await sleep(POLL)) {
      const before = found.length;
      found = recordsSince(began, where);
      if (found.length > 0 && found.length === before) break;
    }
    return judge(step, found);
  } catch (error) {
    return warning(step, `the audit log cannot be read: ${(error as Error).message}`, "");
  }
}

function recordsSince(since: number, { log, client }: CommandRecords): AuditRecord[] {
  const reader = new AuditReader(log);
  try {
    return reader.newest({ since, client: client ?? "-" }, MOST_RECORDS).map(({ record }) => record);
  } finally {
    reader.close();
  }
}

/** What the records say of how the command gets out. */
function judge(step: string, records: readonly AuditRecord[]): Step {
  const rejected = records.find((r) => r.reason === "client-tls-rejected");
  if (rejected !== undefined) {
    const todo =
      "does it read another setting than those of `sallyport env`, or pin the certificate? Then: a `tunnel` rule";
    return failed(step, `it reached the proxy and does not trust the CA (${rejected.host})`, todo);
  }
  const requests = records.filter((r) => r.kind === "exchange" || (r.kind === "connect" && r.decision === "deny"));
  const tunnels = records.filter((r) => r.kind === "connect" && r.uninspected);
  if (requests.length + tunnels.length === 0) {
    if (records.length === 0)
      return warning(step, NONE, "if it made any, it does not read the proxy variables: set its own proxy option");
    // Node.js, for one, ends such a connection without an alert.
    return warning(
      step,
      SILENT,
      "if it does not trust the CA: does it read another setting than those of `sallyport env`?",
    );
  }
  const denied = requests.filter((r) => r.decision === "deny");
  const why = `${requests.length} reached the proxy${tunnels.length === 0 ? "" : ` and ${tunnels.length} unopened tunnels`} (${hostsOf([...requests, ...tunnels])})`;
  if (denied.length === 0) return ok(step, why);
  return warning(step, `${why}; ${denied.length} denied`, "sallyport audit query --decision deny --since 5m");
}

function hostsOf(records: readonly AuditRecord[]): string {
  const hosts = [...new Set(records.map((r) => r.host ?? "?"))];
  return hosts.length <= MOST_HOSTS ? hosts.join(", ") : `${hosts.slice(0, MOST_HOSTS).join(", ")} and others`;
}
