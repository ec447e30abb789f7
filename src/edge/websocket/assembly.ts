// Messages are held until they are whole, and until they are read. What all connections of a house hold together is bounded here:
// when it is too much, the one that holds most is given up.

/** Bytes of messages in a house that are unfinished, or wait for who does not read. */
export const ASSEMBLY_LIMIT = 256 * 1024 * 1024;

export interface Holder {
  /** Bytes that it holds. */
  readonly held: number;
  /** Lets go of what it holds, and ends. */
  giveUp(): void;
}

export class Assembly {
  private used = 0;
  private readonly limit: number;
  private readonly holders = new Set<Holder>();

  constructor(limit = ASSEMBLY_LIMIT) {
    this.limit = limit;
  }

  /** The holder holds so many bytes more (or fewer) than before; `held` says it already. */
  changed(holder: Holder, by: number): void {
    this.used += by;
    if (holder.held > 0) this.holders.add(holder);
    else this.holders.delete(holder);
    if (by > 0 && this.used > this.limit) this.largest()?.giveUp();
  }

  private largest(): Holder | null {
    let largest: Holder | null = null;
    for (const holder of this.holders) if (largest === null || holder.held > largest.held) largest = holder;
    return largest;
  }
}
