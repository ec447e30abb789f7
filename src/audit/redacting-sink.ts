// The last thing before the audit log: no record gets by it with a secret.
import type { KnownSecrets } from "../shared/known-secrets.ts";
import { redactRecord } from "./redact.ts";
import type { AuditSink } from "./sink.ts";

/** The same sink, which gets each record without the secrets that are known when it is appended. */
export const redactingSink = (sink: AuditSink, secrets: KnownSecrets): AuditSink => ({
  get unavailable() {
    return sink.unavailable;
  },
  append: (record, released) => sink.append(redactRecord(record, secrets), released),
  flush: () => sink.flush(),
  close: () => sink.close(),
});
