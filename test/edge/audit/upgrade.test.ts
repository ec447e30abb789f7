import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import Database, { type Database as Db } from "better-sqlite3";
import { expect, test } from "vitest";
import { chainHash, GENESIS, signHead } from "../../../src/audit/hash-chain.ts";
import { LineValues } from "../../../src/audit/line-values.ts";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { AT, ROW_KEYS, type Row, type RowKey, recordOf, rowOf, rowText, WORD_KEYS } from "../../../src/audit/row.ts";
import { blockOf, Signature } from "../../../src/audit/signature.ts";
import { databaseFile, keyFile, lockFolder } from "../../../src/edge/audit/folder.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { SCHEMA_VERSION } from "../../../src/edge/audit/schema.ts";
import { signingKey } from "../../../src/edge/audit/signing-key.ts";
import { AuditStore } from "../../../src/edge/audit/store.ts";
import { verifyLog } from "../../../src/edge/audit/verify.ts";
import { aFolder, aRecord, linesFor } from "./support.ts";

const OTHER_TABLES = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE blocks (block INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, newest INTEGER NOT NULL, signature BLOB NOT NULL);
CREATE TABLE heads (
  seq INTEGER NOT NULL, base INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, base)
) WITHOUT ROWID;
`;

/** The table of records in schema versions 1 and 2, as their programs made it. */
const RECORDS = {
  1: `CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL, kind INTEGER NOT NULL, client INTEGER, host INTEGER, method INTEGER, status INTEGER,
  decision INTEGER NOT NULL, rule INTEGER, reason INTEGER, uninspected INTEGER NOT NULL, path TEXT, id TEXT NOT NULL,
  sentBytes INTEGER NOT NULL, receivedBytes INTEGER NOT NULL, address INTEGER NOT NULL, sentSha BLOB, receivedSha BLOB,
  parent TEXT, scheme INTEGER, port INTEGER, sentComplete INTEGER NOT NULL, receivedComplete INTEGER NOT NULL,
  total INTEGER NOT NULL, clientProtocol INTEGER, originProtocol INTEGER, sni INTEGER, origin INTEGER, more TEXT,
  hash BLOB NOT NULL
);`,
  2: `CREATE TABLE records (
  seq INTEGER PRIMARY KEY, at INTEGER, kind INTEGER, client INTEGER, host INTEGER, method INTEGER, status INTEGER,
  decision INTEGER, rule INTEGER, reason INTEGER, uninspected INTEGER, path TEXT, address INTEGER, sentBytes INTEGER,
  receivedBytes INTEGER, total INTEGER,
  packed BLOB NOT NULL
);`,
};
type Old = keyof typeof RECORDS;

/** What version 2 packed, in its order. */
const PACKED: readonly RowKey[] = [
  "id",
  "sentSha",
  "receivedSha",
  "more",
  "parent",
  "scheme",
  "port",
  "sentComplete",
  "receivedComplete",
  "clientProtocol",
  "originProtocol",
  "sni",
  "origin",
];

/** A number in groups of seven bits, the lowest first. */
const whole = (n: number): number[] => (n < 128 ? [n] : [128 + (n % 128), ...whole(Math.floor(n / 128))]);

/** As version 2 packed a record. */
function packedTwo(row: Row, hash: string): Buffer {
  const parts = PACKED.map((key) => {
    const value = row[AT[key]] ?? null;
    if (value === null) return Buffer.of(0);
    if (key.endsWith("Sha")) return Buffer.from(`01${value}`, "hex");
    if (typeof value === "number") return Buffer.from(whole(value + 2));
    const text = Buffer.from(value, "utf8");
    return Buffer.concat([Buffer.from(whole(text.length + 1)), text]);
  });
  return Buffer.concat([Buffer.from(hash, "hex"), ...parts]);
}

/** Stores a row in which words are numbers. */
function insertOld(db: Db, version: Old, seq: number, row: Row, hash: string): void {
  if (version === 1) {
    const marks = ROW_KEYS.map((key) => (key.endsWith("Sha") ? "unhex(?)" : "?")).join(", ");
    const insert = db.prepare(`INSERT INTO records (seq, ${ROW_KEYS.join(", ")}, hash) VALUES (?, ${marks}, unhex(?))`);
    insert.run(seq, ...row, hash);
    return;
  }
  const columns = ROW_KEYS.filter((key) => !PACKED.includes(key));
  const marks = columns.map(() => "?").join(", ");
  const insert = db.prepare(`INSERT INTO records (seq, ${columns.join(", ")}, packed) VALUES (?, ${marks}, ?)`);
  insert.run(seq, ...columns.map((key) => row[AT[key]]), packedTwo(row, hash));
}

/** A log as an older version wrote it, with a signed head at its end. */
function oldLog(dir: string, version: Old, records: readonly AuditRecord[]): string {
  lockFolder(dir)();
  const db = new Database(databaseFile(dir));
  db.pragma("auto_vacuum = INCREMENTAL");
  db.pragma("journal_mode = WAL");
  db.exec(OTHER_TABLES + RECORDS[version]);
  db.pragma(`user_version = ${version}`);
  const word = (text: string): number => {
    db.prepare("INSERT OR IGNORE INTO words (text) VALUES (?)").run(text);
    return db.prepare<[string], number>("SELECT id FROM words WHERE text = ?").pluck().get(text) as number;
  };
  let hash = GENESIS;
  const signature = new Signature();
  records.forEach((record, i) => {
    const row = rowOf(record);
    hash = chainHash(hash, i + 1, rowText(row));
    for (const key of WORD_KEYS) {
      const place = ROW_KEYS.indexOf(key);
      if (row[place] !== null) row[place] = word(row[place] as string);
    }
    insertOld(db, version, i + 1, row, hash);
    const line = new LineValues(false);
    if (line.take(rowText(row))) signature.add(line);
  });
  const times = records.map((r) => r.at);
  db.prepare("INSERT INTO blocks VALUES (?, ?, ?, ?)").run(
    blockOf(1),
    Math.min(...times),
    Math.max(...times),
    signature.bits,
  );
  const head = signHead({ seq: records.length, hash }, 5, signingKey(dir));
  db.prepare("INSERT INTO heads VALUES (?, 0, ?, ?, ?)").run(
    head.seq,
    Buffer.from(hash, "hex"),
    head.at,
    Buffer.from(head.signature, "base64"),
  );
  db.prepare("INSERT INTO meta VALUES ('journal-file', 3), ('journal-offset', 77)").run();
  db.close();
  return hash;
}

const sha = (i: number): string => i.toString(16).padStart(64, "0");
const records = Array.from({ length: 1_000 }, (_, i) =>
  aRecord({
    path: i % 7 === 0 ? null : `/ü/${i}`,
    host: `h${i % 20}.example`,
    status: i % 3 === 0 ? null : 200 + (i % 300),
    sent: { bytes: i, sha256: sha(i), complete: i % 2 === 0, ...(i === 9 ? { parts: [sha(5_000)] } : {}) },
    notes: i % 50 === 0 ? ["host-replaced"] : [],
    parent: i % 4 === 0 ? null : aRecord().id,
    error: i === 500 ? "broke \u{1f6aa}" : null,
  }),
);

test.each<Old>([1, 2])(
  "a log of version %d is upgraded at start: every record, the chain, its heads and the place in the journal stay",
  (version) => {
    const dir = aFolder();
    const head = oldLog(dir, version, records);
    expect(() => new AuditReader(dir)).toThrow(/start the proxy once to upgrade/);
    const store = new AuditStore(dir);
    expect(store.takenIn).toEqual({ file: 3, offset: 77 });
    expect(store.db.pragma("user_version", { simple: true })).toBe(SCHEMA_VERSION);
    store.append(linesFor(aRecord({ host: "new.example" })), { file: 3, offset: 99 });
    store.close();
    const reader = new AuditReader(dir);
    const kept = { seq: records.length, hash: head };
    const key = createPublicKey(createPrivateKey(readFileSync(keyFile(dir))));
    expect(verifyLog(dir, reader, { key, head: kept })).toMatchObject({ ok: true, records: 1_001, heads: 1 });
    const found = [...reader.oldest({}, 1_000)].map((s) => s.record);
    expect(found).toEqual(records.map((r) => recordOf(rowOf(r))));
    expect(reader.newest({ digest: sha(5_000) }, 2).map((s) => s.seq)).toEqual([10]);
    expect(reader.newest({ path: "/ü/501" }, 2).map((s) => s.seq)).toEqual([502]);
    expect(reader.newest({ host: "new.example" }, 2).map((s) => s.seq)).toEqual([1_001]);
    reader.close();
  },
);

test("an upgrade that fails leaves the log as it was", () => {
  const dir = aFolder();
  oldLog(dir, 1, records.slice(0, 10));
  const db = new Database(databaseFile(dir));
  db.exec("CREATE TABLE unpacked (x)"); // in the way of the upgrade
  db.close();
  expect(() => new AuditStore(dir)).toThrow();
  const after = new Database(databaseFile(dir), { readonly: true });
  expect(after.pragma("user_version", { simple: true })).toBe(1);
  expect(after.prepare("SELECT count(path) AS n FROM records").get()).toEqual({ n: 8 });
  after.close();
});

test.each<[string, Old, string, string, number]>([
  ["a changed value", 1, "UPDATE records SET path = '/other' WHERE seq = 6", "changed", 6],
  ["a value of another type", 1, "UPDATE records SET at = 'noon' WHERE seq = 7", "changed", 7],
  ["a missing record", 1, "DELETE FROM records WHERE seq = 4", "missing", 4],
  ["a changed value", 2, "UPDATE records SET status = 500 WHERE seq = 6", "changed", 6],
  ["a record that is cut short", 2, "UPDATE records SET packed = substr(packed, 1, 50) WHERE seq = 3", "changed", 3],
  ["bytes behind a record", 2, "UPDATE records SET packed = CAST(packed || x'00' AS BLOB) WHERE seq = 5", "changed", 5],
  ["a record with nothing in it", 2, "UPDATE records SET packed = x'' WHERE seq = 10", "changed", 10],
  ["a record that is text", 2, "UPDATE records SET packed = 'nothing' WHERE seq = 8", "changed", 8],
  ["a missing record", 2, "DELETE FROM records WHERE seq = 4", "missing", 4],
])(
  "what was tampered with before the upgrade is named after it: %s (version %d)",
  (_name, version, change, kind, seq) => {
    const dir = aFolder();
    oldLog(dir, version, records.slice(0, 10));
    const db = new Database(databaseFile(dir));
    db.exec(change);
    db.close();
    new AuditStore(dir).close();
    const reader = new AuditReader(dir);
    expect(verifyLog(dir, reader, { key: null, head: null }).problem).toMatchObject({ kind, seq });
    reader.close();
  },
);
