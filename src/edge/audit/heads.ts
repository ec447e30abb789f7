// The signed heads that are stored, and whether the key signed them.
import type { KeyObject } from "node:crypto";
import type { Database } from "better-sqlite3";
import { headIsGenuine, type SignedHead } from "../../audit/hash-chain.ts";
import type { Problem } from "./chain-walk.ts";
import { encoded } from "./runs.ts";

/** `base`: it stands for all records up to it, which were pruned. */
export type StoredHead = SignedHead & { readonly base: boolean };

/** All up to record `last`, ascending; of one record the mark of pruning comes last. */
export function headsOf(db: Database, last = Number.MAX_SAFE_INTEGER): StoredHead[] {
  const rows = db
    .prepare<[number], { seq: number; base: number; hash: unknown; at: number; signature: unknown }>(
      "SELECT seq, base, hash, at, signature FROM heads WHERE seq <= ? ORDER BY seq, base",
    )
    .all(last);
  return rows.map((r) => ({
    seq: r.seq,
    base: r.base === 1,
    hash: encoded(r.hash, "hex"),
    at: r.at,
    signature: encoded(r.signature, "base64"),
  }));
}

/** The first of these that the key did not sign as what it is. */
export function falseHead(heads: readonly StoredHead[], key: KeyObject): Problem | null {
  for (const head of heads) {
    if (headIsGenuine(head, key, head.base ? "base" : "head")) continue;
    const { seq } = head;
    const what = `the signature of the ${head.base ? "mark of pruning" : "head"} at record ${seq} is not that of the key`;
    const cut =
      head.base && headIsGenuine(head, key)
        ? ": records before it were cut off, or an older sallyport pruned them"
        : "";
    return { kind: "head", seq, message: `${what}${cut}` };
  }
  return null;
}
