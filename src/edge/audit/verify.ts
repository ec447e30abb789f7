// Is the log what was written? Walks the whole chain, then compares it with every signed head.
import type { KeyObject } from "node:crypto";
import { type ChainPoint, GENESIS, type SignedHead } from "../../audit/hash-chain.ts";
import { BlockCheck } from "./block-check.ts";
import { type Problem, type Walked, walkChain } from "./chain-walk.ts";
import { falseHead, headsOf, type StoredHead } from "./heads.ts";
import { journalNumbers } from "./journal-files.ts";
import { journalRest } from "./journal-reader.ts";
import type { AuditReader } from "./reader.ts";

export type { Problem, ProblemKind } from "./chain-walk.ts";

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

interface Walk extends Walked {
  readonly records: number;
  readonly first: number;
  /** Records that filters would not find. */
  readonly hidden: Problem | null;
}

/** Checks the log in `dir` through a reader of it. Names the first problem; finds no problem that is only in the journal. */
export function verifyLog(dir: string, reader: AuditReader, options: VerifyOptions): Verification {
  // One snapshot for all, while the house goes on writing.
  return reader.db.transaction(() => {
    const heads = headsOf(reader.db);
    const base = heads.filter((h) => h.base).at(-1) ?? null;
    const expected = new Map<number, string>(heads.map((h) => [h.seq, h.hash]));
    const wanted = options.head;
    const unsigned = options.key === null ? null : falseHead(heads, options.key);
    const walk = walkAll(reader, base ?? { seq: 0, hash: GENESIS }, expected, wanted, options.progress);
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

/** The newest signed head, or null. */
export const newestHead = (reader: AuditReader): SignedHead | null => {
  const head = headsOf(reader.db)
    .filter((h) => !h.base)
    .at(-1);
  return head === undefined ? null : { seq: head.seq, hash: head.hash, at: head.at, signature: head.signature };
};

function walkAll(
  reader: AuditReader,
  from: ChainPoint,
  heads: ReadonlyMap<number, string>,
  wanted: ChainPoint | null,
  progress: VerifyOptions["progress"],
): Walk {
  const blocks = new BlockCheck(reader.db);
  const all = reader.lastSeq() - from.seq;
  let records = 0;
  let first = 0;
  const walked = walkChain(reader, from, heads, wanted, (stored) => {
    if (records++ === 0) first = stored.seq;
    blocks.add(stored.seq, stored.packed);
    if (records % 10_000 === 0) progress?.(records, all);
    return true;
  });
  blocks.end();
  return { ...walked, records, first, hidden: hiddenProblem(reader, blocks) };
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
