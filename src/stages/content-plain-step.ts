// The body step of the content stage for content as it is, and what both steps need to know.
import type { BodyNext, BodyStep } from "../exchange/stage.ts";
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
  /** Called once before the first byte leaves when bytes may differ from what came in; `decoded`: they lost their coding. */
  adapt(decoded: boolean): void;
  /** Looks at the trailers, which may be edited. Throws a ProxyError when they are blocked. */
  trailers(fields: Fields): Fields;
}

/** Content without a coding. Works within the call: nothing is copied but what is held back. */
export class PlainStep implements BodyStep {
  readonly holdsHead: boolean;
  readonly #job: StepJob;
  readonly #next: BodyNext;
  #room = true;
  #sent = 0;
  #over = false;
  #adapted = false;

  constructor(job: StepJob, next: BodyNext) {
    this.#job = job;
    this.#next = next;
    this.holdsHead = job.holdsHead;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over) return true;
    try {
      this.#job.inspection.push(chunk);
    } catch (error) {
      // What was complete before (an earlier event) still leaves, so that the cut of the bytes makes no difference.
      this.#release();
      this.#fail(error);
      return true;
    }
    this.#release();
    return this.#room;
  }

  end(trailers: Fields | null): void {
    if (this.#over) return;
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
    if (!this.#over) this.#next.drained();
  }

  abort(): void {
    this.#over = true;
  }
}
