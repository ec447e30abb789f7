// Retention: the oldest records go, and a signed mark stands for them, so that the chain can still be verified. A head says only that
// the chain came by; the mark says that what was before it was pruned, which nobody without the key can say of what was cut off.
import type { KeyObject } from "node:crypto";
import type { Database } from "better-sqlite3";
import { type Meaning, type SignedHead, signHead } from "../../audit/hash-chain.ts";
import { PackedRecord, Run } from "../../audit/packed.ts";
import { AT } from "../../audit/row.ts";
import { blockOf } from "../../audit/signature.ts";
import type { Keep } from "./messages.ts";
import { firstSeq, lastRecord, type StoredRun } from "./runs.ts";
import { INSERT_RUN } from "./schema.ts";

const STEP = 5_000;
/** Free pages that are given back to the system at once. */
const PAGES = 2_000;

/**
 * Removes every record up to and including `last`, in steps that each leave a chain that verifies. Returns how many went. `rest` is
 * called between steps, when the database is not locked: another process that writes it has its turn then.
 */
export function pruneTo(
  db: Database,
  last: number,
  now: number,
  key: KeyObject,
  most = Number.POSITIVE_INFINITY,
  rest: () => void = () => {},
): number {
  let removed = 0;
  while (removed < most) {
    const n = pruneStep(db, last, now, key);
    if (n === 0) break;
    removed += n;
    rest();
  }
  if (removed > 0) giveBack(db, rest);
  return removed;
}

/** Each step moves pages from the end of the file, and holds the lock meanwhile: all at once could take minutes. */
function giveBack(db: Database, rest: () => void): void {
  const free = (): number => Number(db.pragma("freelist_count", { simple: true }));
  for (let before = Number.POSITIVE_INFINITY, left = free(); left > 0 && left < before; left = free()) {
    before = left;
    db.pragma(`incremental_vacuum(${PAGES})`);
    rest();
  }
}

function pruneStep(db: Database, last: number, now: number, key: KeyObject): number {
  return db
    .transaction(() => {
      const first = firstSeq(db);
      if (first === null || first > last) return 0;
      const upTo = Math.min(last, first + STEP - 1);
      const run = db
        .prepare<[number], StoredRun>("SELECT seq, packed FROM records WHERE seq <= ? ORDER BY seq DESC LIMIT 1")
        .get(upTo) as StoredRun;
      const records = new Run(run.packed);
      const gone = Math.min(upTo - run.seq + 1, records.count);
      const point = { seq: run.seq + gone - 1, hash: records.hash(gone - 1) };
      db.prepare("DELETE FROM heads WHERE seq <= ?").run(point.seq);
      for (const meaning of ["head", "base"] as const) keepHead(db, signHead(point, now, key, meaning), meaning);
      db.prepare("DELETE FROM blocks WHERE block < ?").run(blockOf(point.seq + 1));
      db.prepare("DELETE FROM records WHERE seq <= ?").run(point.seq);
      if (gone < records.count) db.prepare(INSERT_RUN).run(point.seq + 1, records.without(gone));
      return point.seq - first + 1;
    })
    .immediate();
}

function keepHead(db: Database, { seq, hash, at, signature }: SignedHead, meaning: Meaning): void {
  db.prepare("INSERT INTO heads (seq, base, hash, at, signature) VALUES (?, ?, ?, ?, ?)").run(
    seq,
    meaning === "base" ? 1 : 0,
    Buffer.from(hash, "hex"),
    at,
    Buffer.from(signature, "base64"),
  );
}

/** How many records there are up to and including `last`. */
export const countTo = (db: Database, last: number): number => Math.max(0, last - (firstSeq(db) ?? last + 1) + 1);

/**
 * The last record that is older than `before` (milliseconds since 1970), of the first `most`; 0: none. Records are kept in order
 * of arrival. The index of blocks is not asked: whoever changed it could have records taken away that are new.
 */
export function lastBefore(db: Database, before: number, most = Number.POSITIVE_INFINITY): number {
  const record = new PackedRecord();
  let looked = 0;
  for (const { seq, packed } of db.prepare<[], StoredRun>("SELECT seq, packed FROM records ORDER BY seq").iterate()) {
    const run = new Run(packed);
    for (let i = 0; i < run.count; i++) if (looked++ >= most || isSince(record, run, i, before)) return seq + i - 1;
  }
  return lastRecord(db)?.seq ?? 0;
}

/** When a damaged record began nobody can tell. */
function isSince(record: PackedRecord, run: Run, i: number, before: number): boolean {
  try {
    return (record.read(run, i).numbers[AT.at] as number) >= before;
  } catch {
    return false;
  }
}

/** Bytes of the database that are in use. */
export function usedBytes(db: Database): number {
  const get = (name: string) => Number(db.pragma(name, { simple: true }));
  return (get("page_count") - get("freelist_count")) * get("page_size");
}

/** The last record that must go so that about `size` bytes remain; 0: none. */
export function lastBeyond(db: Database, size: number): number {
  const used = usedBytes(db);
  if (used <= size) return 0;
  const first = firstSeq(db);
  const last = lastRecord(db)?.seq ?? null;
  if (first === null || last === null) return 0;
  // A little more than needed, so that it is not done for every record.
  const share = Math.min(1, (used - size) / used + 0.02);
  return first + Math.ceil((last - first + 1) * share) - 1;
}

/** Applies the retention. At most `most` records a time, so that new ones are not kept waiting. Returns how many went. */
export function applyKeep(db: Database, keep: Keep, now: number, key: KeyObject, most: number): number {
  let removed = 0;
  if (keep.age !== null) removed += pruneTo(db, lastBefore(db, now - keep.age, most), now, key, most);
  if (keep.size !== null && removed < most) removed += pruneTo(db, lastBeyond(db, keep.size), now, key, most - removed);
  return removed;
}
