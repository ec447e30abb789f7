// When a client's use of HTTP/2 becomes an attack: frames that cost us more than they cost it (rapid reset,
// CVE-2023-44487; PING and SETTINGS floods, CVE-2019-9512 and 9515; bad heads one after the other). node:http2 bounds
// CONTINUATION, empty DATA, header lists and its memory by itself.

export type Nuisance = "reset" | "ping" | "settings" | "malformed";

/** How many of each are borne in one window. */
const BORNE: Readonly<Record<Nuisance, number>> = { reset: 400, ping: 200, settings: 50, malformed: 100 };
/** Milliseconds. */
const WINDOW = 10_000;

export class AbuseCounter {
  private since = 0;
  private readonly counts: Record<Nuisance, number> = { reset: 0, ping: 0, settings: 0, malformed: 0 };

  /** Counts one at `now` (monotonic milliseconds). True: enough. */
  add(kind: Nuisance, now: number): boolean {
    if (now - this.since > WINDOW) {
      this.since = now;
      for (const key of Object.keys(this.counts) as Nuisance[]) this.counts[key] = 0;
    }
    this.counts[kind]++;
    return this.counts[kind] > BORNE[kind];
  }
}
