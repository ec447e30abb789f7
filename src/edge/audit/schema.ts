// The tables of the database, and how an older one becomes a newer one.
import type { Database } from "better-sqlite3";

export const SCHEMA_VERSION = 1;

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

const TABLES = `
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

/** From version n (its place in the list) to n + 1. */
const UPGRADES: readonly ((db: Database) => void)[] = [(db) => db.exec(TABLES)];

/** Makes or upgrades the tables in one transaction. Throws when the database is newer than this program. */
export function prepareSchema(db: Database): void {
  if (versionOf(db) === SCHEMA_VERSION) return;
  db.transaction(() => {
    const version = versionOf(db);
    for (let v = version; v < SCHEMA_VERSION; v++) UPGRADES[v]?.(db);
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
