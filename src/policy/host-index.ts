// Finds the rules that could speak of a host without looking at the others: by exact name, by suffix, and those for all.
import type { HostPattern } from "./patterns.ts";

/** Something with a place in the order of rules. */
export interface Ordered {
  readonly order: number;
}

/** Entries of each list are in the order of the file. */
export class HostIndex<T extends Ordered> {
  readonly #exact = new Map<string, T[]>();
  readonly #suffix = new Map<string, T[]>();
  readonly #any: T[] = [];

  add(host: HostPattern, entry: T): void {
    if (host.kind === "any") this.#any.push(entry);
    else if (host.kind === "exact") push(this.#exact, host.host, entry);
    else push(this.#suffix, host.suffix, entry);
  }

  /** The first entry, in the order of the file, whose host matches and for which `test` holds. */
  first<Q>(host: string, query: Q, test: (entry: T, query: Q) => boolean): T | null {
    let best = scan(this.#exact.get(host), query, test, null);
    if (this.#suffix.size > 0 && isName(host)) {
      for (let dot = host.indexOf("."); dot >= 0; dot = host.indexOf(".", dot + 1)) {
        best = scan(this.#suffix.get(host.slice(dot + 1)), query, test, best);
      }
    }
    return this.#any.length === 0 ? best : scan(this.#any, query, test, best);
  }
}

function push<T>(map: Map<string, T[]>, key: string, entry: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [entry]);
  else list.push(entry);
}

function scan<T extends Ordered, Q>(
  list: readonly T[] | undefined,
  query: Q,
  test: (entry: T, query: Q) => boolean,
  best: T | null,
): T | null {
  if (list === undefined) return best;
  for (const entry of list) {
    if (best !== null && entry.order >= best.order) return best;
    if (test(entry, query)) return entry;
  }
  return best;
}

/** Addresses have no names below them. */
const isName = (host: string): boolean => {
  const last = host.charCodeAt(host.length - 1);
  return last < 48 || last > 57 || !/^[\d.]+$|:/.test(host);
};
