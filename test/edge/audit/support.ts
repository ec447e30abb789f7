// Records and folders for the tests of the audit log.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { NO_BODY } from "../../../src/audit/record.ts";
import { rowOf, rowText } from "../../../src/audit/row.ts";
import type { AuditSinkOptions } from "../../../src/edge/audit/worker-sink.ts";
import { newId } from "../../../src/shared/ids.ts";
import type { Log } from "../../../src/shared/log.ts";
import { PATIENCE } from "../../support/patience.ts";

export const NO_TIMES = { wait: null, dns: null, connect: null, tls: null, firstByte: null, total: 1.25 };

/** A plain allowed GET, with what the test wants otherwise. */
export function aRecord(changes: Partial<AuditRecord> = {}): AuditRecord {
  const at = changes.at ?? Date.now();
  return {
    id: newId(at),
    parent: null,
    at,
    kind: "exchange",
    client: "github-mcp",
    address: "127.0.0.1",
    decision: "allow",
    rule: "github",
    reason: null,
    method: "GET",
    scheme: "https",
    host: "api.github.com",
    port: 443,
    path: "/repos/a/b",
    status: 200,
    sent: NO_BODY,
    received: NO_BODY,
    timings: NO_TIMES,
    origin: null,
    clientProtocol: "1.1",
    originProtocol: "1.1",
    sni: "api.github.com",
    uninspected: false,
    notes: [],
    error: null,
    ...changes,
  };
}

/** The lines of the journal for these records. */
export const linesFor = (...records: AuditRecord[]): Buffer =>
  Buffer.from(records.map((record) => `${rowText(rowOf(record))}\n`).join(""));

/** A folder of its own, removed at the end of the test. */
export function aFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-audit-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export interface Heard {
  readonly level: string;
  readonly message: string;
}

/** A log that remembers, and options for a sink that uses it. */
export function sinkOptions(
  dir: string,
  changes: Partial<AuditSinkOptions> = {},
): AuditSinkOptions & { heard: Heard[] } {
  const heard: Heard[] = [];
  const at = (level: string) => (event: object, message: string) => {
    heard.push({ level, message: `${message} ${JSON.stringify(event)}` });
  };
  const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return {
    dir,
    required: true,
    sync: "normal",
    keep: { age: null, size: null },
    clock: { now: () => Date.now(), tick: () => performance.now() },
    log,
    ...changes,
    heard,
  };
}

export const until = async (what: () => boolean, patience = PATIENCE): Promise<void> => {
  const end = Date.now() + patience;
  while (!what()) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
