import { createPrivateKey, createPublicKey } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import Database, { type Database as Db } from "better-sqlite3";
import { expect, onTestFinished, test } from "vitest";
import { type ChainPoint, headIsGenuine, type SignedHead } from "../../../src/audit/hash-chain.ts";
import { PackedRecord, Run } from "../../../src/audit/packed.ts";
import { rowOf, rowText } from "../../../src/audit/row.ts";
import { databaseFile, keyFile, lockFolder } from "../../../src/edge/audit/folder.ts";
import { journalFile } from "../../../src/edge/audit/journal-files.ts";
import { countTo, lastBefore, lastBeyond, NotPruned, pruneTo, usedBytes } from "../../../src/edge/audit/prune.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { explained, SCHEMA_VERSION } from "../../../src/edge/audit/schema.ts";
import { signingKey } from "../../../src/edge/audit/signing-key.ts";
import { AuditStore } from "../../../src/edge/audit/store.ts";
import { newestHead, type Verification, verifyLog } from "../../../src/edge/audit/verify.ts";
import { WordSweep } from "../../../src/edge/audit/word-sweep.ts";
import { aFolder, aRecord, linesFor } from "./support.ts";
import { tamper } from "./tamper.ts";

/** A log of `count` records with a signed head after the first half and at the end. */
function aLog(count: number): string {
  const dir = aFolder();
  lockFolder(dir)();
  const store = new AuditStore(dir);
  const key = signingKey(dir);
  const records = Array.from({ length: count }, (_, i) =>
    aRecord({ at: 1_000 * i, path: `/${i + 1}`, host: `h${i}.example` }),
  );
  store.append(linesFor(...records.slice(0, count / 2)), { file: 0, offset: 0 });
  store.sign(1, key);
  store.append(linesFor(...records.slice(count / 2)), { file: 0, offset: 0 });
  store.sign(2, key);
  store.close();
  return dir;
}

function verified(dir: string, head: ChainPoint | null = null): Verification {
  const reader = new AuditReader(dir);
  try {
    const key = createPublicKey(createPrivateKey(readFileSync(keyFile(dir))));
    return verifyLog(dir, reader, { key, head });
  } finally {
    reader.close();
  }
}

const swap = (db: Db): void => {
  db.exec(
    "UPDATE records SET seq = -1 WHERE seq = 4; UPDATE records SET seq = 4 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = -1",
  );
};

/** Takes the first bit that is set out of the index. */
function clearBit(db: Db): void {
  const { signature } = db.prepare("SELECT signature FROM blocks").get() as { signature: Buffer };
  const at = signature.findIndex((byte) => byte !== 0);
  const byte = signature[at] as number;
  signature[at] = byte & (byte - 1);
  db.prepare("UPDATE blocks SET signature = ?").run(signature);
}

test.each<[string, string, number, string | ((db: Db) => void)]>([
  ["a changed path", "changed", 3, "UPDATE records SET packed = edited(packed, 'path', '/other') WHERE seq = 3"],
  ["a changed status", "changed", 10, "UPDATE records SET packed = edited(packed, 'status', 500) WHERE seq = 10"],
  [
    "a changed digest",
    "changed",
    2,
    `UPDATE records SET packed = edited(packed, 'sentSha', '${"0".repeat(64)}') WHERE seq = 2`,
  ],
  ["a changed time", "changed", 7, "UPDATE records SET packed = edited(packed, 'at', 6001) WHERE seq = 7"],
  ["a changed word, which many records share", "changed", 1, "UPDATE words SET text = 'PUT' WHERE text = 'GET'"],
  ["a word that is gone", "changed", 6, "DELETE FROM words WHERE text = 'h5.example'"],
  [
    "a changed hash",
    "changed",
    8,
    `UPDATE records SET packed = edited(packed, 'hash', '${"0".repeat(64)}') WHERE seq = 8`,
  ],
  ["a changed id", "changed", 11, "UPDATE records SET packed = edited(packed, 'id', '01') WHERE seq = 11"],
  [
    "a byte behind a run, where another record could stand",
    "changed",
    5,
    "UPDATE records SET packed = CAST(packed || x'00' AS BLOB) WHERE seq = 4",
  ],
  ["a record that is cut short", "changed", 5, "UPDATE records SET packed = substr(packed, 1, 60) WHERE seq = 5"],
  ["a last record with nothing in it", "changed", 12, "UPDATE records SET packed = x'' WHERE seq = 12"],
  ["a record that is text", "changed", 9, "UPDATE records SET packed = 'nothing' WHERE seq = 9"],
  ["a missing record", "missing", 5, "DELETE FROM records WHERE seq = 5"],
  ["missing first records", "missing", 1, "DELETE FROM records WHERE seq <= 3"],
  ["two records in another order", "reordered", 4, swap],
  ["a tail that was cut off", "cut-off", 8, "DELETE FROM records WHERE seq >= 8"],
  ["everything gone", "cut-off", 1, "DELETE FROM records"],
  ["an index without a block", "index", 1, "DELETE FROM blocks"],
  ["an index that hides all", "index", 1, "UPDATE blocks SET signature = zeroblob(8192)"],
  ["an index that hides one bit", "index", 1, (db: Db): void => clearBit(db)],
  ["an index that is too short", "index", 1, "UPDATE blocks SET signature = x'ff'"],
  ["an index that is text", "index", 1, "UPDATE blocks SET signature = 'nothing'"],
  ["an index of earlier times", "index", 1, "UPDATE blocks SET newest = 10999"],
  ["an index of later times", "index", 1, "UPDATE blocks SET oldest = 1"],
  ["an index whose first time is an empty text", "index", 1, "UPDATE blocks SET oldest = ''"],
  ["an index whose first time is empty bytes", "index", 1, "UPDATE blocks SET oldest = x''"],
  ["an index whose times are none", "index", 1, "UPDATE blocks SET oldest = 'x', newest = 'x'"],
  ["a head whose bytes are a number", "changed", 6, "UPDATE heads SET hash = 5"],
  ["a head whose signature is a number", "head", 6, "UPDATE heads SET signature = 5"],
  ["a head of another key", "head", 6, "UPDATE heads SET signature = zeroblob(64) WHERE seq = 6"],
  [
    "a beginning that was cut off up to a signed head",
    "head",
    6,
    "DELETE FROM records WHERE seq <= 6; INSERT INTO heads SELECT seq, 1, hash, at, signature FROM heads WHERE seq = 6",
  ],
  [
    "a pruning that nobody signed",
    "head",
    3,
    "DELETE FROM records WHERE seq <= 3; INSERT INTO heads SELECT 3, 1, zeroblob(32), 1, zeroblob(64)",
  ],
])("verify names %s", (_name, kind, seq, change) => {
  const dir = aLog(12);
  expect(verified(dir)).toMatchObject({
    ok: true,
    records: 12,
    first: 1,
    last: 12,
    problem: null,
    torn: 0,
    waiting: 0,
  });
  tamper(dir, change);
  const { ok, problem } = verified(dir);
  expect(ok).toBe(false);
  if (kind === "head" && seq === 3) expect(problem?.kind).toMatch(/head|changed/);
  else expect(problem).toMatchObject({ kind, seq });
});

test.each<[string, number, string]>([
  ["a byte that was changed", 9, "UPDATE records SET packed = turned(packed, 2.5) WHERE seq = 7"],
  [
    "a run that is cut short",
    10,
    "UPDATE records SET packed = substr(packed, 1, length(packed) * 7 / 12) WHERE seq = 7",
  ],
  ["a run with nothing in it", 1, "UPDATE records SET packed = x'' WHERE seq = 1"],
])("verify names the record in its run: %s", (_name, seq, change) => {
  const dir = aLog(12);
  const db = new Database(databaseFile(dir));
  expect(db.prepare("SELECT seq FROM records").pluck().all()).toEqual([1, 7]);
  db.function("turned", (packed: unknown, record: unknown) => {
    const bytes = Buffer.from(packed as Buffer);
    const at = Math.floor((bytes.length / 6) * (record as number));
    bytes[at] = (bytes[at] as number) ^ 1;
    return bytes;
  });
  db.exec(change);
  db.close();
  expect(verified(dir).problem).toMatchObject({ kind: "changed", seq });
});

test("a head that was kept elsewhere shows a tail that was cut off with its heads, and a rewritten chain", () => {
  const dir = aLog(12);
  const reader = new AuditReader(dir);
  const kept = newestHead(reader) as ChainPoint;
  reader.close();
  expect(verified(dir, kept).ok).toBe(true);
  expect(verified(dir, { ...kept, hash: "0".repeat(64) }).problem).toMatchObject({ kind: "changed", seq: 12 });
  tamper(dir, "DELETE FROM records WHERE seq > 6; DELETE FROM heads WHERE seq > 6");
  expect(verified(dir).ok).toBe(true);
  expect(verified(dir, kept).problem).toMatchObject({ kind: "cut-off", seq: 7 });
});

test("pruning by age and by size leaves a chain that verifies, and new records go on from it", () => {
  const dir = aLog(1_000);
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  const key = signingKey(dir);
  expect(pruneTo(db, lastBefore(db, 300_000), 5, key)).toBe(300);
  expect(verified(dir)).toMatchObject({ ok: true, records: 700, first: 301, prunedTo: 300 });
  const size = usedBytes(db) * 0.6;
  pruneTo(db, lastBeyond(db, size), 6, key);
  const left = verified(dir);
  expect(left).toMatchObject({ ok: true });
  expect(left.records).toBeLessThan(500);
  expect(left.records).toBeGreaterThan(200);
  pruneTo(db, 1_000, 7, key);
  const reader = new AuditReader(dir);
  const head = newestHead(reader);
  reader.close();
  expect(head).toMatchObject({ seq: 1_000, at: 7 });
  expect(headIsGenuine(head as SignedHead, createPublicKey(key))).toBe(true); // good outside the log, too
  const store = new AuditStore(dir);
  store.append(linesFor(aRecord()), { file: 0, offset: 0 });
  store.close();
  expect(verified(dir)).toMatchObject({ ok: true, records: 1, first: 1_001, prunedTo: 1_000 });
  tamper(dir, "DELETE FROM records");
  tamper(dir, "UPDATE heads SET seq = 900");
  expect(verified(dir).ok).toBe(false);
});

test("a reader that was there before does not take a new word for an old one", () => {
  const dir = aFolder();
  const store = new AuditStore(dir);
  const add = (host: string): void => store.append(linesFor(aRecord({ host })), { file: 0, offset: 0 });
  add("old.example");
  const reader = new AuditReader(dir);
  const hosts = (): (string | null)[] => [...reader.oldest({})].map((s) => s.record.host);
  expect(hosts()).toEqual(["old.example"]);
  pruneTo(store.db, 1, 5, signingKey(dir));
  expect(new WordSweep(store.db).step(1_000)).toBe(true);
  store.forgetWords();
  add("new.example");
  expect(hosts()).toEqual(["new.example"]);
  reader.close();
  store.close();
});

test("pages are given back in steps, between which others may write", () => {
  const dir = aLog(100);
  const db = new Database(databaseFile(dir));
  const other = new Database(databaseFile(dir), { timeout: 0 });
  const pages = (): number => Number(db.pragma("page_count", { simple: true }));
  db.exec("CREATE TABLE junk (b); INSERT INTO junk VALUES (zeroblob(60000000)); DROP TABLE junk");
  const sizes = [pages()];
  pruneTo(db, 50, 5, signingKey(dir), Number.POSITIVE_INFINITY, () => {
    other.exec("BEGIN IMMEDIATE; COMMIT");
    sizes.push(pages());
  });
  const steps = sizes.slice(1).map((size, i) => (sizes[i] as number) - size);
  expect(Math.max(...steps)).toBeLessThan(3_000);
  expect(Number(db.pragma("freelist_count", { simple: true }))).toBe(0);
  expect(steps.length).toBeGreaterThan(3);
  other.close();
  db.close();
});

test("what prunes by age does not believe the index of blocks", () => {
  const dir = aLog(12);
  for (const change of ["UPDATE blocks SET newest = 0", "DELETE FROM blocks"]) {
    tamper(dir, change);
    const db = new Database(databaseFile(dir));
    expect(lastBefore(db, 5_000)).toBe(5);
    expect(lastBefore(db, 5_000, 3)).toBe(3);
    db.close();
  }
});

test("pruning may end anywhere in a run", () => {
  const dir = aLog(300);
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  const key = signingKey(dir);
  for (const last of [1, 2, 127, 128, 129, 150, 299]) {
    const left = countTo(db, last);
    expect(lastBefore(db, 1_000 * last)).toBe(last);
    expect(pruneTo(db, last, 5, key)).toBe(left);
    expect(countTo(db, last)).toBe(0);
    expect(verified(dir)).toMatchObject({ ok: true, records: 300 - last, first: last + 1, prunedTo: last });
  }
  expect(pruneTo(db, 299, 5, key)).toBe(0);
  expect(lastBefore(db, 0)).toBe(299);
  expect(lastBefore(db, 1_000_000)).toBe(300);
});

/** Leaves of the first `last` records only one that is damaged, with the hash that the chain goes on from. */
function cutWithDamage(db: Db, last: number): void {
  const run = db
    .prepare<[number], { seq: number; packed: Buffer }>(
      "SELECT * FROM records WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
    )
    .get(last) as { seq: number; packed: Buffer };
  const records = new Run(run.packed);
  const seq = run.seq + records.count - 1;
  const hash = Buffer.from(records.hash(records.count - 1), "hex");
  db.exec(`DELETE FROM records WHERE seq <= ${seq}; DELETE FROM heads WHERE seq <= ${seq}`);
  db.prepare("INSERT INTO records VALUES (?, ?)").run(
    seq,
    Buffer.concat([Buffer.from([0, 0, 0, 33]), hash, Buffer.of(0)]),
  );
}

const FORGERIES: [string, string | ((db: Db) => void)][] = [
  ["are gone but for a damaged one", (db) => cutWithDamage(db, 200)],
  ["are gone", "DELETE FROM records WHERE seq < 100"],
  [
    "are gone, and a false mark stands for them",
    (db) => {
      const { hash } = new PackedRecord().read(
        new Run((db.prepare("SELECT packed FROM records WHERE seq = 99").get() as { packed: Buffer }).packed),
        0,
      );
      db.exec("DELETE FROM records WHERE seq < 100");
      db.prepare("INSERT INTO heads VALUES (99, 1, ?, 1, zeroblob(64))").run(Buffer.from(hash, "hex"));
    },
  ],
  ["were changed", "UPDATE records SET packed = edited(packed, 'path', '/other') WHERE seq = 50"],
  ["lack one", "DELETE FROM records WHERE seq = 50"],
  ["have a head that is not theirs", "UPDATE heads SET hash = zeroblob(32) WHERE seq = 150"],
  ["have a head that nobody signed", "UPDATE heads SET signature = zeroblob(64) WHERE seq = 150"],
  ["begin with a number that is none", "UPDATE records SET seq = -5 WHERE seq = 1"],
];

test.each(FORGERIES)("the key signs no mark for records that %s", (_what, change) => {
  const dir = aLog(300);
  tamper(dir, change);
  expect(verified(dir).ok).toBe(false);
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  const marks = () => db.prepare("SELECT count(*) FROM heads WHERE base = 1").pluck().get();
  const before = marks();
  for (const last of [200, 300]) expect(() => pruneTo(db, last, 5, signingKey(dir))).toThrow(NotPruned);
  expect(marks()).toBe(before);
  expect(verified(dir).ok).toBe(false);
});

test("what was changed behind the records that go is told by verify afterwards, too", () => {
  const dir = aLog(300);
  tamper(dir, "UPDATE records SET packed = edited(packed, 'path', '/other') WHERE seq = 250");
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  expect(pruneTo(db, 200, 5, signingKey(dir))).toBe(200);
  expect(verified(dir).problem).toMatchObject({ kind: "changed", seq: 250 });
});

test("a damaged record is not older than the records around it", () => {
  const dir = aLog(12);
  tamper(dir, "UPDATE records SET packed = x'00' WHERE seq IN (3, 6)");
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  expect(lastBefore(db, 5_000)).toBe(5);
  expect(lastBefore(db, 6_000)).toBe(5);
  expect(lastBefore(db, 7_000)).toBe(7);
});

test("bytes that somebody else put into the database drive no records out", () => {
  const dir = aLog(100);
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  const used = usedBytes(db);
  db.exec(
    "CREATE TABLE junk (bytes); CREATE INDEX junk_bytes ON junk (bytes); INSERT INTO junk VALUES (zeroblob(3000000))",
  );
  expect(usedBytes(db)).toBeLessThan(used + 20_000);
  expect(lastBeyond(db, used + 20_000)).toBe(0);
});

test("records are packed together up to the end of their block", () => {
  const dir = aLog(2_100);
  const db = new Database(databaseFile(dir));
  onTestFinished(() => void db.close());
  const first = db.prepare<[], number>("SELECT seq FROM records ORDER BY seq").pluck().all();
  expect(first.slice(0, 3)).toEqual([1, 129, 257]);
  for (const block of [1_024, 2_048]) expect(first).toContain(block);
  expect(first.length).toBeLessThan(25);
});

test("a torn tail of the journal is told apart from tampering", () => {
  const dir = aLog(2);
  appendFileSync(journalFile(dir, 1), `${rowText(rowOf(aRecord()))}\n[1700,"e`);
  expect(verified(dir)).toMatchObject({ ok: true, waiting: 1, torn: 8 });
});

test.each([1e300, 9e15, -9e15])("a record whose time is none is damaged: %d", (at) => {
  const dir = aLog(3);
  tamper(dir, `UPDATE records SET packed = edited(packed, 'at', ${at}) WHERE seq = 2`);
  const reader = new AuditReader(dir);
  onTestFinished(() => reader.close());
  expect([...reader.oldest({})].map((r) => r.seq)).toEqual([1, 3]);
  expect(reader.totals({})).toMatchObject({ records: 2, from: 0, to: 2_000 });
  expect([...reader.damage.records]).toEqual([2]);
  expect(verified(dir).problem).toMatchObject({ kind: "changed", seq: 2 });
});

test("a damaged record is left out and named by a query, and does not keep the house from starting", () => {
  const dir = aLog(12);
  tamper(dir, "UPDATE records SET packed = x'00' WHERE seq = 12");
  const reader = new AuditReader(dir);
  onTestFinished(() => reader.close());
  expect(reader.newest({}, 2).map((r) => r.seq)).toEqual([11, 10]);
  expect([...reader.damage.records]).toEqual([12]);
  expect(reader.newest({ path: "/7" }, 1)).toHaveLength(1);
  expect(reader.newest({ id: "01" }, 1)).toHaveLength(0);
  const store = new AuditStore(dir);
  store.append(linesFor(aRecord()), { file: 0, offset: 0 });
  store.close();
  expect(verified(dir).problem).toMatchObject({ kind: "changed", seq: 12 });
});

test.each<[string, RegExp]>([
  ["SQLITE_CANTOPEN", /run it as the user that owns it/],
  ["SQLITE_READONLY_DIRECTORY", /copy the folder to where you may write/],
  ["SQLITE_IOERR_READ", /cannot use audit\.db: what SQLite says \(SQLITE_IOERR_READ\)$/],
])("what to do about %s", (code, wanted) => {
  const told = explained(Object.assign(new Error("what SQLite says"), { code }), "audit.db");
  expect((told as Error).message).toMatch(wanted);
});

test("a newer schema is refused, for writing and for reading", () => {
  const dir = aLog(2);
  tamper(dir, (db) => db.pragma(`user_version = ${SCHEMA_VERSION + 1}`));
  expect(() => new AuditStore(dir)).toThrow(/newer sallyport/);
  expect(() => new AuditReader(dir)).toThrow(/newer sallyport/);
});
