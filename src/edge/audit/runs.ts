// Where the runs of records in the database begin and end.
import type { Database } from "better-sqlite3";
import { type ChainPoint, GENESIS } from "../../audit/hash-chain.ts";
import { Run } from "../../audit/packed.ts";

/** A row of `records`. */
export interface StoredRun {
  /** The number of its first record. */
  readonly seq: number;
  /** Bytes, unless somebody put something else there. */
  readonly packed: unknown;
}

/** Bytes as text; of what somebody put in their place nothing, so that `verify` tells. */
export const encoded = (value: unknown, encoding: "hex" | "base64"): string =>
  Buffer.isBuffer(value) ? value.toString(encoding) : "";

/** The number of the first record; null: there is none. */
export const firstSeq = (db: Database): number | null =>
  db.prepare<[], number | null>("SELECT min(seq) FROM records").pluck().get() ?? null;

/** The last record; null: there is none. Of a damaged one the hash is what stands in its place. */
export function lastRecord(db: Database): ChainPoint | null {
  const last = db.prepare<[], StoredRun>("SELECT seq, packed FROM records ORDER BY seq DESC LIMIT 1").get();
  if (last === undefined) return null;
  const run = new Run(last.packed);
  return { seq: last.seq + run.count - 1, hash: run.hash(run.count - 1) };
}

/** Where the chain ends: at the last record, else at the head that stands for all that were pruned, else at the beginning. */
export function chainEnd(db: Database): ChainPoint {
  const base = db
    .prepare<[], { seq: number; hash: unknown }>("SELECT seq, hash FROM heads WHERE base = 1 ORDER BY seq DESC LIMIT 1")
    .get();
  const last = lastRecord(db);
  if (last !== null && last.seq > (base?.seq ?? 0)) return last;
  return base === undefined ? { seq: 0, hash: GENESIS } : { seq: base.seq, hash: encoded(base.hash, "hex") };
}
