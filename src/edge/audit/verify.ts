// Is the log what was written? Walks the whole chain, then compares it with every signed head.
import type { KeyObject } from "node:crypto";
import { type ChainPoint, chainHash, GENESIS, headIsGenuine, type SignedHead } from "../../audit/hash-chain.ts";
import { rowText } from "../../audit/row.ts";
import { BlockCheck } from "./block-check.ts";
import { journalNumbers } from "./journal-files.ts";
import { journalRest } from "./journal-reader.ts";
import type { AuditReader, StoredRow } from "./reader.ts";
import { encoded } from "./runs.ts";

export type ProblemKind = "changed" | "missing" | "reordered" | "cut-off" | "head" | "index";

export interface Problem {
  readonly kind: ProblemKind;
  /** The record at which it shows. */
  readonly seq: number;
  readonly message: string;
}

export interface Verification {
  readonly ok: boolean;
  /** Records that were checked, the first and the last of them (0: none). */
  readonly records: number;
  readonly first: number;
  readonly last: number;
  /** The last record that was pruned (0: none), for which a signed head stands. */
  readonly prunedTo: number;
  readonly heads: number;
  /** The first problem. */
  readonly problem: Problem | null;
  /** What waits in the journal: whole records not yet in the database, and bytes of a torn tail (a crash; never released). */
  readonly waiting: number;
  readonly torn: number;
}

export interface VerifyOptions {
  /** The public key of the heads; null: signatures are not checked. */
  readonly key: KeyObject | null;
  /** A head that was kept elsewhere. */
  readonly head: ChainPoint | null;
  readonly progress?: (done: number, all: number) => void;
}

interface Walk {
  records: number;
  first: number;
  last: ChainPoint;
  problem: Problem | null;
  /** Records that filters would not find. */
  hidden: Problem | null;
}

/** Checks the log in `dir` through a reader of it. Names the first problem; finds no problem that is only in the journal. */
export function verifyLog(dir: string, reader: AuditReader, options: VerifyOptions): Verification {
  // One snapshot for all, while the house goes on writing.
  return reader.db.transaction(() => {
    const heads = headsOf(reader);
    const base = heads.filter((h) => h.base).at(-1) ?? null;
    const expected = new Map<number, string>(heads.map((h) => [h.seq, h.hash]));
    const wanted = options.head;
    const unsigned = options.key === null ? null : falseHead(heads, options.key);
    const walk = walkChain(reader, base, expected, wanted, options.progress);
    const problem = walk.problem ?? unsigned ?? cutOff(heads, wanted, walk.last, base) ?? walk.hidden;
    return {
      ok: problem === null,
      records: walk.records,
      first: walk.first,
      last: walk.records === 0 ? 0 : walk.last.seq,
      prunedTo: base?.seq ?? 0,
      heads: heads.length,
      problem,
      ...waitingIn(dir, reader),
    };
  })();
}

type StoredHead = SignedHead & { readonly base: boolean };

function headsOf(reader: AuditReader): StoredHead[] {
  const rows = reader.db
    .prepare<[], { seq: number; base: number; hash: unknown; at: number; signature: unknown }>(
      "SELECT seq, base, hash, at, signature FROM heads ORDER BY seq, base",
    )
    .all();
  return rows.map((r) => ({
    seq: r.seq,
    base: r.base === 1,
    hash: encoded(r.hash, "hex"),
    at: r.at,
    signature: encoded(r.signature, "base64"),
  }));
}

/** The newest signed head, or null. */
export const newestHead = (reader: AuditReader): SignedHead | null => {
  const head = headsOf(reader)
    .filter((h) => !h.base)
    .at(-1);
  return head === undefined ? null : { seq: head.seq, hash: head.hash, at: head.at, signature: head.signature };
};

function falseHead(heads: readonly StoredHead[], key: KeyObject): Problem | null {
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

function walkChain(
  reader: AuditReader,
  base: StoredHead | null,
  heads: ReadonlyMap<number, string>,
  wanted: ChainPoint | null,
  progress: VerifyOptions["progress"],
): Walk {
  const walk: Walk = { records: 0, first: 0, last: base ?? { seq: 0, hash: GENESIS }, problem: null, hidden: null };
  const blocks = new BlockCheck(reader.db);
  const all = reader.lastSeq() - walk.last.seq;
  for (const stored of reader.rows()) {
    walk.problem = stepProblem(reader, walk.last, stored) ?? headProblem(stored, heads, wanted);
    if (walk.problem !== null) break;
    if (walk.records++ === 0) walk.first = stored.seq;
    walk.last = { seq: stored.seq, hash: stored.hash };
    blocks.add(stored.seq, stored.packed);
    if (walk.records % 10_000 === 0) progress?.(walk.records, all);
  }
  blocks.end();
  walk.hidden = hiddenProblem(reader, blocks);
  return walk;
}

/** The index is not in the chain: records may be what was written, and not be found. */
function hiddenProblem(reader: AuditReader, { wrong }: BlockCheck): Problem | null {
  const says = "the records are what was written, but";
  if (wrong !== null) {
    const which = wrong.first === wrong.last ? `record ${wrong.first}` : `records ${wrong.first} to ${wrong.last}`;
    return {
      kind: "index",
      seq: wrong.first,
      message: `${says} the index of ${which} was changed: queries with filters and find-body may not find them; \`audit export\` without filters shows all`,
    };
  }
  const words = reader.db.pragma("integrity_check(words)", { simple: true });
  if (words === "ok") return null;
  return {
    kind: "index",
    seq: 0,
    message: `${says} the index of their words is damaged: filters may not find them (${words})`,
  };
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

function cutOff(
  heads: readonly StoredHead[],
  wanted: ChainPoint | null,
  last: ChainPoint,
  base: StoredHead | null,
): Problem | null {
  const signed = heads.at(-1);
  if (signed !== undefined && signed.seq > last.seq) return cut(last.seq, signed.seq, "a signed head");
  if (wanted === null) return null;
  if (wanted.seq > last.seq) return cut(last.seq, wanted.seq, "the head that you gave");
  if (base !== null && wanted.seq === base.seq && wanted.hash !== base.hash)
    return {
      kind: "changed",
      seq: wanted.seq,
      message: `what was pruned up to record ${wanted.seq} is not what your head says`,
    };
  if (base !== null && wanted.seq < base.seq)
    return {
      kind: "head",
      seq: wanted.seq,
      message: `the head at record ${wanted.seq} cannot be checked: records up to ${base.seq} were pruned`,
    };
  return null;
}

const cut = (last: number, seq: number, whose: string): Problem => ({
  kind: "cut-off",
  seq: last + 1,
  message: `records ${last + 1} to ${seq} were cut off: ${whose} stands at record ${seq}`,
});

function waitingIn(dir: string, reader: AuditReader): { waiting: number; torn: number } {
  const meta = reader.db.prepare<[string], { value: number }>("SELECT value FROM meta WHERE name = ?");
  const file = meta.get("journal-file")?.value ?? 0;
  const offset = meta.get("journal-offset")?.value ?? 0;
  let waiting = 0;
  let torn = 0;
  for (const number of journalNumbers(dir)) {
    if (number < file) continue;
    const rest = journalRest(dir, number, number === file ? offset : 0);
    waiting += rest.whole;
    torn += rest.torn;
  }
  return { waiting, torn };
}
