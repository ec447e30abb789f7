// Replaces stretches of a stream. Stretches that overlap become one, with the replacement of the one that begins first.
import type { ByteWindow } from "./byte-window.ts";

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly replacement: Uint8Array;
}

export class Edits {
  /** Those from `#first` on are still to be made; in order unless `#sorted` is false. */
  #pending: Edit[] = [];
  #first = 0;
  #sorted = true;
  /** Up to here the stream was replaced already. */
  #replacedTo = 0;
  /** True once there was an edit. */
  any = false;

  add(start: number, end: number, replacement: Uint8Array): void {
    this.any = true;
    const before = this.#pending.at(-1);
    if (before !== undefined && before.start > start) this.#sorted = false;
    this.#pending.push({ start, end, replacement });
  }

  /** In order of their beginnings; of two that begin together, the one that was added first stays first. */
  #sort(): void {
    if (this.#first > 0) this.#pending = this.#pending.slice(this.#first);
    this.#first = 0;
    if (!this.#sorted) this.#pending.sort((a, b) => a.start - b.start);
    this.#sorted = true;
  }

  /** Gives out the bytes of the window from its offset `from` to `to`, edited; no edit that begins before `to` is missing. */
  emit(window: ByteWindow, from: number, to: number, write: (bytes: Uint8Array) => void): void {
    let at = Math.max(from, this.#replacedTo);
    this.#sort();
    for (let edit = this.#pending[0]; edit !== undefined && edit.start < to; edit = this.#pending[this.#first]) {
      this.#first++;
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
