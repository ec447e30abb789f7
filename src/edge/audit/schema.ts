// The tables of the database, and how an older one becomes a newer one.
import type { Database } from "better-sqlite3";
import { packRuns } from "./schema-upgrade.ts";

export const SCHEMA_VERSION = 3;

/** `packed`: a run of records (see audit/packed.ts), all of one block; `seq`: the number of the first of them. */
const RECORDS = "CREATE TABLE records (seq INTEGER PRIMARY KEY, packed BLOB NOT NULL);";

export const INSERT_RUN = "INSERT INTO records (seq, packed) VALUES (?, ?)";

const TABLES = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- Values that repeat: their numbers in records, their text here.
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
${RECORDS}
-- What may be found in each 1,024 records (see audit/signature.ts), and between which times they began.
CREATE TABLE blocks (block INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, newest INTEGER NOT NULL, signature BLOB NOT NULL);
CREATE TABLE heads (
  seq INTEGER NOT NULL, base INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, base)
) WITHOUT ROWID;
`;

export const OUR_TABLES: readonly string[] = ["meta", "words", "records", "blocks", "heads"];

/** What to do where the permissions of files are the usual cause. */
const ACCESS: Readonly<Record<string, string>> = {
  SQLITE_CANTOPEN: ": run it as the user that owns it",
  SQLITE_READONLY_DIRECTORY:
    ": whoever reads it needs files beside it; run it as the user that owns the folder, or copy the folder to where you may write",
};

/** The same error, or for a database that is damaged or cannot be used one that says which it is and what to do. */
export function explained(error: unknown, file: string): unknown {
  const code = (error as { code?: string }).code ?? "";
  if (code === "SQLITE_FULL") return new Error(`cannot use ${file}: the disk is full`, { cause: error });
  if (/^SQLITE_(?:IOERR|CANTOPEN|READONLY)/.test(code)) {
    const hint = ACCESS[code] ?? "";
    return new Error(`cannot use ${file}: ${(error as Error).message} (${code})${hint}`, { cause: error });
  }
  const lacks = code === "SQLITE_ERROR" && /^no such (?:table|column)/.test((error as Error).message);
  if (!lacks && !/^SQLITE_(?:NOTADB|CORRUPT)/.test(code)) return error;
  return new Error(
    `the audit database ${file} is damaged (${lacks ? (error as Error).message : code}): move it elsewhere, with the files beside it that begin with its name, and start again; a new log begins, and what waits in the journal is taken in`,
    { cause: error },
  );
}

/** Makes or upgrades the tables in one transaction. Throws when the database is newer than this program. */
export function prepareSchema(db: Database): void {
  if (versionOf(db) === SCHEMA_VERSION) return;
  db.transaction(() => {
    const version = versionOf(db);
    if (version === 0) db.exec(TABLES);
    else packRuns(db, version, RECORDS, INSERT_RUN);
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
