// What the main thread and the auditor's thread say to each other.
import type { SignedHead } from "../../audit/hash-chain.ts";

export interface Keep {
  /** Milliseconds that records are kept; null: for ever. */
  readonly age: number | null;
  /** Bytes that the database may have; null: no limit. */
  readonly size: number | null;
}

/** What the thread is started with. */
export interface AuditorData {
  readonly dir: string;
  readonly keep: Keep;
  /** The journal that the main thread writes; all before it are left from earlier runs. */
  readonly liveFile: number;
}

export type ToAuditor =
  | { readonly type: "wrote"; readonly file: number; readonly end: number }
  | { readonly type: "flush"; readonly token: number }
  | { readonly type: "keep"; readonly keep: Keep }
  | { readonly type: "close" };

export type FromAuditor =
  /** The database is open; it holds everything up to here. */
  | { readonly type: "ready"; readonly head: SignedHead | null; readonly file: number; readonly offset: number }
  /** Everything up to here is in the database: journals before `file` are deleted from now on. */
  | { readonly type: "taken"; readonly records: number; readonly file: number; readonly offset: number }
  /** Journals before `file` are gone, and were not in the database; a record stands for what was in them. */
  | { readonly type: "lost"; readonly file: number; readonly message: string }
  | { readonly type: "head"; readonly head: SignedHead }
  | { readonly type: "flushed"; readonly token: number }
  /** A record of the journal could not be read, or old records could not be pruned; the rest goes on. */
  | { readonly type: "warning"; readonly message: string }
  /** The database cannot be written; it is tried again every second. */
  | { readonly type: "failed"; readonly message: string }
  | { readonly type: "recovered" };
