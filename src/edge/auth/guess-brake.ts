// Slows down guessing: each wrong credential from an address makes the next answer to that address later (pitfalls O4).
// Bounded in addresses and in answers that wait; beyond the bound a credential is not looked at, so that nothing is learnt.
import { setTimeout as sleep } from "node:timers/promises";
import { ProxyError } from "../../shared/errors.ts";

interface Guesses {
  wrong: number;
  waiting: number;
  /** Milliseconds since 1970 of the last wrong one. */
  last: number;
}

export interface BrakeOptions {
  /** Wrong credentials that cost nothing: people mistype. */
  readonly free?: number;
  /** The first delay, in milliseconds; it doubles up to `longest`. */
  readonly first?: number;
  readonly longest?: number;
  /** After so many milliseconds without a wrong credential the count starts again. */
  readonly forget?: number;
  readonly addresses?: number;
  /** Answers that may wait at once: for one address, and in all. */
  readonly waitingEach?: number;
  readonly waitingAll?: number;
}

const DEFAULTS: Required<BrakeOptions> = {
  free: 3,
  first: 250,
  longest: 4000,
  forget: 60_000,
  addresses: 10_000,
  waitingEach: 8,
  waitingAll: 256,
};

export class GuessBrake {
  readonly #options: Required<BrakeOptions>;
  readonly #now: () => number;
  readonly #guesses = new Map<string, Guesses>();
  #waiting = 0;
  constructor(now: () => number, options: BrakeOptions = {}) {
    this.#now = now;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Throws `rate-limited` (or `busy`) when too many answers to this address (or in all) wait already. */
  admit(address: string): void {
    if ((this.#guesses.get(address)?.waiting ?? 0) >= this.#options.waitingEach) {
      throw new ProxyError("rate-limited", "too many wrong credentials from this address; wait a minute");
    }
    if (this.#waiting >= this.#options.waitingAll)
      throw new ProxyError("busy", "too many credentials are being checked");
  }

  /** Counts a wrong credential and waits as long as the address has earned. */
  async wrong(address: string): Promise<void> {
    const entry = this.#count(address);
    const beyond = entry.wrong - this.#options.free;
    if (beyond <= 0) return;
    const delay = Math.min(this.#options.longest, this.#options.first * 2 ** Math.min(beyond - 1, 16));
    entry.waiting++;
    this.#waiting++;
    try {
      await sleep(delay, undefined, { ref: false });
    } finally {
      entry.waiting--;
      this.#waiting--;
    }
  }

  #count(address: string): Guesses {
    const now = this.#now();
    const known = this.#guesses.get(address);
    const entry = known ?? { wrong: 0, waiting: 0, last: now };
    if (now - entry.last > this.#options.forget) entry.wrong = 0;
    entry.wrong++;
    entry.last = now;
    this.#guesses.delete(address);
    this.#guesses.set(address, entry);
    if (this.#guesses.size > this.#options.addresses) {
      const oldest = this.#guesses.keys().next();
      if (!oldest.done) this.#guesses.delete(oldest.value);
    }
    return entry;
  }
}
