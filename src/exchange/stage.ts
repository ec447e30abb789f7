// What a stage is. Read this, then stages/index.ts.
import type { Fields } from "../http/fields.ts";
import type { ResponseHead } from "../http/messages.ts";
import type { ProxyError } from "../shared/errors.ts";
import type { Exchange } from "./exchange.ts";

/** A response that a stage gives instead of the origin's. */
export interface LocalResponse extends ResponseHead {
  readonly content: Uint8Array;
}

/** null: carry on. A response ends the line. A thrown ProxyError refuses; anything else thrown is `internal`. */
export type StageResult = LocalResponse | null;

/**
 * Looks at a body and passes it on unchanged. Synchronous; throws ProxyError to stop the transfer.
 * A chunk is borrowed: it is valid during the call only, and copied by who keeps it.
 */
export interface BodyTap {
  /** `whole`: this chunk is the entire body (so that a digest can be made in one call). */
  push(chunk: Uint8Array, whole: boolean): void;
  /** The body ended as its framing says. Not called when it broke. */
  end(): void;
}

/** Where a step sends what it lets through. */
export interface BodyNext {
  /** Takes a borrowed chunk. False: pause until `resume` of the step is called. */
  write(chunk: Uint8Array): boolean;
  /** The body is complete. */
  end(trailers: Fields | null): void;
  /** Stops the transfer: refused when nothing has gone out yet, broken otherwise. */
  fail(error: ProxyError): void;
  /** The step, having returned false from `write`, has room again. */
  drained(): void;
}

/**
 * May hold back, change or stop a body, at its own pace (a decoder needs turns of the event loop). The driver calls
 * `write`/`end` in order; the step calls `next`. Until the step first calls `next.write` or `next.end`, the head of this
 * direction is held back too when `holdsHead` is true, so that a refusal can still be sent and the origin sees nothing.
 */
export interface BodyStep {
  readonly holdsHead: boolean;
  write(chunk: Uint8Array): boolean;
  end(trailers: Fields | null): void;
  /** What follows has room again. */
  resume(): void;
  /** The transfer broke or was given up: free everything, call nothing. */
  abort(): void;
}

/** How the framing of a body changes because of a step. */
export interface StepPlan {
  /** True: the length may change, so that content-length goes and the coding is chunked (unless the step ends before the head). */
  readonly resizes: boolean;
  /** Makes the step. */
  open(next: BodyNext): BodyStep;
}

export interface Stage {
  readonly name: string;
  /** In the order of the list. */
  onRequest?(x: Exchange): StageResult | Promise<StageResult>;
  /** In reverse order. */
  onResponse?(x: Exchange, response: ResponseHead): StageResult | Promise<StageResult>;
  /**
   * In reverse order, before `onResponse`: an informational response other than 100 (RFC 9110 section 15.2), whose fields may be
   * edited. It is optional, so a thrown ProxyError drops it, and the exchange goes on.
   */
  onInterim?(x: Exchange, interim: ResponseHead): void;
  /** null: leaves this body alone. Taps run in the order of the list for requests, in reverse for responses. */
  requestTap?(x: Exchange): BodyTap | null;
  responseTap?(x: Exchange, response: ResponseHead): BodyTap | null;
  /** At most one stage of the line may return a step for each direction; taps listed before it see wire bytes of the client's side. */
  requestStep?(x: Exchange): StepPlan | null;
  responseStep?(x: Exchange, response: ResponseHead): StepPlan | null;
  /** Exactly once, whatever happened. */
  onComplete?(x: Exchange): void;
}
