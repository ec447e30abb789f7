// Retention: the oldest records go, and a signed mark stands for them, so that the chain can still be verified. A head says only that
// the chain came by; the mark says that what was before it was pruned, which nobody without the key can say of what was cut off.
import { createPublicKey, type KeyObject } from "node:crypto";
import type { Database } from "better-sqlite3";
import { type ChainPoint, GENESIS, type Meaning, type SignedHead, signHead } from "../../audit/hash-chain.ts";
import { PackedRecord, Run } from "../../audit/packed.ts";
import { AT } from "../../audit/row.ts";
import { blockOf } from "../../audit/signature.ts";
import { type Problem, walkChain } from "./chain-walk.ts";
import { falseHead, headsOf } from "./heads.ts";
import type { Keep } from "./messages.ts";
import { AuditReader } from "./reader.ts";
import { firstSeq, lastRecord, type StoredRun } from "./runs.ts";
import { INSERT_RUN, OUR_TABLES } from "./schema.ts";

const STEP = 5_000;
/** Free pages that are given back to the system at once. */
const PAGES = 2_000;

/** What should go is not what was written: a mark for it would hide that for ever. */
export class NotPruned extends Error {
  override readonly name = "NotPruned";
  constructor(problem: Problem) {
    super(`old records are not pruned, because the log was changed: ${problem.message} (sallyport audit verify)`);
  }
}

/**
 * Removes every record up to and including `last`, in steps that each leave a chain that verifies. Returns how many went. `rest` is
 * called between steps, when the database is not locked: another process that writes it has its turn then. Throws NotPruned at the
 * first step that would remove what does not verify.
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
      refuseChanged(db, point, key);
      db.prepare("DELETE FROM heads WHERE seq <= ?").run(point.seq);
      for (const meaning of ["head", "base"] as const) keepHead(db, signHead(point, now, key, meaning), meaning);
      db.prepare("DELETE FROM blocks WHERE block < ?").run(blockOf(point.seq + 1));
      db.prepare("DELETE FROM records WHERE seq <= ?").run(point.seq);
      if (gone < records.count) db.prepare(INSERT_RUN).run(point.seq + 1, records.without(gone));
      return point.seq - first + 1;
    })
    .immediate();
}

/** The mark says that all before it was whole: throws NotPruned when, from the last mark to this point, it is not. */
function refuseChanged(db: Database, point: ChainPoint, key: KeyObject): void {
  const heads = headsOf(db, point.seq);
  const base = heads.filter((head) => head.base).at(-1) ?? { seq: 0, hash: GENESIS };
  const hashes = new Map(heads.map(({ seq, hash }) => [seq, hash]));
  const { last, problem } = walkChain(new AuditReader(db), base, hashes, null, ({ seq }) => seq < point.seq);
  const first = problem ?? unreached(last, point) ?? falseHead(heads, createPublicKey(key));
  if (first !== null) throw new NotPruned(first);
}

/** A number that no record of ours has. */
const unreached = (last: ChainPoint, { seq }: ChainPoint): Problem | null =>
  last.seq === seq ? null : { kind: "changed", seq, message: `record ${seq} has no place in the chain` };

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
  let last = (firstSeq(db) ?? 1) - 1;
  let looked = 0;
  for (const { seq, packed } of db.prepare<[], StoredRun>("SELECT seq, packed FROM records ORDER BY seq").iterate()) {
    const run = new Run(packed);
    for (let i = 0; i < run.count; i++) {
      if (looked++ >= most) return last;
      const at = beganAt(record, run, i);
      if (at !== null && at >= before) return last;
      if (at !== null) last = seq + i;
    }
  }
  return last;
}

/** Null of a damaged record: it is old only where one behind it is. */
function beganAt(record: PackedRecord, run: Run, i: number): number | null {
  try {
    return record.read(run, i).numbers[AT.at] as number;
  } catch {
    return null;
  }
}

/** Bytes of the database that are in use. What somebody else put there does not count: it would drive records out. */
export function usedBytes(db: Database): number {
  const get = (name: string) => Number(db.pragma(name, { simple: true }));
  return (get("page_count") - get("freelist_count")) * get("page_size") - foreignBytes(db);
}

/** Only tables that are not ours are walked (in this order of the join), and usually there are none. */
const foreignBytes = (db: Database): number =>
  db
    .prepare<string[], number>(
      `SELECT total(pgsize) FROM sqlite_schema CROSS JOIN dbstat ON dbstat.name = sqlite_schema.name
       WHERE rootpage > 0 AND aggregate = TRUE AND tbl_name NOT IN (${OUR_TABLES.map(() => "?").join()})`,
    )
    .pluck()
    .get(...OUR_TABLES) as number;

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
