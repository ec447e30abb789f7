// Slows down guessing: each wrong credential from an address makes the next answer to that address later (pitfalls O4).
// Bounded in addresses and in answers that wait; beyond the bound a credential is not looked at, so that nothing is learnt.
// Guesses are counted for an IPv6 network of 64 bits, since whoever has one address there has them all; answers wait for each
// address, so that a guesser does not lock out who lives beside him.
import { setTimeout as sleep } from "node:timers/promises";
import { ipv6Text, parseIpv6 } from "../../http/ip-address.ts";
import { ProxyError } from "../../shared/errors.ts";

interface Guesses {
  wrong: number;
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
  /** Answers that wait, by address. */
  readonly #waitingAt = new Map<string, number>();
  #waiting = 0;
  constructor(now: () => number, options: BrakeOptions = {}) {
    this.#now = now;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Throws `rate-limited` (or `busy`) when too many answers to this address (or in all) wait already. */
  admit(address: string): void {
    if ((this.#waitingAt.get(address) ?? 0) >= this.#options.waitingEach) {
      throw new ProxyError("rate-limited", "too many wrong credentials from this address; wait a minute");
    }
    if (this.#waiting >= this.#options.waitingAll)
      throw new ProxyError("busy", "too many credentials are being checked");
  }

  /** Counts a wrong credential and waits as long as the address has earned. */
  async wrong(address: string): Promise<void> {
    const beyond = this.#count(networkOf(address)).wrong - this.#options.free;
    if (beyond <= 0) return;
    const delay = Math.min(this.#options.longest, this.#options.first * 2 ** Math.min(beyond - 1, 16));
    this.#wait(address, 1);
    try {
      await sleep(delay, undefined, { ref: false });
    } finally {
      this.#wait(address, -1);
    }
  }

  #wait(address: string, change: 1 | -1): void {
    this.#waiting += change;
    const left = (this.#waitingAt.get(address) ?? 0) + change;
    if (left > 0) this.#waitingAt.set(address, left);
    else this.#waitingAt.delete(address);
  }

  #count(network: string): Guesses {
    const now = this.#now();
    const known = this.#guesses.get(network);
    const entry = known ?? { wrong: 0, last: now };
    if (now - entry.last > this.#options.forget) entry.wrong = 0;
    entry.wrong++;
    entry.last = now;
    this.#guesses.delete(network);
    this.#guesses.set(network, entry);
    if (this.#guesses.size > this.#options.addresses) {
      const oldest = this.#guesses.keys().next();
      if (!oldest.done) this.#guesses.delete(oldest.value);
    }
    return entry;
  }
}

/** The IPv6 network of an address; an IPv4 address is its own. */
function networkOf(address: string): string {
  const groups = parseIpv6(address.replace(/%.*$/, ""));
  return groups === null ? address : ipv6Text([...groups.slice(0, 4), 0, 0, 0, 0]);
}
