// The tables of the database, and how an older one becomes a newer one.
import type { Database } from "better-sqlite3";
import { COLUMN_KEYS, Packer } from "../../audit/packed.ts";
import { AT, ROW_KEYS, type Row } from "../../audit/row.ts";

export const SCHEMA_VERSION = 2;

/** Values that repeat are words: numbers in `records`, text in `words`. */
export const WORD_COLUMNS = [
  "kind",
  "client",
  "address",
  "decision",
  "rule",
  "reason",
  "method",
  "scheme",
  "host",
  "clientProtocol",
  "originProtocol",
  "sni",
  "origin",
] as const;

/** `packed`: the hash and all values that have no column (see audit/packed.ts). */
const RECORDS = `
CREATE TABLE records (
  seq INTEGER PRIMARY KEY, ${COLUMN_KEYS.map((key) => `${key} ${key === "path" ? "TEXT" : "INTEGER"}`).join(", ")},
  packed BLOB NOT NULL
);
`;

const TABLES = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
${RECORDS}
-- What may be found in each 1,024 records (see audit/signature.ts), and between which times they began.
CREATE TABLE blocks (block INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, newest INTEGER NOT NULL, signature BLOB NOT NULL);
CREATE TABLE heads (
  seq INTEGER NOT NULL, base INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, base)
) WITHOUT ROWID;
`;

/** The same error, or for a database that is damaged one that says what to do. */
export function explained(error: unknown, file: string): unknown {
  const code = (error as { code?: string }).code ?? "";
  if (!/^SQLITE_(?:NOTADB|CORRUPT)/.test(code)) return error;
  return new Error(
    `the audit database ${file} is damaged (${code}): move it elsewhere, with the files beside it that begin with its name, and start again; a new log begins, and what waits in the journal is taken in`,
    { cause: error },
  );
}

/** Version 1 had a column for each value. Hashes cover the same text in both, so that the chain and its heads stay good. */
function packColumns(db: Database): void {
  db.exec(`ALTER TABLE records RENAME TO unpacked; ${RECORDS}`);
  const values = ROW_KEYS.map((key) => (key.endsWith("Sha") ? `iif(${key} IS NULL, NULL, lower(hex(${key})))` : key));
  const next = db
    .prepare<[number], [number, string, ...Row]>(
      `SELECT seq, lower(hex(hash)), ${values.join(", ")} FROM unpacked WHERE seq > ? ORDER BY seq LIMIT 1000`,
    )
    .raw();
  const insert = db.prepare(insertRecords(1));
  const packer = new Packer();
  for (let last = 0; ; ) {
    const lines = next.all(last);
    for (const [seq, hash, ...row] of lines) {
      insert.run(seq, ...COLUMN_KEYS.map((key) => row[AT[key]]), packer.pack(row, hash));
      packer.reset();
      last = seq;
    }
    if (lines.length === 0) break;
  }
  db.exec("DROP TABLE unpacked");
}

/** The statement that inserts so many records at once: for each its number, its columns and what is packed. */
export function insertRecords(count: number): string {
  const marks = `(${"?, ".repeat(COLUMN_KEYS.length + 1)}?)`;
  return `INSERT INTO records (seq, ${COLUMN_KEYS.join(", ")}, packed) VALUES ${new Array(count).fill(marks).join(", ")}`;
}

/** From version n, which is the key, to n + 1. */
const UPGRADES: Readonly<Record<number, (db: Database) => void>> = { 1: packColumns };

/** Makes or upgrades the tables in one transaction. Throws when the database is newer than this program. */
export function prepareSchema(db: Database): void {
  if (versionOf(db) === SCHEMA_VERSION) return;
  db.transaction(() => {
    const version = versionOf(db);
    if (version === 0) db.exec(TABLES);
    else for (let v = version; v < SCHEMA_VERSION; v++) UPGRADES[v]?.(db);
    db.pragma(`user_version = ${SCHEMA_VERSION}`);
  }).immediate();
}

/** The version of the database. Throws when it is newer than this program. */
export function versionOf(db: Database): number {
  const version = Number(db.pragma("user_version", { simple: true }));
  if (version > SCHEMA_VERSION) {
    throw new Error(
      `the audit database has schema version ${version} and this program knows ${SCHEMA_VERSION}: use the newer sallyport that made it`,
    );
  }
  return version;
}
