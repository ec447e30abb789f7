import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import Database from "better-sqlite3";
import { expect, test } from "vitest";
import { chainHash, GENESIS, signHead } from "../../../src/audit/hash-chain.ts";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { entryOf, ROW_KEYS, recordOf, rowOf, rowText } from "../../../src/audit/row.ts";
import { blockOf, Signature } from "../../../src/audit/signature.ts";
import { databaseFile, keyFile, lockFolder } from "../../../src/edge/audit/folder.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { SCHEMA_VERSION, WORD_COLUMNS } from "../../../src/edge/audit/schema.ts";
import { signingKey } from "../../../src/edge/audit/signing-key.ts";
import { AuditStore } from "../../../src/edge/audit/store.ts";
import { verifyLog } from "../../../src/edge/audit/verify.ts";
import { aFolder, aRecord } from "./support.ts";

/** The tables of schema version 1, as its program made them. */
const VERSION_1 = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL, kind INTEGER NOT NULL, client INTEGER, host INTEGER, method INTEGER, status INTEGER,
  decision INTEGER NOT NULL, rule INTEGER, reason INTEGER, uninspected INTEGER NOT NULL, path TEXT, id TEXT NOT NULL,
  sentBytes INTEGER NOT NULL, receivedBytes INTEGER NOT NULL, address INTEGER NOT NULL, sentSha BLOB, receivedSha BLOB,
  parent TEXT, scheme INTEGER, port INTEGER, sentComplete INTEGER NOT NULL, receivedComplete INTEGER NOT NULL,
  total INTEGER NOT NULL, clientProtocol INTEGER, originProtocol INTEGER, sni INTEGER, origin INTEGER, more TEXT,
  hash BLOB NOT NULL
);
CREATE TABLE blocks (block INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, newest INTEGER NOT NULL, signature BLOB NOT NULL);
CREATE TABLE heads (
  seq INTEGER NOT NULL, base INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, base)
) WITHOUT ROWID;
`;

/** A log as version 1 wrote it, with a signed head at its end. */
function versionOne(dir: string, records: readonly AuditRecord[]): string {
  lockFolder(dir)();
  const db = new Database(databaseFile(dir));
  db.pragma("auto_vacuum = INCREMENTAL");
  db.pragma("journal_mode = WAL");
  db.exec(VERSION_1);
  db.pragma("user_version = 1");
  const marks = ROW_KEYS.map((key) => (key.endsWith("Sha") ? "unhex(?)" : "?")).join(", ");
  const insert = db.prepare(`INSERT INTO records (seq, ${ROW_KEYS.join(", ")}, hash) VALUES (?, ${marks}, unhex(?))`);
  const word = (text: string): number => {
    db.prepare("INSERT OR IGNORE INTO words (text) VALUES (?)").run(text);
    return db.prepare<[string], number>("SELECT id FROM words WHERE text = ?").pluck().get(text) as number;
  };
  let hash = GENESIS;
  const signature = new Signature();
  records.forEach((record, i) => {
    const row = rowOf(record);
    hash = chainHash(hash, i + 1, rowText(row));
    for (const key of WORD_COLUMNS) {
      const place = ROW_KEYS.indexOf(key);
      if (row[place] !== null) row[place] = word(row[place] as string);
    }
    insert.run(i + 1, ...row, hash);
    signature.add(row);
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

test("a log of version 1 is upgraded at start: every record, the chain, its heads and the place in the journal stay", () => {
  const dir = aFolder();
  const head = versionOne(dir, records);
  expect(() => new AuditReader(dir)).toThrow(/start the proxy once to upgrade/);
  const store = new AuditStore(dir);
  expect(store.takenIn).toEqual({ file: 3, offset: 77 });
  expect(store.db.pragma("user_version", { simple: true })).toBe(SCHEMA_VERSION);
  store.append([entryOf(aRecord({ host: "new.example" }))], { file: 3, offset: 99 });
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
});

test("an upgrade that fails leaves the log as it was", () => {
  const dir = aFolder();
  versionOne(dir, records.slice(0, 10));
  const db = new Database(databaseFile(dir));
  db.exec("CREATE TABLE unpacked (x)"); // in the way of the upgrade's last steps
  db.close();
  expect(() => new AuditStore(dir)).toThrow();
  const after = new Database(databaseFile(dir), { readonly: true });
  expect(after.pragma("user_version", { simple: true })).toBe(1);
  expect(after.prepare("SELECT count(path) AS n FROM records").get()).toEqual({ n: 8 });
  after.close();
});

test("what was tampered with before the upgrade is named after it", () => {
  const dir = aFolder();
  versionOne(dir, records.slice(0, 10));
  const db = new Database(databaseFile(dir));
  db.exec("UPDATE records SET path = '/other' WHERE seq = 6");
  db.close();
  new AuditStore(dir).close();
  const reader = new AuditReader(dir);
  expect(verifyLog(dir, reader, { key: null, head: null }).problem).toMatchObject({ kind: "changed", seq: 6 });
  reader.close();
});
