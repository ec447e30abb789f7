// The three figures of the audit log: an indexed query under 300 ms at one million records, `verify` over 100,000 records a second,
// and under 700 bytes a record. `npm run bench:audit [-- --records N] [-- --check] [-- --json]`.
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LineBuffer } from "../../src/audit/line.ts";
import type { Filter } from "../../src/audit/query.ts";
import type { AuditRecord } from "../../src/audit/record.ts";
import { databaseFile } from "../../src/edge/audit/folder.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { AuditStore } from "../../src/edge/audit/store.ts";
import { verifyLog } from "../../src/edge/audit/verify.ts";
import { newId } from "../../src/shared/ids.ts";

const LIMITS = { query: 300, verify: 100_000, bytes: 700 };
const START = Date.UTC(2026, 0, 1);
const METHODS = ["GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"];
const STATUSES = [200, 200, 200, 200, 200, 201, 204, 304, 401, 403, 404, 429, 500];

const sha = (): string => createHash("sha256").update(randomBytes(8)).digest("hex");
const pick = <T>(list: readonly T[], i: number): T => list[(i * 7919) % list.length] as T;

function record(i: number): AuditRecord {
  const at = START + i * 40;
  const denied = i % 37 === 0;
  const host = `api-${(i * 31) % 500}.example-${i % 7}.com`;
  return {
    id: newId(at),
    parent: newId(at),
    at,
    kind: "exchange",
    client: `client-${i % 23}`,
    address: `10.0.${i % 4}.${(i >> 2) % 250}`,
    decision: denied ? "deny" : "allow",
    rule: denied ? null : `rule-${i % 40}`,
    reason: denied ? "not-allowed" : i % 501 === 0 ? "origin-timeout" : null,
    method: pick(METHODS, i),
    scheme: "https",
    host,
    port: 443,
    path: `/v1/organisations/${i % 977}/items/${i}?page=[redacted]`,
    status: denied ? 403 : pick(STATUSES, i),
    sent: { bytes: 900 + (i % 4000), sha256: sha(), complete: true },
    received: { bytes: 12_000 + (i % 90_000), sha256: sha(), complete: true },
    timings: {
      wait: 0.21,
      dns: null,
      connect: null,
      tls: null,
      firstByte: 20 + (i % 900) / 10,
      total: 25 + (i % 900) / 10,
    },
    origin: {
      address: `203.0.113.${i % 200}`,
      port: 443,
      tls: "TLSv1.3",
      fingerprint: createHash("sha256").update(host).digest("hex"),
      resolvedBy: "here",
      to: null,
      via: null,
    },
    clientProtocol: "1.1",
    originProtocol: "1.1",
    sni: host,
    uninspected: i % 1009 === 0,
    notes: [],
    error: null,
  };
}

function fill(dir: string, count: number): { seconds: number; sample: AuditRecord } {
  const store = new AuditStore(dir);
  const started = performance.now();
  const lines = new LineBuffer();
  let sample = record(0);
  for (let i = 0; i < count; i++) {
    const one = record(i);
    if (i === count >> 1) sample = one;
    lines.add(one);
    if (i % 2_000 < 1_999 && i < count - 1) continue;
    store.append(lines.take(), { file: 1, offset: i }, String);
  }
  store.db.pragma("wal_checkpoint(TRUNCATE)");
  store.close();
  return { seconds: (performance.now() - started) / 1000, sample };
}

const questions = (sample: AuditRecord, count: number): [string, Filter][] => [
  ["newest", {}],
  ["client", { client: "client-7" }],
  ["host", { host: sample.host as string }],
  ["host pattern", { host: "*.example-3.com" }],
  ["method", { method: "DELETE" }],
  ["path", { path: sample.path?.split("?")[0] as string }],
  ["path pattern", { path: "/v1/organisations/77/*" }],
  ["status 429", { status: "429" }],
  ["status 5xx", { status: "5xx" }],
  ["decision", { decision: "deny" }],
  ["rule", { rule: "rule-13" }],
  ["reason", { reason: "origin-timeout" }],
  ["digest", { digest: sample.sent.sha256 }],
  ["id", { id: sample.id }],
  ["since", { since: START + count * 40 - 3_600_000 }],
  ["since until", { since: START + count * 20, until: START + count * 20 + 60_000 }],
  ["uninspected", { uninspected: true }],
  ["deny and host", { decision: "deny", host: sample.host as string }],
  ["nothing", { host: "nowhere.example", status: "200" }],
];

function main(): void {
  const args = process.argv.slice(2);
  const at = args.indexOf("--records");
  const count = at < 0 ? 1_000_000 : Number(args[at + 1]);
  const dir = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
  try {
    const { seconds, sample } = fill(dir, count);
    const bytes = statSync(databaseFile(dir)).size / count;
    const reader = new AuditReader(dir);
    const queries = questions(sample, count).map(([name, filter]) => {
      const started = performance.now();
      const found = reader.newest(filter, 100).length;
      return { name, ms: Math.round((performance.now() - started) * 10) / 10, found };
    });
    const started = performance.now();
    const verified = verifyLog(dir, reader, { key: null, head: null });
    const rate = Math.round(verified.records / ((performance.now() - started) / 1000));
    reader.close();
    const slowest = Math.max(...queries.map((q) => q.ms));
    const met = slowest < LIMITS.query && rate > LIMITS.verify && bytes < LIMITS.bytes && verified.ok;
    const result = {
      records: count,
      insertsPerSecond: Math.round(count / seconds),
      bytesPerRecord: Math.round(bytes),
      verifyPerSecond: rate,
      slowestQueryMs: slowest,
      queries,
      met,
    };
    if (args.includes("--json")) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    else {
      console.table(queries);
      console.table({ ...result, queries: queries.length });
    }
    if (args.includes("--check") && !met) process.exitCode = 1;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

main();
