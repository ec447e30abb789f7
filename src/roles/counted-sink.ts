// Between the audit log and the metrics: what is recorded without having been an exchange is counted too.
import type { AuditRecord } from "../audit/record.ts";
import type { AuditSink } from "../audit/sink.ts";

/** The same sink, of which `metrics` sees each record. Not for the records of exchanges: these are counted where they end. */
export const countedSink = (sink: AuditSink, metrics: { recorded(record: AuditRecord): void }): AuditSink => ({
  get unavailable() {
    return sink.unavailable;
  },
  append(record, released) {
    metrics.recorded(record);
    sink.append(record, released);
  },
  flush: () => sink.flush(),
  close: () => sink.close(),
});
