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
  id BLOB NOT NULL, parent BLOB, at INTEGER NOT NULL, kind INTEGER NOT NULL, client INTEGER, address INTEGER NOT NULL,
  decision INTEGER NOT NULL, rule INTEGER, reason INTEGER, method INTEGER, scheme INTEGER, host INTEGER, port INTEGER,
  path TEXT, status INTEGER, sentBytes INTEGER NOT NULL, sentSha BLOB, sentComplete INTEGER NOT NULL,
  receivedBytes INTEGER NOT NULL, receivedSha BLOB, receivedComplete INTEGER NOT NULL, total INTEGER NOT NULL,
  uninspected INTEGER NOT NULL, clientProtocol INTEGER, originProtocol INTEGER, sni INTEGER, origin INTEGER, more TEXT,
  hash BLOB NOT NULL
);
CREATE INDEX records_id ON records (id);
CREATE INDEX records_at ON records (at);
CREATE INDEX records_client ON records (client);
CREATE INDEX records_host ON records (host);
CREATE INDEX records_method ON records (method);
CREATE INDEX records_path ON records (substr(path, 1, 48));
CREATE INDEX records_status ON records (status);
CREATE INDEX records_decision ON records (decision);
CREATE INDEX records_rule ON records (rule);
CREATE INDEX records_reason ON records (reason);
CREATE INDEX records_uninspected ON records (seq) WHERE uninspected = 1;
CREATE TABLE digests (start INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (start, seq)) WITHOUT ROWID;
CREATE TABLE heads (
  seq INTEGER NOT NULL, base INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, base)
) WITHOUT ROWID;
`;

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

/** The first 48 bits of a digest (hex), which is what the index of digests holds. */
export const digestStart = (sha256: string): number => Number.parseInt(sha256.slice(0, 12), 16);
