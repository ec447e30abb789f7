// Older databases: version 1 had a column for each value of a record, version 2 a row for each record, with columns for what was asked
// for and the rest packed. Hashes cover the same text in all of them, so that the chain and its heads stay good.
import type { Database } from "better-sqlite3";
import { LineValues } from "../../audit/line-values.ts";
import { AT, ROW_KEYS, type Row, type RowKey, rowText, type Value } from "../../audit/row.ts";
import { RunWriter } from "./run-writer.ts";

/** A record of an older database: its number, its hash (hex), and its row, in which words are numbers. */
type OldRecord = readonly [seq: number, hash: string, row: Row];

/** Turns the records of version 1 or 2 into runs. `create`: the statement that makes the table for them; `insert`: see RunWriter. */
export function packRuns(db: Database, version: number, create: string, insert: string): void {
  db.exec(`ALTER TABLE records RENAME TO unpacked; ${create}`);
  const runs = new RunWriter(db, insert);
  const line = new LineValues(false);
  for (const [seq, hash, row] of version === 1 ? versionOne(db) : versionTwo(db)) {
    // What is damaged stays so, for `verify` to tell.
    if (line.take(rowText(row)) && /^[0-9a-f]{64}$/.test(hash)) runs.add(seq, line, Buffer.from(hash, "latin1"));
    else runs.addDamaged(seq, Buffer.from(hash, "hex"));
  }
  runs.store();
  db.exec("DROP TABLE unpacked");
}

const STEP = 1_000;

/** All lines of the old table in their order, a thousand at a time; `columns` are what follows the number. */
function* linesOf(db: Database, columns: string): Generator<[number, ...unknown[]]> {
  const next = db
    .prepare<[number], [number, ...unknown[]]>(
      `SELECT seq, ${columns} FROM unpacked WHERE seq > ? ORDER BY seq LIMIT ${STEP}`,
    )
    .raw();
  for (let last = 0; ; ) {
    const lines = next.all(last);
    yield* lines;
    if (lines.length < STEP) return;
    last = lines.at(-1)?.[0] as number;
  }
}

function* versionOne(db: Database): Generator<OldRecord> {
  const values = ROW_KEYS.map((key) => (key.endsWith("Sha") ? `iif(${key} IS NULL, NULL, lower(hex(${key})))` : key));
  for (const [seq, hash, ...row] of linesOf(db, `lower(hex(hash)), ${values.join(", ")}`))
    yield [seq, hash as string, row as Row];
}

/** The values that had columns in version 2. */
const COLUMNS: readonly RowKey[] = [
  "at",
  "kind",
  "client",
  "host",
  "method",
  "status",
  "decision",
  "rule",
  "reason",
  "uninspected",
  "path",
  "address",
  "sentBytes",
  "receivedBytes",
  "total",
];

/** All others in the order in which they were packed behind the hash, and how: as number, text or digest. */
const PACKED: readonly (readonly [RowKey, "number" | "text" | "digest"])[] = [
  ["id", "text"],
  ["sentSha", "digest"],
  ["receivedSha", "digest"],
  ["more", "text"],
  ["parent", "text"],
  ["scheme", "number"],
  ["port", "number"],
  ["sentComplete", "number"],
  ["receivedComplete", "number"],
  ["clientProtocol", "number"],
  ["originProtocol", "number"],
  ["sni", "number"],
  ["origin", "number"],
];

function* versionTwo(db: Database): Generator<OldRecord> {
  for (const [seq, packed, ...columns] of linesOf(db, `packed, ${COLUMNS.join(", ")}`)) {
    const row: Row = ROW_KEYS.map(() => null);
    COLUMNS.forEach((key, i) => {
      row[AT[key]] = columns[i] as Value;
    });
    yield [seq, unpackTwo(packed as Buffer, row), row];
  }
}

/** Sets the packed values in the row, and returns the hash (hex); of a damaged record no values, so that it stays damaged. */
function unpackTwo(packed: Buffer, row: Row): string {
  try {
    const from = new VersionTwoReader(packed);
    const hash = from.hex();
    for (const [key, form] of PACKED) row[AT[key]] = from[form]();
    if (!from.ended) row.length = 0;
    return hash;
  } catch {
    row.length = 0;
    return "";
  }
}

/** Throws RangeError at the end of the bytes. */
class VersionTwoReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get ended(): boolean {
    return this.#at === this.#bytes.length;
  }

  hex(): string {
    return this.#take(32).toString("hex");
  }

  /** 0: null, 1: eight bytes of a double follow, else the number and 2. */
  number(): number | null {
    const whole = this.#whole();
    if (whole === 1) return this.#take(8).readDoubleBE();
    return whole === 0 ? null : whole - 2;
  }

  /** 0: null, else the length in bytes and 1, and UTF-8. */
  text(): string | null {
    const length = this.#whole();
    return length === 0 ? null : this.#take(length - 1).toString("utf8");
  }

  /** 0: null, 1: 32 bytes follow, 2: text follows. */
  digest(): string | null {
    const tag = this.#take(1)[0];
    return tag === 0 ? null : tag === 1 ? this.hex() : this.text();
  }

  /** Seven bits in each byte, the lowest first. */
  #whole(): number {
    let value = 0;
    for (let unit = 1; unit <= 2 ** 49; unit *= 128) {
      const byte = this.#take(1)[0] as number;
      if (byte < 128) return value + byte * unit;
      value += (byte - 128) * unit;
    }
    throw new RangeError("no number");
  }

  #take(count: number): Buffer {
    const start = this.#at;
    this.#at += count;
    if (!(this.#at <= this.#bytes.length)) throw new RangeError("too short");
    return this.#bytes.subarray(start, this.#at);
  }
}
