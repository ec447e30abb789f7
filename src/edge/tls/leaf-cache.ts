// Leaf contexts for hosts: minted once, however many ask at the same time; kept in a bounded cache; renewed before they end.
// One SecureContext per host, so that session tickets resume: each context has ticket keys of its own, made at random by
// node:tls, and no other context can open a ticket of it. A ticket of one host is therefore worth nothing at another (C9).
import { createSecureContext, type SecureContext } from "node:tls";
import { BoundedMap } from "./bounded-map.ts";
import type { Ca, Leaf } from "./ca.ts";
import { MAX_VERSION, MIN_VERSION, SERVER_CIPHERS, SERVER_OPTIONS } from "./tls-suites.ts";

const DAY_MS = 86_400_000;

export interface LeafCacheOptions {
  readonly ca: Ca;
  /** Wall-clock time in milliseconds since 1970; may jump. */
  readonly now: () => number;
  /** Hosts that are kept; 1,000 unless said. */
  readonly limit?: number;
  /** Called after each minting, with the milliseconds left of the leaf's life. */
  readonly minted?: (host: string) => void;
}

interface Entry {
  readonly context: SecureContext;
  /** The leaf is used within [from, until): outside the clock has moved on, or jumped. */
  readonly from: number;
  readonly until: number;
}

export class LeafCache {
  readonly #kept: BoundedMap<Entry>;
  readonly #underWay = new Map<string, Promise<SecureContext>>();
  readonly #now: () => number;
  readonly #minted: (host: string) => void;
  #ca: Ca;

  constructor(options: LeafCacheOptions) {
    this.#ca = options.ca;
    this.#now = options.now;
    this.#kept = new BoundedMap(options.limit ?? 1000);
    this.#minted = options.minted ?? (() => {});
  }

  /** How many hosts are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /**
   * The context for a canonical host: at once when it is kept, else a promise that all who ask meanwhile share.
   * Rejects with ProxyError when the CA cannot sign for the host.
   */
  contextFor(host: string): SecureContext | Promise<SecureContext> {
    const entry = this.#kept.get(host);
    if (entry !== undefined) {
      const now = this.#now();
      if (now >= entry.from && now < entry.until) return entry.context;
    }
    const underWay = this.#underWay.get(host);
    if (underWay !== undefined) return underWay;
    const minting = this.#mint(host, this.#ca).finally(() => {
      if (this.#underWay.get(host) === minting) this.#underWay.delete(host);
    });
    this.#underWay.set(host, minting);
    return minting;
  }

  /** Uses another CA from now on (after a reload); everything minted before is forgotten. */
  replaceCa(ca: Ca): void {
    this.#ca = ca;
    this.#kept.clear();
    this.#underWay.clear();
  }

  async #mint(host: string, ca: Ca): Promise<SecureContext> {
    const leaf = await ca.mint(host);
    const context = contextOf(leaf);
    // A CA that was replaced meanwhile must not come back through the cache.
    if (ca === this.#ca) this.#kept.set(host, { context, ...usable(leaf, this.#now()) });
    this.#minted(host);
    return context;
  }
}

/** A day of margin before the end, less where the CA itself ends soon. */
function usable(leaf: Leaf, now: number): { from: number; until: number } {
  const margin = Math.min(DAY_MS, Math.max(0, leaf.notAfter - now) / 4);
  return { from: leaf.notBefore, until: leaf.notAfter - margin };
}

const contextOf = (leaf: Leaf): SecureContext =>
  createSecureContext({
    cert: leaf.certPem,
    key: leaf.keyPem,
    minVersion: MIN_VERSION,
    maxVersion: MAX_VERSION,
    ciphers: SERVER_CIPHERS,
    honorCipherOrder: true,
    secureOptions: SERVER_OPTIONS,
  });
