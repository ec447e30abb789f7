// Replaces stretches of a stream. Stretches that overlap become one, with the replacement of the one that begins first.
import type { ByteWindow } from "./byte-window.ts";

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly replacement: Uint8Array;
}

export class Edits {
  readonly #pending: Edit[] = [];
  /** Up to here the stream was replaced already. */
  #replacedTo = 0;
  /** True once there was an edit. */
  any = false;

  add(start: number, end: number, replacement: Uint8Array): void {
    this.any = true;
    // In order of their beginnings; of two that begin together, the earlier rule's stays first.
    let at = this.#pending.length;
    while (at > 0 && (this.#pending[at - 1] as Edit).start > start) at--;
    this.#pending.splice(at, 0, { start, end, replacement });
  }

  /** Gives out the bytes of the window from its offset `from` to `to`, edited; no edit that begins before `to` is missing. */
  emit(window: ByteWindow, from: number, to: number, write: (bytes: Uint8Array) => void): void {
    let at = Math.max(from, this.#replacedTo);
    for (let edit = this.#pending[0]; edit !== undefined && edit.start < to; edit = this.#pending[0]) {
      this.#pending.shift();
      if (edit.start >= this.#replacedTo) {
        if (edit.start > at) write(window.slice(at, edit.start));
        if (edit.replacement.length > 0) write(edit.replacement);
      }
      this.#replacedTo = Math.max(this.#replacedTo, edit.end);
      at = Math.max(at, this.#replacedTo);
    }
    if (at < to) write(window.slice(at, to));
  }
}
