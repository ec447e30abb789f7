// Builds exchanges with content rules, and drives the steps of the content stage as the relay does: any cuts, any pauses.
import { contentDecoders } from "../../src/edge/content/decoders.ts";
import { type ConnectContext, type ConnectionFacts, Exchange } from "../../src/exchange/exchange.ts";
import type { BodyNext, BodyStep, StepPlan } from "../../src/exchange/stage.ts";
import { type ContentOptions, compileContent, contentRuleSchema } from "../../src/filters/index.ts";
import type { Fields } from "../../src/http/fields.ts";
import type { ResponseHead } from "../../src/http/messages.ts";
import type { Decision, Limits, Plan, Policy } from "../../src/policy/types.ts";
import { LoopTurns } from "../../src/roles/turns.ts";
import type { ProxyError } from "../../src/shared/errors.ts";
import { contentStage } from "../../src/stages/content.ts";

export const stage = contentStage({ decoders: contentDecoders, turns: new LoopTurns() });
const NONE = Number.POSITIVE_INFINITY;
const LIMITS: Limits = { request: NONE, response: NONE, headers: 32768, url: 8192, idle: 60000, total: NONE };
const CONNECTION: ConnectionFacts = {
  clientAddress: "127.0.0.1",
  clientPort: 1,
  assignedClient: null,
  trusted: false,
  clientCertificate: null,
  connect: null,
};
const CONNECT: ConnectContext = {
  record: "0",
  authority: { host: "a.example", port: 443 },
  client: null,
  intercepted: true,
  sni: null,
  sniMismatch: false,
  alias: null,
};

export interface Setup extends ContentOptions {
  readonly rules: readonly unknown[];
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  readonly fields?: Fields;
  readonly length?: number;
  readonly limits?: Partial<Limits>;
  readonly requestEdits?: Plan["requestEdits"];
  /** A next proxy, and the Via of the CONNECT that the request is inside of. */
  readonly next?: Plan["via"];
  readonly connectVia?: string;
}

/** An exchange that was allowed by the rule `r1`, whose `content:` are the given rules. */
export function exchange(setup: Setup): Exchange {
  const rules = setup.rules.map((rule) => contentRuleSchema.parse(rule));
  const plan: Plan = {
    limits: { ...LIMITS, ...setup.limits },
    requestEdits: setup.requestEdits ?? [],
    responseEdits: [],
    content: compileContent(rules, setup),
    to: null,
    via: setup.next ?? null,
    redirect: null,
    record: { fields: [], bodies: 0, query: false },
  };
  const decision: Decision = { allowed: true, outcome: "allow", rule: "r1", reason: null, message: "", plan };
  const policy: Policy = {
    version: "0",
    defaults: plan,
    decide: () => decision,
    decideConnect: () => {
      throw new Error("not asked here");
    },
  };
  const head = {
    method: setup.method ?? "POST",
    scheme: "https" as const,
    host: setup.host ?? "a.example",
    port: 443,
    path: setup.path ?? "/",
    version: "1.1" as const,
    fields: setup.fields ?? [],
  };
  const { connectVia: via } = setup;
  const connection = via === undefined ? CONNECTION : { ...CONNECTION, connect: { ...CONNECT, via } };
  const x = new Exchange("1", 0, 0, connection, policy, head, setup.length ?? -1);
  x.decision = decision;
  return x;
}

export const responseHead = (fields: Fields, status = 200): ResponseHead => ({ status, phrase: "OK", fields });

export interface Outcome {
  readonly out: Buffer;
  /** null: it ended well. */
  readonly error: ProxyError | null;
  readonly trailers: Fields | null;
  /** Bytes that were out after each chunk of the input was taken (only true for steps that work within the call). */
  readonly after: number[];
}

/** Gives the chunks to the step, waiting where it says so, and lets the far side pause where `slow` says so. */
export function drive(
  plan: StepPlan | null,
  chunks: readonly Uint8Array[],
  options: { trailers?: Fields | null; slow?: () => boolean } = {},
): Promise<Outcome> {
  if (plan === null) {
    const out = Buffer.concat(chunks);
    return Promise.resolve({ out, error: null, trailers: options.trailers ?? null, after: [] });
  }
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    const after: number[] = [];
    const size = () => pieces.reduce((n, p) => n + p.length, 0);
    let over = false;
    let paused = false;
    let at = 0;
    let step: BodyStep;
    const finish = (error: ProxyError | null, trailers: Fields | null) => {
      if (over) throw new Error("the step went on after its end");
      over = true;
      if (error !== null) step.abort();
      resolve({ out: Buffer.concat(pieces), error, trailers, after });
    };
    const feed = (): void => {
      while (!over && !paused && at < chunks.length) {
        // Borrowed: what the step keeps it must have copied.
        const chunk = Buffer.from(chunks[at++] as Uint8Array);
        if (!step.write(chunk)) paused = true;
        chunk.fill(0x7e);
        after.push(size());
      }
      if (!over && !paused && at === chunks.length) {
        at++;
        step.end(options.trailers ?? null);
      }
    };
    const next: BodyNext = {
      write(chunk) {
        if (over) throw new Error("the step wrote after its end");
        pieces.push(Buffer.from(chunk));
        if (!(options.slow?.() ?? false)) return true;
        setImmediate(() => {
          if (!over) step.resume();
        });
        return false;
      },
      end: (trailers) => finish(null, trailers),
      fail: (error) => finish(error, null),
      drained() {
        if (!paused) return;
        paused = false;
        setImmediate(feed);
      },
    };
    step = plan.open(next);
    feed();
  });
}

/** Cuts the bytes at the given places. */
export function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...new Set(places.map((p) => p % (bytes.length + 1)))].sort((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const place of [...sorted, bytes.length]) {
    if (place > from) pieces.push(bytes.subarray(from, place));
    from = place;
  }
  return pieces;
}

/** Every byte by itself. */
export const bytewise = (bytes: Buffer): Buffer[] => [...bytes].map((b) => Buffer.of(b));
