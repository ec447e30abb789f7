// `audit verify`, `head`, `prune`, `find-body`: is the log whole, and what does it prove?
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import Database from "better-sqlite3";
import { type ChainPoint, headIsGenuine, type SignedHead } from "../../audit/hash-chain.ts";
import { digestsOf } from "../../audit/row.ts";
import { isMoment, sizeOf, sizeText } from "../../audit/units.ts";
import { databaseFile, keyFile } from "../../edge/audit/folder.ts";
import { countTo, lastBefore, lastBeyond, NotPruned, pruneTo } from "../../edge/audit/prune.ts";
import type { StoredRecord } from "../../edge/audit/reader.ts";
import { publicKeyOf, publicKeyText, signingKey } from "../../edge/audit/signing-key.ts";
import { newestHead, type Verification, verifyLog } from "../../edge/audit/verify.ts";
import { CommandError, colours, EXIT, errorText, notice, print, printJson, safeText } from "../output.ts";
import { durationFlag, type PlaceFlags, withReader, withRecords } from "./flags.ts";
import { type Format, jsonOf, printRecords } from "./records.ts";

export interface VerifyFlags extends PlaceFlags {
  readonly head?: string;
  readonly key?: string;
}

/** Exit code 1, and the first problem, when the log is not what was written. */
export const verify = (flags: VerifyFlags): Promise<void> =>
  withReader(flags, (reader, dir) => {
    const key = publicKeyFor(dir, flags.key);
    const head = flags.head === undefined ? null : headOf(flags.head, key);
    const bar = process.stderr.isTTY === true && flags.json !== true;
    const result = verifyLog(dir, reader, {
      key,
      head,
      ...(bar ? { progress: (done: number, all: number) => progress(done, all) } : {}),
    });
    if (bar) process.stderr.write("\r\u001b[K");
    if (flags.json === true) printJson({ ...result, signatures: key !== null });
    else printVerification(result, key !== null);
    if (!result.ok) process.exitCode = EXIT.no;
  });

const progress = (done: number, all: number): void => {
  process.stderr.write(`\rchecked ${done} of ${all} (${Math.floor((done / Math.max(1, all)) * 100)} %)`);
};

function printVerification(v: Verification, signatures: boolean): void {
  if (v.problem !== null) print(`${colours.red(v.problem.kind)}: ${v.problem.message}`);
  else if (v.records === 0) print("the log is empty");
  else print(`${colours.green("intact")}: ${v.records} records, ${v.first} to ${v.last}, ${v.heads} heads`);
  if (v.prunedTo > 0) print(`records up to ${v.prunedTo} were pruned; a head stands for them`);
  if (!signatures) notice("without the key the signatures of the heads were not checked (--key)");
  if (v.waiting > 0) print(`${v.waiting} records are in the journal and not yet in the database`);
  if (v.torn > 0)
    print(
      `the journal has a torn tail of ${v.torn} bytes: a write that a crash cut off and that was never answered for; this is no tampering`,
    );
}

/** The public half of `audit.key`, or the one given; null: there is none here. */
function publicKeyFor(dir: string, text: string | undefined): KeyObject | null {
  try {
    if (text !== undefined) return publicKeyOf(text);
  } catch {
    throw new CommandError("--key wants the 44 characters that `audit head` prints as its key");
  }
  try {
    return createPublicKey(createPrivateKey(readFileSync(keyFile(dir))));
  } catch {
    return null;
  }
}

/** A head as `audit head --json` printed it, as text or as a file; or `SEQ:HASH`. */
function headOf(text: string, key: KeyObject | null): ChainPoint {
  const short = /^(\d+):([0-9a-f]{64})$/i.exec(text);
  if (short !== null) return { seq: Number(short[1]), hash: (short[2] as string).toLowerCase() };
  let head: SignedHead;
  try {
    head = JSON.parse(text.trimStart().startsWith("{") ? text : readFileSync(text, "utf8")) as SignedHead;
  } catch {
    throw new CommandError("--head wants SEQ:HASH, or what `audit head --json` printed (as text or as a file)");
  }
  if (typeof head.seq !== "number" || typeof head.hash !== "string") throw new CommandError("--head is not a head");
  if (key !== null && typeof head.signature === "string" && !headIsGenuine(head, key))
    throw new CommandError("the head that you gave is not signed by the key of this log", EXIT.no);
  return { seq: head.seq, hash: head.hash.toLowerCase() };
}

/** The newest signed head, to be kept somewhere else; exit code 1 when there is none yet. */
export const head = (flags: PlaceFlags): Promise<void> =>
  withReader(flags, (reader, dir) => {
    const found = newestHead(reader);
    if (found === null) {
      notice("nothing was signed yet");
      process.exitCode = EXIT.no;
      return;
    }
    const key = publicKeyFor(dir, undefined);
    if (!isWhole(found) || (key !== null && !headIsGenuine(found, key))) {
      throw new CommandError(
        `the head at record ${safeText(String(found.seq))} is not what was signed: the log was changed, and \`sallyport audit verify\` says where`,
        EXIT.no,
      );
    }
    const text = key === null ? null : publicKeyText(key);
    if (flags.json === true) printJson({ ...found, key: text });
    else {
      print(`${found.seq}:${found.hash}`);
      print(`signed ${new Date(found.at).toISOString()}  key ${text ?? "-"}`);
      print(`signature ${found.signature}`);
    }
  });

/** The values of a head that was changed may be anything. */
const isWhole = ({ seq, hash, at }: SignedHead): boolean =>
  Number.isSafeInteger(seq) && /^[0-9a-f]{64}$/.test(hash) && isMoment(at);

export interface PruneFlags extends PlaceFlags {
  readonly olderThan?: string;
  readonly toSize?: string;
  readonly dryRun?: boolean;
}

/** Milliseconds of work before a house that writes the same log has its turn; longer than SQLite sleeps before it tries again. */
const WORK_MS = 400;
const REST_MS = 120;
let rested = 0;
function rest(): void {
  if (performance.now() - rested < WORK_MS) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REST_MS);
  rested = performance.now();
}

/** Removes the oldest records; a signed head stands for them. Works beside a running house. */
export const prune = (flags: PruneFlags): Promise<void> => {
  if (flags.olderThan === undefined && flags.toSize === undefined)
    throw new CommandError("say what may go: --older-than 90d or --to-size 20GiB");
  const age = flags.olderThan === undefined ? null : durationFlag("--older-than", flags.olderThan);
  const size = flags.toSize === undefined ? null : sizeOf(flags.toSize);
  if (flags.toSize !== undefined && size === null)
    throw new CommandError(`--to-size ${flags.toSize}: write 500MiB or 20GiB`);
  return withReader(flags, (_reader, dir) => {
    const db = new Database(databaseFile(dir), { timeout: 10_000 });
    try {
      const now = Date.now();
      const last = Math.max(age === null ? 0 : lastBefore(db, now - age), size === null ? 0 : lastBeyond(db, size));
      const removed =
        flags.dryRun === true
          ? countTo(db, last)
          : pruneTo(db, last, now, signingKey(dir), Number.POSITIVE_INFINITY, rest);
      if (flags.json === true) printJson({ removed, upTo: last, dryRun: flags.dryRun === true });
      else
        print(
          `${removed} records ${flags.dryRun === true ? "would go" : "removed"}${removed > 0 ? ` (up to ${last})` : ""}`,
        );
    } catch (error) {
      throw error instanceof NotPruned ? new CommandError(error.message, EXIT.no) : error;
    } finally {
      db.close();
    }
  });
};

export interface FindFlags extends PlaceFlags {
  readonly format: Format;
}

/** The newest that are shown. */
const MOST_FOUND = 1_000;

/** Was this file sent or received, as a whole body or a whole multipart part? Exit code 1 when nothing is found. */
export const findBody = (file: string, flags: FindFlags): Promise<void> =>
  withRecords(flags, async (reader) => {
    const { sha256, bytes } = await digestFile(file);
    const found: StoredRecord[] = [];
    for (const stored of reader.oldest({ digest: sha256 })) {
      // Whoever has the digest stand in fields, which a filter finds as well, hides nothing by that.
      if (digestsOf(stored.record).includes(sha256)) found.push(stored);
      if (found.length > MOST_FOUND) found.shift();
    }
    if (flags.json === true) printJson({ sha256, bytes, found: found.map(jsonOf) });
    else {
      notice(`SHA-256 ${sha256}, ${sizeText(bytes)}`);
      printRecords(found, flags.format, Date.now());
      notice(
        found.length === 0
          ? "no whole body and no whole multipart part was this file. That does not prove that it never left: changed, split, packed or encrypted, it has another digest."
          : "as a whole body or a whole multipart part. Other copies, changed or packed, would not be found.",
      );
    }
    if (found.length === 0) process.exitCode = EXIT.no;
  });

async function digestFile(file: string): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(file)) {
      hash.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
  } catch (error) {
    const folder = (error as NodeJS.ErrnoException).code === "EISDIR";
    throw new CommandError(folder ? `${safeText(file)} is a folder: name a file` : errorText(error as Error));
  }
  if (bytes === 0) throw new CommandError(`${safeText(file)} is empty: every record without a body would match`);
  return { sha256: hash.digest("hex"), bytes };
}
