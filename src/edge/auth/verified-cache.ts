// Credentials that were found right, remembered by HMAC so that the hot path neither runs scrypt nor keeps a secret.
import { createHmac, randomBytes } from "node:crypto";

/** Who showed a credential. Milliseconds since 1970. */
export interface Verified {
  readonly client: string;
  /** It is looked at again after this. */
  readonly until: number;
  /** It is good for nothing after this; Infinity: it has no end. */
  readonly expires: number;
}

/** Bounded: the entry used least recently goes first. */
export class VerifiedCache {
  readonly #key = randomBytes(32);
  readonly #entries = new Map<string, Verified>();
  readonly #max: number;
  constructor(max: number) {
    this.#max = max;
  }

  /** The name under which a credential is remembered; worthless without this process's key. */
  keyOf(credential: string): string {
    return createHmac("sha256", this.#key).update(credential).digest("base64");
  }

  get(key: string, now: number): Verified | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    this.#entries.delete(key);
    if (entry.until <= now) return null;
    this.#entries.set(key, entry);
    return entry;
  }

  put(key: string, verified: Verified): void {
    this.#entries.delete(key);
    this.#entries.set(key, verified);
    if (this.#entries.size <= this.#max) return;
    const oldest = this.#entries.keys().next();
    if (!oldest.done) this.#entries.delete(oldest.value);
  }

  get size(): number {
    return this.#entries.size;
  }
}
