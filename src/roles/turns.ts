// Shares the event loop among those who search content: together they hold it for so long, and then everybody else has a turn.
import type { Turns, Work } from "../exchange/turns.ts";

/** Milliseconds of work in one turn of the event loop, and whatever the last step takes beyond. */
const SLICE = 10;

export class LoopTurns implements Turns {
  readonly #queue: Work[] = [];
  /** Milliseconds that were used in this turn. */
  #spent = 0;
  #scheduled = false;

  take(work: Work): void {
    if (this.#queue.length > 0 || !this.#advance(work)) this.#queue.push(work);
  }

  /** True: it is done; false: the time is up. */
  #advance(work: Work): boolean {
    if (this.#spent >= SLICE) return false;
    const began = performance.now();
    const before = this.#spent;
    let more = true;
    while (more && this.#spent < SLICE) {
      more = work.step();
      this.#spent = before + performance.now() - began;
    }
    this.#schedule();
    return !more;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#next());
  }

  #next(): void {
    this.#scheduled = false;
    this.#spent = 0;
    for (let work = this.#queue[0]; work !== undefined && this.#spent < SLICE; work = this.#queue[0]) {
      this.#queue.shift();
      if (!this.#advance(work)) this.#queue.push(work);
    }
    if (this.#queue.length > 0) this.#schedule();
  }
}
