// The port to the audit log.
import type { AuditRecord } from "./record.ts";

export interface AuditSink {
  /**
   * Null: records are taken. A reason: no traffic may start (the queue is full, or the log cannot be written), unless the
   * policy says `audit: { required: false }`, in which case the sink stays null and drops, loudly.
   */
  readonly unavailable: string | null;
  /**
   * Takes a record. `released` is called once, when the record is with the operating system (or was dropped because the
   * log is not required); the caller holds back the last byte of the response until then. `released(false)` says that
   * the record could not be written while the log is required: the response must then be broken, never look complete.
   * Calls are answered in one batch per event-loop turn.
   */
  append(record: AuditRecord, released?: (written: boolean) => void): void;
  /** Resolves when everything appended so far is in the database. */
  flush(): Promise<void>;
  close(): Promise<void>;
}
