// Bytes that were read and not yet understood. The usual read is parsed where it lies and never copied; a slow sender costs
// linear work, since each new byte is looked at once before the parser is asked again.

export class Input {
  private buffer: Buffer | null = null;
  private start = 0;
  private stop = 0;
  private owned = false;
  /** How far the search for the end of a head has come. */
  private scanned = 0;
  private waiting = false;

  get length(): number {
    return this.stop - this.start;
  }

  /** The bytes, from `from` up to `to` of the buffer. */
  get bytes(): Buffer {
    return this.buffer ?? EMPTY;
  }
  get from(): number {
    return this.start;
  }
  get to(): number {
    return this.stop;
  }

  /** The first `n` bytes of `b` follow. They are read where they lie, so `own` is called before they go. */
  append(b: Buffer, n: number): void {
    const length = this.length;
    if (length === 0) {
      this.buffer = b;
      this.start = 0;
      this.stop = n;
      this.owned = false;
      this.scanned = 0;
      this.waiting = false;
      return;
    }
    if (!this.owned || this.stop + n > this.bytes.length) this.grow(Math.max(length + n, 2 * length));
    (this.buffer as Buffer).set(n === b.length ? b : b.subarray(0, n), this.stop);
    this.stop += n;
  }

  /** What has not been understood yet is kept beyond the life of the buffer that it came in. */
  own(): void {
    if (this.length > 0 && !this.owned) this.grow(this.length);
  }

  private grow(size: number): void {
    const { length } = this;
    const grown = Buffer.allocUnsafeSlow(Math.max(size, 1024));
    grown.set(this.bytes.subarray(this.start, this.stop), 0);
    this.scanned -= this.start;
    this.buffer = grown;
    this.start = 0;
    this.stop = length;
    this.owned = true;
  }

  /** The bytes up to `index` of the buffer are done with. */
  advance(index: number): void {
    this.start = index;
    this.waiting = false;
    if (this.start >= this.stop) this.clear();
  }

  clear(): void {
    this.buffer = null;
    this.start = 0;
    this.stop = 0;
    this.owned = false;
    this.waiting = false;
  }

  /** The parser wanted more: ask it again only when a head may be complete, or broken. */
  wait(): void {
    this.waiting = true;
    this.scanned = this.stop;
  }

  /** True when the parser should be asked. `limit`: bytes after which it must be asked in any case. */
  worthParsing(limit: number): boolean {
    if (!this.waiting) return true;
    const b = this.buffer as Buffer;
    for (let i = this.scanned; i < this.stop; i++) {
      if (b[i] !== 10) continue;
      const at = i - this.start;
      if (at === 0 || b[i - 1] !== 13 || at < 3 || (b[i - 2] === 10 && b[i - 3] === 13)) return true;
    }
    this.scanned = this.stop;
    return this.length > limit;
  }

  /** Everything, as a copy of its own; the input is empty afterwards. */
  take(): Buffer {
    const all = this.length === 0 ? EMPTY : Buffer.from((this.buffer as Buffer).subarray(this.start, this.stop));
    this.clear();
    return all;
  }
}
const EMPTY = Buffer.alloc(0);
