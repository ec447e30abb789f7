// The journals of a house that starts: after all that are there, and beside what the database says of them.
import { JournalWriter } from "./journal-writer.ts";
import { AuditStore } from "./store.ts";

/** Makes or upgrades the database, and begins a journal. Throws where either cannot be used. */
export function beginJournals(dir: string, rotateAt: number): JournalWriter {
  const store = new AuditStore(dir);
  try {
    const after = store.takenIn.file;
    const journal = new JournalWriter(dir, rotateAt, after);
    // A new database: from here on no journal may be missing.
    if (after === 0) store.settle({ file: journal.waiting.first, offset: 0 });
    return journal;
  } finally {
    store.close();
  }
}
