// Stands between a body step and where its content goes: until the step lets the first piece through, the head of that
// direction is held back, so that a refusal can still be sent and the other side has seen nothing.
import type { Fields } from "../http/fields.ts";
import type { ProxyError } from "../shared/errors.ts";
import type { BodyNext, BodyStep, StepPlan } from "./stage.ts";

/** The far side of the gate. */
export interface GateTarget {
  /** Send the head. `length`: bytes of content when they are all known, else null. Answered by `opened()`, now or later. */
  open(length: number | null): void;
  write(chunk: Uint8Array): boolean;
  end(trailers: Fields | null): void;
  fail(error: ProxyError): void;
  /** The step has room again. */
  drained(): void;
}

export class BodyGate implements BodyNext {
  readonly step: BodyStep;
  private readonly target: GateTarget;
  private state: "closed" | "opening" | "open" | "done" = "closed";
  private queue: Uint8Array[] = [];
  private queued = 0;
  private ending: { trailers: Fields | null } | null = null;

  constructor(plan: StepPlan, target: GateTarget) {
    this.target = target;
    this.step = plan.open(this);
  }

  get holdsHead(): boolean {
    return this.step.holdsHead;
  }

  /** The head does not wait for content (event streams). */
  openNow(): void {
    if (this.state !== "closed") return;
    this.state = "opening";
    this.target.open(null);
  }

  write(chunk: Uint8Array): boolean {
    if (this.state === "open") return this.target.write(chunk);
    if (this.state === "done") return true;
    this.queue.push(new Uint8Array(chunk)); // a copy: `slice` of a Buffer is none
    this.queued += chunk.length;
    this.schedule();
    return false;
  }

  end(trailers: Fields | null): void {
    if (this.state === "done") return;
    if (this.state === "open") {
      this.state = "done";
      this.target.end(trailers);
      return;
    }
    this.ending = { trailers };
    this.schedule();
  }

  fail(error: ProxyError): void {
    if (this.state !== "done") this.target.fail(error);
  }

  drained(): void {
    if (this.state !== "done") this.target.drained();
  }

  /** The head is out: what was queued follows. */
  opened(): void {
    if (this.state === "done" || this.state === "open") return;
    this.state = "open";
    const queue = this.queue;
    this.queue = [];
    let room = true;
    for (const chunk of queue) room = this.target.write(chunk);
    if (this.ending !== null) this.end(this.ending.trailers);
    else if (room) this.step.resume();
  }

  abort(): void {
    if (this.state === "done") return;
    this.state = "done";
    this.queue = [];
    this.step.abort();
  }

  /** Opens after the step's present call returns: when it ends in the same breath, the length is known. */
  private schedule(): void {
    if (this.state !== "closed") return;
    this.state = "opening";
    queueMicrotask(() => {
      if (this.state === "opening") this.target.open(this.length);
    });
  }

  /** Bytes of the whole content, or null. With trailers it is left open: HTTP/1.1 has no place for them behind a length. */
  private get length(): number | null {
    const { ending } = this;
    return ending === null || (ending.trailers !== null && ending.trailers.length > 0) ? null : this.queued;
  }
}
