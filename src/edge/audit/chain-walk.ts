// Is this part of the chain what was written? Asked by `verify` of all that is there, and by pruning of what is about to go.
import { type ChainPoint, chainHash } from "../../audit/hash-chain.ts";
import type { PackedRecord } from "../../audit/packed.ts";
import { rowText } from "../../audit/row.ts";
import type { AuditReader, StoredRow } from "./reader.ts";

export type ProblemKind = "changed" | "missing" | "reordered" | "cut-off" | "head" | "index";

export interface Problem {
  readonly kind: ProblemKind;
  /** The record at which it shows. */
  readonly seq: number;
  readonly message: string;
}

export interface Walked {
  /** The last record that is what was written. */
  readonly last: ChainPoint;
  /** The first that is not, or what is wrong with it otherwise. */
  readonly problem: Problem | null;
}

/**
 * Walks the chain from a point that is trusted, and compares it with the hashes of the signed heads, by number, and with a head that
 * was kept elsewhere. `take` is given each record that is what was written; it returns false where the walk may end.
 */
export function walkChain(
  reader: AuditReader,
  from: ChainPoint,
  heads: ReadonlyMap<number, string>,
  wanted: ChainPoint | null,
  take: (stored: StoredRow & { readonly packed: PackedRecord }) => boolean,
): Walked {
  let last = from;
  for (const stored of reader.rows()) {
    const problem = stepProblem(reader, last, stored) ?? headProblem(stored, heads, wanted);
    if (problem !== null) return { last, problem };
    last = { seq: stored.seq, hash: stored.hash };
    if (!take(stored)) break;
  }
  return { last, problem: null };
}

function stepProblem(reader: AuditReader, last: ChainPoint, stored: StoredRow): Problem | null {
  const seq = last.seq + 1;
  if (stored.seq > seq) {
    const range = stored.seq - 1 === seq ? `record ${seq} is` : `records ${seq} to ${stored.seq - 1} are`;
    return { kind: "missing", seq, message: `${range} missing` };
  }
  if (stored.seq < seq)
    return { kind: "changed", seq: stored.seq, message: `record ${stored.seq} should have been pruned` };
  if (chainHash(last.hash, seq, rowText(stored.row)) === stored.hash) return null;
  const other = whoBelongsHere(reader, last, seq);
  if (other !== null)
    return { kind: "reordered", seq, message: `record ${seq} stands at place ${other}: the order was changed` };
  return { kind: "changed", seq, message: `record ${seq} is not what was written (it or its hash was changed)` };
}

/** The place at which the true record `seq` stands, when the order was changed nearby; else null. */
function whoBelongsHere(reader: AuditReader, last: ChainPoint, seq: number): number | null {
  let looked = 0;
  for (const stored of reader.rows(seq)) {
    if (chainHash(last.hash, seq, rowText(stored.row)) === stored.hash) return stored.seq;
    if (++looked === 1_000) break;
  }
  return null;
}

/** The chain may be whole and yet another one than the one that was signed. */
function headProblem(stored: StoredRow, heads: ReadonlyMap<number, string>, wanted: ChainPoint | null): Problem | null {
  const signed = heads.get(stored.seq);
  const other = signed !== undefined && signed !== stored.hash;
  if (!other && !(wanted?.seq === stored.seq && wanted.hash !== stored.hash)) return null;
  const whose = other ? "the signed head" : "the head that you gave";
  return {
    kind: "changed",
    seq: stored.seq,
    message: `record ${stored.seq} or one before it was rewritten: ${whose} says otherwise`,
  };
}
