// Lines that could not be written, to be written when it works again.

/** Bytes that are kept in memory. */
const MOST = 4 * 1024 * 1024;

export class SpareLines {
  #lines: Buffer[] = [];
  #bytes = 0;
  #count = 0;

  /** The records in them. */
  get count(): number {
    return this.#count;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#lines);
  }

  /** Keeps lines of so many records. False: there is no room. */
  add(lines: Uint8Array, records: number): boolean {
    if (this.#bytes + lines.length > MOST) return false;
    this.#lines.push(Buffer.from(lines));
    this.#bytes += lines.length;
    this.#count += records;
    return true;
  }

  clear(): void {
    this.#lines = [];
    this.#bytes = 0;
    this.#count = 0;
  }
}
