// An audit sink that keeps its records in memory, for tests of what is recorded; it can refuse and fail like the real one.
import type { AuditRecord } from "../../src/audit/record.ts";
import type { AuditSink } from "../../src/audit/sink.ts";
import { PATIENCE } from "./patience.ts";

export class CollectingSink implements AuditSink {
  readonly records: AuditRecord[] = [];
  /** Set it to make traffic stop before it starts. */
  unavailable: string | null = null;
  /** False: records are taken and then cannot be written. */
  writable = true;
  /** True: nothing is released until `release` is called. */
  held = false;
  private readonly waiting: (() => void)[] = [];
  private readonly watchers: {
    readonly found: (record: AuditRecord) => boolean;
    readonly resolve: (record: AuditRecord) => void;
  }[] = [];

  append(record: AuditRecord, released?: (written: boolean) => void): void {
    this.records.push(record);
    for (const watcher of this.watchers) if (watcher.found(record)) watcher.resolve(record);
    const release = (): void => released?.(this.writable);
    if (this.held) this.waiting.push(release);
    else setImmediate(release);
  }

  /** Lets go of what was held. */
  release(): void {
    this.held = false;
    for (const release of this.waiting.splice(0)) release();
  }

  /** The first record that matches, past or to come. */
  async next(found: (record: AuditRecord) => boolean, milliseconds = PATIENCE): Promise<AuditRecord> {
    const present = this.records.find(found);
    if (present !== undefined) return present;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no such record among ${this.describe()}`)), milliseconds);
      this.watchers.push({
        found,
        resolve: (record) => {
          clearTimeout(timer);
          resolve(record);
        },
      });
    });
  }

  private describe(): string {
    return JSON.stringify(
      this.records.map(({ kind, method, host, status, reason }) => ({ kind, method, host, status, reason })),
    );
  }

  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}
