// Runs the line: request hooks in declared order, response hooks in reverse, completion exactly once. The arrays are made
// once; an exchange allocates its taps and nothing else. Hooks may return promises but need not: the usual exchange runs
// through without a tick.
import type { ResponseHead } from "../http/messages.ts";
import { ProxyError } from "../shared/errors.ts";
import type { Exchange } from "./exchange.ts";
import type { BodyTap, Stage, StageResult, StepPlan } from "./stage.ts";

/** Taps of one direction, on both sides of the step. null: none. */
export interface Taps {
  readonly clientSide: BodyTap | null;
  readonly originSide: BodyTap | null;
}
const NO_TAPS: Taps = { clientSide: null, originSide: null };

class TwoTaps implements BodyTap {
  private readonly first: BodyTap;
  private readonly second: BodyTap;
  constructor(first: BodyTap, second: BodyTap) {
    this.first = first;
    this.second = second;
  }
  push(chunk: Uint8Array, whole: boolean): void {
    this.first.push(chunk, whole);
    this.second.push(chunk, whole);
  }
  end(): void {
    this.first.end();
    this.second.end();
  }
}
const both = (a: BodyTap | null, b: BodyTap | null): BodyTap | null =>
  a === null ? b : b === null ? a : new TwoTaps(a, b);

export class Pipeline {
  private readonly request: readonly Stage[];
  private readonly response: readonly Stage[];
  private readonly interim: readonly Stage[];
  private readonly requestTaps: readonly Stage[];
  private readonly responseTaps: readonly Stage[];
  private readonly complete: readonly Stage[];
  private readonly stepStage: Stage | null;
  /** Index in the list: taps listed before it are on the client's side of the step. */
  private readonly stepIndex: number;
  private readonly index = new Map<Stage, number>();

  constructor(stages: readonly Stage[]) {
    this.request = stages.filter((s) => s.onRequest);
    this.response = stages.filter((s) => s.onResponse).reverse();
    this.interim = stages.filter((s) => s.onInterim).reverse();
    this.requestTaps = stages.filter((s) => s.requestTap);
    this.responseTaps = stages.filter((s) => s.responseTap).reverse();
    this.complete = stages.filter((s) => s.onComplete).reverse();
    const steps = stages.filter((s) => s.requestStep || s.responseStep);
    if (steps.length > 1) throw new Error("only one stage of the line may hold back or change bodies");
    this.stepStage = steps[0] ?? null;
    for (const [i, stage] of stages.entries()) this.index.set(stage, i);
    this.stepIndex = this.stepStage ? (this.index.get(this.stepStage) as number) : stages.length;
  }

  /** Request hooks in declared order, until one answers or throws. */
  onRequest(x: Exchange): StageResult | Promise<StageResult> {
    return this.run(x, null, this.request, 0);
  }

  /** Response hooks in reverse order. */
  onResponse(x: Exchange, response: ResponseHead): StageResult | Promise<StageResult> {
    return this.run(x, response, this.response, 0);
  }

  /** Hooks of informational responses in reverse order. False: this one does not pass, and the record says so. */
  onInterim(x: Exchange, interim: ResponseHead): boolean {
    try {
      for (const stage of this.interim) stage.onInterim?.(x, interim);
      return true;
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error;
      x.note(`informational-dropped:${interim.status}:${error.reason}`);
      return false;
    }
  }

  private run(
    x: Exchange,
    response: ResponseHead | null,
    stages: readonly Stage[],
    from: number,
  ): StageResult | Promise<StageResult> {
    for (let i = from; i < stages.length; i++) {
      const stage = stages[i] as Stage;
      const result = response === null ? stage.onRequest?.(x) : stage.onResponse?.(x, response);
      if (result === null || result === undefined) continue;
      if (result instanceof Promise) return this.wait(result, x, response, stages, i);
      return result;
    }
    return null;
  }

  private async wait(
    pending: Promise<StageResult>,
    x: Exchange,
    response: ResponseHead | null,
    stages: readonly Stage[],
    i: number,
  ): Promise<StageResult> {
    return (await pending) ?? this.run(x, response, stages, i + 1);
  }

  openRequestTaps(x: Exchange): Taps {
    let clientSide: BodyTap | null = null;
    let originSide: BodyTap | null = null;
    for (const stage of this.requestTaps) {
      const tap = stage.requestTap?.(x) ?? null;
      if (tap === null) continue;
      if ((this.index.get(stage) as number) < this.stepIndex) clientSide = both(clientSide, tap);
      else originSide = both(originSide, tap);
    }
    return clientSide === null && originSide === null ? NO_TAPS : { clientSide, originSide };
  }

  openResponseTaps(x: Exchange, response: ResponseHead): Taps {
    let clientSide: BodyTap | null = null;
    let originSide: BodyTap | null = null;
    for (const stage of this.responseTaps) {
      const tap = stage.responseTap?.(x, response) ?? null;
      if (tap === null) continue;
      if ((this.index.get(stage) as number) < this.stepIndex) clientSide = both(clientSide, tap);
      else originSide = both(originSide, tap);
    }
    return clientSide === null && originSide === null ? NO_TAPS : { clientSide, originSide };
  }

  requestStep(x: Exchange): StepPlan | null {
    return this.stepStage?.requestStep?.(x) ?? null;
  }

  responseStep(x: Exchange, response: ResponseHead): StepPlan | null {
    return this.stepStage?.responseStep?.(x, response) ?? null;
  }

  /** Called exactly once for each exchange. A stage that throws here does not keep the others from ending: what was thrown, or null. */
  onComplete(x: Exchange): readonly unknown[] | null {
    let failures: unknown[] | null = null;
    for (const stage of this.complete) {
      try {
        stage.onComplete?.(x);
      } catch (error) {
        failures ??= [];
        failures.push(error);
      }
    }
    return failures;
  }
}
