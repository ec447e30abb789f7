// Where the events of an event stream end (WHATWG HTML, section 9.2.5): at a blank line, whatever ends a line.

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;
const BOM = [0xef, 0xbb, 0xbf];

export class EventBoundaries {
  #offset = 0;
  #lineLength = 0;
  #afterReturn = false;
  /** True while the event so far is nothing but comment lines: each of them is complete by itself (a heartbeat). */
  #onlyComments = true;
  #wasBoundary = false;

  /** Calls back with the offset in the stream after each event (or comment) that ends in this chunk, in order. */
  push(chunk: Uint8Array, onBoundary: (offset: number) => void): void {
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number;
      const at = this.#offset++;
      if (byte === LF && this.#afterReturn) {
        // The second half of the line end that was already seen.
        this.#afterReturn = false;
        if (this.#wasBoundary) onBoundary(at + 1);
      } else if (byte === LF || byte === CR) {
        this.#afterReturn = byte === CR;
        this.#endLine();
        if (this.#wasBoundary) onBoundary(at + 1);
      } else if (at >= BOM.length || byte !== BOM[at]) this.#character(byte);
      else this.#afterReturn = false;
    }
  }

  #character(byte: number): void {
    if (this.#lineLength === 0 && byte !== COLON) this.#onlyComments = false;
    this.#lineLength++;
    this.#afterReturn = false;
  }

  #endLine(): void {
    this.#wasBoundary = this.#lineLength === 0 || this.#onlyComments;
    if (this.#wasBoundary) this.#onlyComments = true;
    this.#lineLength = 0;
  }
}
