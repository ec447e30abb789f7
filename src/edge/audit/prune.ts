// Retention: the oldest records go, and a signed head stands for them, so that the chain can still be verified.
import type { KeyObject } from "node:crypto";
import type { Database } from "better-sqlite3";
import { signHead } from "../../audit/hash-chain.ts";
import { hashOf } from "../../audit/packed.ts";
import { blockOf } from "../../audit/signature.ts";
import type { Keep } from "./messages.ts";

const STEP = 5_000;

/** Removes every record up to and including `last`, in steps that each leave a chain that verifies. Returns how many went. */
export function pruneTo(
  db: Database,
  last: number,
  now: number,
  key: KeyObject,
  most = Number.POSITIVE_INFINITY,
): number {
  let removed = 0;
  while (removed < most) {
    const n = pruneStep(db, last, now, key);
    if (n === 0) break;
    removed += n;
  }
  if (removed > 0) db.pragma("incremental_vacuum");
  return removed;
}

function pruneStep(db: Database, last: number, now: number, key: KeyObject): number {
  return db
    .transaction(() => {
      const first = db.prepare<[], { seq: number | null }>("SELECT min(seq) AS seq FROM records").get()?.seq ?? null;
      if (first === null || first > last) return 0;
      const upTo = Math.min(last, first + STEP - 1);
      const at = db.prepare<[number], { seq: number; packed: Buffer }>(
        "SELECT seq, packed FROM records WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
      );
      const point = at.get(upTo);
      if (point === undefined) return 0;
      const head = signHead({ seq: point.seq, hash: hashOf(point.packed) }, now, key);
      db.prepare("DELETE FROM heads WHERE seq <= ?").run(point.seq);
      db.prepare("INSERT INTO heads (seq, base, hash, at, signature) VALUES (?, 1, ?, ?, ?)").run(
        head.seq,
        Buffer.from(head.hash, "hex"),
        head.at,
        Buffer.from(head.signature, "base64"),
      );
      db.prepare("DELETE FROM blocks WHERE block < ?").run(blockOf(point.seq + 1));
      return db.prepare("DELETE FROM records WHERE seq <= ?").run(point.seq).changes;
    })
    .immediate();
}

/** The last record that is older than `before` (milliseconds since 1970); 0: none. Records are kept in order of arrival. */
export const lastBefore = (db: Database, before: number): number =>
  db
    .prepare<[number], { seq: number | null }>(
      "SELECT coalesce((SELECT seq - 1 FROM records WHERE at >= ? ORDER BY seq LIMIT 1), (SELECT max(seq) FROM records)) AS seq",
    )
    .get(before)?.seq ?? 0;

/** Bytes of the database that are in use. */
export function usedBytes(db: Database): number {
  const get = (name: string) => Number(db.pragma(name, { simple: true }));
  return (get("page_count") - get("freelist_count")) * get("page_size");
}

/** The last record that must go so that about `size` bytes remain; 0: none. */
export function lastBeyond(db: Database, size: number): number {
  const used = usedBytes(db);
  if (used <= size) return 0;
  const span = db.prepare<[], { first: number | null; last: number | null }>(
    "SELECT (SELECT min(seq) FROM records) AS first, (SELECT max(seq) FROM records) AS last",
  );
  const { first, last } = span.get() ?? { first: null, last: null };
  if (first === null || last === null) return 0;
  // A little more than needed, so that it is not done for every record.
  const share = Math.min(1, (used - size) / used + 0.02);
  return first + Math.ceil((last - first + 1) * share) - 1;
}

/** Applies the retention. At most `most` records a time, so that new ones are not kept waiting. Returns how many went. */
export function applyKeep(db: Database, keep: Keep, now: number, key: KeyObject, most: number): number {
  let removed = 0;
  if (keep.age !== null) removed += pruneTo(db, lastBefore(db, now - keep.age), now, key, most);
  if (keep.size !== null && removed < most) removed += pruneTo(db, lastBeyond(db, keep.size), now, key, most - removed);
  return removed;
}
