// Where the messages of a gRPC call end: each has a byte of flags and four of its length before it (gRPC over HTTP/2).

const PREFIX = 5;

export class GrpcBoundaries {
  #offset = 0;
  /** Bytes of the prefix so far, and the length that they say. */
  #prefix = 0;
  #length = 0;
  #compressed: (() => void) | null;

  /** `compressed`: told once, of the first message whose flag says that it is. */
  constructor(compressed: () => void) {
    this.#compressed = compressed;
  }

  /** Calls back with the offset in the stream after each message that ends in this chunk, in order. */
  push(chunk: Uint8Array, onBoundary: (offset: number) => void): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#prefix < PREFIX) {
        if (this.#prefix === 0 && ((chunk[at] as number) & 1) === 1) this.#tell();
        this.#length = this.#prefix === 0 ? 0 : this.#length * 256 + (chunk[at] as number);
        this.#prefix++;
        at++;
      }
      if (this.#prefix < PREFIX) continue;
      const step = Math.min(this.#length, chunk.length - at);
      this.#length -= step;
      at += step;
      if (this.#length > 0) continue;
      this.#prefix = 0;
      onBoundary(this.#offset + at);
    }
    this.#offset += chunk.length;
  }

  #tell(): void {
    const compressed = this.#compressed;
    this.#compressed = null;
    compressed?.();
  }
}
