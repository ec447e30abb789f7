// The part of a stream of bytes that is still needed, addressed by offsets in the whole stream.

const SMALLEST = 4096;

export class ByteWindow {
  #buffer: Buffer = Buffer.alloc(0);
  #from = 0;
  #to = 0;
  /** The offset in the stream of the first byte that is kept. */
  start = 0;

  /** The offset in the stream after the last byte. */
  get end(): number {
    return this.start + this.#to - this.#from;
  }

  /** Copies the bytes to the end. */
  append(bytes: Uint8Array): void {
    const kept = this.#to - this.#from;
    if (this.#to + bytes.length > this.#buffer.length) this.#makeRoom(kept, bytes.length);
    this.#buffer.set(bytes, this.#to);
    this.#to += bytes.length;
  }

  #makeRoom(kept: number, more: number): void {
    // Moving is cheap while at most half of the buffer moves; otherwise the next append would move it again.
    if ((kept + more) * 2 <= this.#buffer.length) this.#buffer.copyWithin(0, this.#from, this.#to);
    else {
      // The first piece is often the whole.
      const size = this.#buffer.length === 0 ? more : (kept + more) * 2;
      const larger = Buffer.allocUnsafeSlow(Math.max(SMALLEST, size));
      this.#buffer.copy(larger, 0, this.#from, this.#to);
      this.#buffer = larger;
    }
    this.#from = 0;
    this.#to = kept;
  }

  /** The bytes between two offsets of the stream, borrowed until the next call of `append`. */
  slice(from: number, to: number): Buffer {
    const shift = this.#from - this.start;
    return this.#buffer.subarray(from + shift, to + shift);
  }

  /** Forgets everything before the offset. */
  dropTo(offset: number): void {
    const to = Math.min(offset, this.end);
    if (to <= this.start) return;
    this.#from += to - this.start;
    this.start = to;
  }
}
