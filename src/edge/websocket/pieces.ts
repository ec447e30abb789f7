// What came from a connection and was not read yet, in pieces of a size that a reader likes. Whatever is kept of a read costs an
// object, and a reader that joins many of them takes as long as the square of their number: what comes byte by byte is joined here.

const NOTHING = Buffer.alloc(0);

export class Pieces {
  private readonly size: number;
  private whole: Buffer[] = [];
  /** What follows the whole ones: its first `filled` bytes, which are fewer than a piece. */
  private last: Buffer = NOTHING;
  private filled = 0;

  /** `size`: bytes of a piece at most. */
  constructor(size: number) {
    this.size = size;
  }

  /** Takes a copy: whoever gets a piece may keep it and write into it. */
  add(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + this.size - this.filled);
      if (this.filled === 0) this.last = Buffer.from(part);
      else this.append(part);
      this.filled += part.length;
      at += part.length;
      if (this.filled === this.size) {
        this.whole.push(this.last);
        this.last = NOTHING;
        this.filled = 0;
      }
    }
  }

  private append(part: Uint8Array): void {
    const needed = this.filled + part.length;
    if (needed > this.last.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.size, Math.max(needed, 2 * this.last.length)));
      larger.set(this.last.subarray(0, this.filled));
      this.last = larger;
    }
    this.last.set(part, this.filled);
  }

  /** True: there is a piece for who can do nothing with fewer bytes than `least`. */
  has(least: number): boolean {
    return this.whole.length > 0 || (this.filled > 0 && this.filled >= least);
  }

  /** The next piece; null when `has` says no. A whole one is given even where it is less than `least`. */
  next(least: number): Buffer | null {
    const piece = this.whole.shift();
    if (piece !== undefined) return piece;
    if (!this.has(least)) return null;
    const rest = this.filled < this.last.length ? this.last.subarray(0, this.filled) : this.last;
    this.last = NOTHING;
    this.filled = 0;
    return rest;
  }

  clear(): void {
    this.whole = [];
    this.last = NOTHING;
    this.filled = 0;
  }
}
