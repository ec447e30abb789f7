// The body step of the content stage for content as it is, and what both steps need to know.
import type { BodyNext, BodyStep } from "../exchange/stage.ts";
import type { Turns, Work } from "../exchange/turns.ts";
import type { Inspection } from "../filters/inspection.ts";
import type { Fields } from "../http/fields.ts";
import { asProxyError } from "../shared/errors.ts";
import type { ContentSide } from "./content-side.ts";

/** What both steps need to know. */
export interface StepJob {
  readonly side: ContentSide;
  readonly inspection: Inspection;
  readonly holdsHead: boolean;
  /** True: replacements are possible. */
  readonly edits: boolean;
  /** Bytes that are searched at once. */
  readonly piece: number;
  /** Called once before the first byte leaves when bytes may differ from what came in; `decoded`: they lost their coding. */
  adapt(decoded: boolean): void;
  /** Looks at the trailers, which may be edited. Throws a ProxyError when they are blocked. */
  trailers(fields: Fields): Fields;
}

/** Content without a coding. Works within the call while there is time in this turn, so that nothing is copied but what is held back. */
export class PlainStep implements BodyStep, Work {
  readonly holdsHead: boolean;
  readonly #job: StepJob;
  readonly #next: BodyNext;
  readonly #turns: Turns;
  /** What is still to be searched: of the present chunk, and of those that came while there was no time. */
  #chunk: Uint8Array | null = null;
  readonly #queue: Uint8Array[] = [];
  #ending: { trailers: Fields | null } | null = null;
  /** True: the rest waits for its turn, and the source for the rest. */
  #waits = false;
  #room = true;
  #sent = 0;
  #over = false;
  #adapted = false;

  constructor(job: StepJob, next: BodyNext, turns: Turns) {
    this.#job = job;
    this.#next = next;
    this.#turns = turns;
    this.holdsHead = job.holdsHead;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over || chunk.length === 0) return true;
    if (this.#waits) {
      this.#queue.push(new Uint8Array(chunk));
      return false;
    }
    this.#chunk = chunk;
    this.#turns.take(this);
    if (this.#over) return true;
    if (this.#chunk === null) return this.#room;
    this.#release();
    this.#chunk = new Uint8Array(this.#chunk);
    this.#waits = true;
    return false;
  }

  end(trailers: Fields | null): void {
    if (this.#over) return;
    this.#ending = { trailers };
    if (this.#waits) return;
    this.#turns.take(this);
    this.#waits = !this.#over;
  }

  /** Searches the next piece. */
  step(): boolean {
    if (this.#over) return false;
    const chunk = this.#chunk;
    if (chunk !== null) {
      this.#chunk = chunk.length > this.#job.piece ? chunk.subarray(this.#job.piece) : (this.#queue.shift() ?? null);
      this.#search(chunk.subarray(0, this.#job.piece));
    } else if (this.#ending !== null) this.#finish(this.#ending.trailers);
    if (this.#over) return false;
    if (this.#chunk !== null || this.#ending !== null) return true;
    if (this.#waits) {
      this.#waits = false;
      if (this.#room) this.#next.drained();
    }
    return false;
  }

  #search(piece: Uint8Array): void {
    try {
      this.#job.inspection.push(piece);
    } catch (error) {
      // What was complete before (an earlier event) still leaves, so that the cut of the bytes makes no difference.
      this.#release();
      this.#fail(error);
      return;
    }
    // All that a chunk lets go leaves together.
    if (this.#waits || this.#chunk === null) this.#release();
  }

  #finish(trailers: Fields | null): void {
    let last = trailers;
    try {
      this.#job.inspection.end();
      if (trailers !== null) last = this.#job.trailers(trailers);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#release();
    this.#over = true;
    this.#next.end(last);
  }

  #release(): void {
    const { inspection, edits } = this.#job;
    if (inspection.holding) return;
    if (!this.#adapted && inspection.safe > 0) {
      this.#adapted = true;
      // A body that is whole and unchanged keeps its digests; of one that is still coming nobody knows.
      if (edits && (inspection.changed || !inspection.ended)) this.#job.adapt(false);
    }
    inspection.emit((bytes) => {
      this.#sent += bytes.length;
      this.#room = this.#next.write(bytes);
    });
  }

  #fail(error: unknown): void {
    this.#over = true;
    if (this.#sent > 0) this.#job.side.x.note(`content-cut:${this.#job.side.direction}:${this.#sent} bytes were out`);
    this.#next.fail(asProxyError(error));
  }

  resume(): void {
    this.#room = true;
    if (!this.#over && !this.#waits) this.#next.drained();
  }

  abort(): void {
    this.#over = true;
    this.#chunk = null;
    this.#queue.length = 0;
  }
}
