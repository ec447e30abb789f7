import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Filter } from "../../../src/audit/query.ts";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { NO_BODY } from "../../../src/audit/record.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { AuditStore } from "../../../src/edge/audit/store.ts";
import { aRecord, linesFor } from "./support.ts";

// Five blocks and a little, in odd batches, by two writers one after the other: what is rare, what is frequent, what is nowhere.
const COUNT = 5_500;
const sha = (i: number): string => createHash("sha256").update(String(i)).digest("hex");

const record = (i: number): AuditRecord =>
  aRecord({
    at: 1_000_000 + i * 10 - (i % 97 === 0 ? 5_000 : 0),
    kind: i % 11 === 0 ? "connect" : "exchange",
    client: i % 5 === 0 ? null : `client-${i % 3}`,
    host: i === 2_500 ? "rare.example" : `h${i % 40}.example`,
    method: i % 2 === 0 ? "GET" : "POST",
    status: i % 13 === 0 ? null : i === 4_000 ? 502 : 200 + (i % 5),
    decision: i > 3_000 && i < 3_010 ? "deny" : "allow",
    rule: i % 50 === 0 ? `rule-${i}` : null,
    reason: i === 1_023 || i === 1_024 || i === 1_025 ? "origin-timeout" : null,
    path: i % 3 === 0 ? "*" : `/v1/a${Math.floor(i / 1_000)}/items/${i}/b/c/d/e/f/g?x=1`,
    uninspected: i === 5_499,
    sent: {
      ...NO_BODY,
      bytes: 5,
      sha256: sha(i),
      ...(i === 77 ? { decoded: { bytes: 9, sha256: sha(-1) }, parts: [sha(-2), sha(-3)] } : {}),
    },
  });

const records = Array.from({ length: COUNT }, (_, i) => record(i));
const oneOfThem = records[1_024] as AuditRecord;
let dir: string;
let reader: AuditReader;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "sallyport-reader-"));
  for (const part of [records.slice(0, 1_500), records.slice(1_500)]) {
    const store = new AuditStore(dir);
    for (let i = 0; i < part.length; i += 333)
      store.append(linesFor(...part.slice(i, i + 333)), { file: 1, offset: i });
    store.close();
  }
  reader = new AuditReader(dir);
});
afterAll(() => {
  reader.close();
  rmSync(dir, { recursive: true });
});

type Test = (r: AuditRecord) => boolean;
const QUESTIONS: [Filter, Test][] = [
  [{}, () => true],
  [{ client: "client-1" }, (r) => r.client === "client-1"],
  [{ client: "-" }, (r) => r.client === null],
  [{ client: "client-0,client-2" }, (r) => r.client === "client-0" || r.client === "client-2"],
  [{ host: "RARE.example" }, (r) => r.host === "rare.example"],
  [{ host: "h7.example" }, (r) => r.host === "h7.example"],
  [{ host: "*are.ex*" }, (r) => r.host === "rare.example"],
  [{ host: "h1*.example" }, (r) => /^h1.*\.example$/.test(r.host ?? "")],
  [{ host: "nowhere.example" }, () => false],
  [{ method: "post" }, (r) => r.method === "POST"],
  [{ kind: "connect" }, (r) => r.kind === "connect"],
  [{ status: "-" }, (r) => r.status === null],
  [{ status: "502" }, (r) => r.status === 502],
  [{ status: "5xx" }, (r) => (r.status ?? 0) >= 500],
  [{ status: "203,5xx,-" }, (r) => r.status === null || r.status === 203 || r.status >= 500],
  [{ status: "418" }, () => false],
  [{ decision: "deny" }, (r) => r.decision === "deny"],
  [{ rule: "rule-4050" }, (r) => r.rule === "rule-4050"],
  [{ rule: "rule-*" }, (r) => r.rule !== null],
  [{ reason: "origin-timeout" }, (r) => r.reason === "origin-timeout"],
  [{ path: "/v1/a2/items/2003/b/c/d/e/f/g" }, (r) => r.path?.startsWith("/v1/a2/items/2003/") === true],
  [{ path: "/v1/a2/items/2003/b/c/d/e/f/g?x=1" }, (r) => r.path?.startsWith("/v1/a2/items/2003/") === true],
  [{ path: "/v1/a2/items/200*" }, (r) => r.path?.startsWith("/v1/a2/items/200") === true],
  [{ path: "/v1/a2/items/2003/b/c/d/e/f/*" }, (r) => r.path?.startsWith("/v1/a2/items/2003/") === true],
  [{ path: "*/items/2003/*" }, (r) => r.path?.includes("/items/2003/") === true],
  [{ path: "/v1/*tem*003*/g*" }, (r) => /^\/v1\/.*tem.*003.*\/g/.test(r.path ?? "")],
  [{ path: "/v1/a2*2/items/2003/b/c/d/e/f/g?x=1" }, () => false],
  [{ path: "/v1/a2/items/2003/b/c/d/e/f/g?x=1*x=1" }, () => false],
  [{ path: "/v1/a2/items" }, () => false],
  [{ digest: sha(4_321) }, (r) => r.sent.sha256 === sha(4_321)],
  [{ digest: sha(4_321).slice(0, 12) }, (r) => r.sent.sha256 === sha(4_321)],
  [{ digest: sha(-1) }, (r) => r === records[77]],
  [{ digest: sha(-3) }, (r) => r === records[77]],
  [{ digest: sha(-9) }, () => false],
  [{ id: oneOfThem.id }, (r) => r === oneOfThem],
  [{ id: oneOfThem.id.toLowerCase() }, (r) => r === oneOfThem],
  [{ uninspected: true }, (r) => r.uninspected],
  [{ since: 1_040_000 }, (r) => r.at >= 1_040_000],
  [{ until: 1_010_000 }, (r) => r.at < 1_010_000],
  [{ since: 1_020_000, until: 1_020_500 }, (r) => r.at >= 1_020_000 && r.at < 1_020_500],
  [{ since: 1_020_000, status: "5xx" }, (r) => r.at >= 1_020_000 && (r.status ?? 0) >= 500],
  [{ until: 1_020_000, status: "5xx" }, () => false],
  [{ decision: "deny", method: "GET" }, (r) => r.decision === "deny" && r.method === "GET"],
];

test.each(QUESTIONS)("%j finds what reading all records finds, either way, in part and in sum", (filter, wanted) => {
  const seqs = records.flatMap((r, i) => (wanted(r) ? [i + 1] : []));
  expect([...reader.oldest(filter)].map((s) => s.seq)).toEqual(seqs);
  expect(reader.newest(filter, COUNT).map((s) => s.seq)).toEqual([...seqs].reverse());
  expect(reader.newest(filter, 7).map((s) => s.seq)).toEqual([...seqs].reverse().slice(0, 7));
  const after = seqs.filter((seq) => seq > 2_600);
  expect(reader.newest(filter, COUNT, 2_600).map((s) => s.seq)).toEqual([...after].reverse());
  expect([...reader.oldest(filter, 3, 2_600)].map((s) => s.seq)).toEqual(after.slice(0, 3));
  expect(reader.totals(filter)).toMatchObject({ records: seqs.length, sent: seqs.length * 5 });
  const groups = reader.groups(filter, "method", "records", 10);
  expect(groups.reduce((sum, line) => sum + line.records, 0)).toBe(seqs.length);
});
