// What somebody does to a log who has its database and knows its format.
import Database, { type Database as Db } from "better-sqlite3";
import { LineValues } from "../../../src/audit/line-values.ts";
import { PackedRecord, Run } from "../../../src/audit/packed.ts";
import { Packer } from "../../../src/audit/packer.ts";
import { AT, type Row, type RowKey, rowText, type Value } from "../../../src/audit/row.ts";
import { databaseFile } from "../../../src/edge/audit/folder.ts";

/** A run of one record with these values, in which words are numbers. */
export function packed(row: Row, hash: string): Buffer {
  const line = new LineValues(false);
  if (!line.take(rowText(row))) throw new Error("no row");
  const packer = new Packer();
  packer.add(line, Buffer.from(hash, "latin1"));
  return Buffer.from(packer.take());
}

/** `edited(packed, key, value)` in SQL: the same record with another value; the key `hash` too. */
function edited(old: unknown, key: unknown, value: unknown): Buffer {
  const record = new PackedRecord().read(new Run(old), 0);
  const row = record.row([]);
  if (key === "hash") return packed(row, value as string);
  row[AT[key as RowKey]] = value as Value;
  return packed(row, record.hash);
}

/** Puts each record into a run of its own. */
function separate(db: Db): void {
  const runs = db.prepare<[], { seq: number; packed: Buffer }>("SELECT seq, packed FROM records").all();
  const insert = db.prepare("INSERT INTO records (seq, packed) VALUES (?, ?)");
  db.exec("DELETE FROM records");
  for (const { seq, packed: bytes } of runs) {
    const run = new Run(bytes);
    for (let i = 0; i < run.count; i++) {
      const rest = Buffer.from(run.without(i));
      insert.run(seq + i, rest.subarray(0, rest.length - run.without(i + 1).length));
    }
  }
}

/** Works on the database of a log in which each record is a row of the table `records`. */
export function tamper(dir: string, work: string | ((db: Db) => void)): void {
  const db = new Database(databaseFile(dir));
  db.function("edited", edited);
  separate(db);
  if (typeof work === "string") db.exec(work);
  else work(db);
  db.close();
}
