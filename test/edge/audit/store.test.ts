import { expect, onTestFinished, test } from "vitest";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { lockFolder } from "../../../src/edge/audit/folder.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { AuditStore } from "../../../src/edge/audit/store.ts";
import { verifyLog } from "../../../src/edge/audit/verify.ts";
import { aFolder, aRecord, linesFor } from "./support.ts";

function aStore(): { dir: string; store: AuditStore } {
  const dir = aFolder();
  lockFolder(dir)();
  const store = new AuditStore(dir);
  onTestFinished(() => store.close());
  return { dir, store };
}

function stored(dir: string): AuditRecord[] {
  const reader = new AuditReader(dir);
  try {
    expect(verifyLog(dir, reader, { key: null, head: null }).problem).toBeNull();
    return [...reader.oldest({})].map((s) => s.record);
  } finally {
    reader.close();
  }
}

test("a batch that fails leaves nothing, and what comes after it goes on from what was there", () => {
  const { dir, store } = aStore();
  const [a, b, c] = ["a", "b", "c"].map((name) => aRecord({ host: `${name}.example`, path: `/${name}` })) as [
    AuditRecord,
    AuditRecord,
    AuditRecord,
  ];
  store.append(linesFor(a), { file: 1, offset: 1 });
  const spoiled = Buffer.concat([linesFor(b), Buffer.from("spoiled\n")]);
  expect(() => store.append(spoiled, { file: 1, offset: 2 })).toThrow(/not a record/);
  expect(() => store.append(spoiled, { file: 1, offset: 2 }, () => "spoiled as well")).toThrow(/no record/);
  expect(store.takenIn).toEqual({ file: 1, offset: 1 });
  expect(store.seq).toBe(1);
  store.append(linesFor(c, b), { file: 1, offset: 3 });
  expect(stored(dir)).toEqual([a, c, b]);
});

test("empty lines are no records", () => {
  const { dir, store } = aStore();
  const record = aRecord();
  store.append(Buffer.from("\n\n"), { file: 1, offset: 2 });
  store.append(Buffer.concat([Buffer.from("\n"), linesFor(record), Buffer.from("\n")]), { file: 1, offset: 3 });
  expect(stored(dir)).toEqual([record]);
});

test("records of any length are chained and stored, and a long one takes no memory for ever", () => {
  const { dir, store } = aStore();
  const lengths = [1, 200_000, 5, 3_000_000, 10, 65_536, 65_000];
  const records = lengths.map((length) => aRecord({ path: `/${"x".repeat(length)}`, error: "\u0001".repeat(7) }));
  store.append(linesFor(...records.slice(0, 5)), { file: 1, offset: 1 });
  store.append(linesFor(...records.slice(5)), { file: 1, offset: 2 });
  expect(stored(dir)).toEqual(records);
});

test("more different names than are remembered keep their numbers apart", () => {
  const { dir, store } = aStore();
  const records = Array.from({ length: 60_000 }, (_, i) => aRecord({ host: `h${i % 55_000}.example`, sni: null }));
  for (let i = 0; i < records.length; i += 5_000)
    store.append(linesFor(...records.slice(i, i + 5_000)), { file: 1, offset: i });
  expect(stored(dir).map((r) => r.host)).toEqual(records.map((r) => r.host));
});
