// What the policy is asked and what it answers. Pure: same policy, same facts, same decision; a decision always says why.
import type { ContentPlan } from "../filters/content-plan.ts";
import type { Authority, Destination, Scheme } from "../http/messages.ts";
import type { Reason } from "../shared/errors.ts";

/** Who is speaking, after authentication. */
export interface Who {
  /** The name of the client in the policy's `clients`, or null for an anonymous one. */
  readonly client: string | null;
  /** The source address, canonical text. */
  readonly address: string;
}

/** What is known of a request. */
export interface RequestFacts extends Who {
  readonly method: string;
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  /** Path and query as sent. */
  readonly path: string;
  /** True inside an opened CONNECT. */
  readonly insideConnect: boolean;
}

/** What is known at CONNECT: neither method nor path of what will come. */
export interface ConnectFacts extends Who, Authority {}

/** `would-deny`: report mode let pass what enforcement would refuse. */
export type Outcome = "allow" | "deny" | "would-deny";

export interface Limits {
  /** Bytes of request content; Infinity: none. */
  readonly request: number;
  readonly response: number;
  /** Bytes of a field section. */
  readonly headers: number;
  /** Bytes of the request target. */
  readonly url: number;
  /** Milliseconds without a byte in either direction. */
  readonly idle: number;
  /** Milliseconds for the whole exchange; Infinity: none. */
  readonly total: number;
}

export type FieldOp = "set" | "append" | "remove";
export interface FieldEdit {
  readonly op: FieldOp;
  /** In lower case for `remove`, as the operator wrote it otherwise. */
  readonly name: string;
  /** Secrets already put in; "" for remove. */
  readonly value: string;
}

/** The next proxy of a `via` rule. */
export interface NextProxy extends Destination {
  /** The value of Proxy-Authorization, or null. Secret. */
  readonly authorization: string | null;
  /** `both`: the name is resolved and checked here and sent by name; `here`: a checked address is sent. */
  readonly resolve: "both" | "here";
}

/** Another origin for a `to` rule. */
export interface Reroute extends Destination {
  /** `set`: the origin sees its own name in Host; `keep`: the name the client asked for. */
  readonly hostField: "set" | "keep";
}

export interface RedirectPlan {
  readonly status: 301 | 302 | 303 | 307 | 308;
  /** Scheme and authority (and path prefix) that the client is sent to; the request's path and query are appended. */
  readonly to: string;
}

export interface TunnelPlan {
  readonly reason: string;
  /** Bytes from the client to the origin; Infinity: no limit. */
  readonly bytesOut: number;
  readonly bytesIn: number;
  /** Milliseconds; Infinity: no limit. */
  readonly total: number;
  readonly idle: number;
  /** What a ClientHello without SNI does: refused unless the rule says so (pitfalls B4). */
  readonly withoutSni: "deny" | "allow";
}

/** What a record holds beside the digests. */
export interface RecordPlan {
  /** Lower-case field names whose values are recorded; credentials are always redacted. */
  readonly fields: readonly string[];
  /** Bytes of each body that are recorded; 0: none. */
  readonly bodies: number;
  /** True: query values are recorded as sent. */
  readonly query: boolean;
}

/** What happens to an allowed request: prepared when the policy is loaded, one frozen object per rule. */
export interface Plan {
  readonly limits: Limits;
  readonly requestEdits: readonly FieldEdit[];
  readonly responseEdits: readonly FieldEdit[];
  /** null: nothing looks at the content. */
  readonly content: ContentPlan | null;
  readonly to: Reroute | null;
  readonly via: NextProxy | null;
  readonly redirect: RedirectPlan | null;
  readonly record: RecordPlan;
}

export interface Decision {
  /** What happens. False: refused with `reason`. */
  readonly allowed: boolean;
  readonly outcome: Outcome;
  /** The id of the rule that decided (or would have denied), or null for the default. */
  readonly rule: string | null;
  /** The reason of a refusal (`not-allowed`, or `unauthenticated` when a rule with `who` would have allowed it). */
  readonly reason: Reason | null;
  /** A sentence for people; "" when allowed. Built only for refusals. */
  readonly message: string;
  readonly plan: Plan;
}

export interface ConnectDecision {
  readonly kind: "intercept" | "tunnel" | "refuse";
  readonly outcome: Outcome;
  readonly rule: string | null;
  readonly reason: Reason | null;
  readonly message: string;
  /** Set when kind is `tunnel`. */
  readonly tunnel: TunnelPlan | null;
  /**
   * The plan for what is neither TLS nor HTTP inside an opened CONNECT: of the first rule that allows everything to this
   * authority, or the defaults. Null: only some methods or paths are allowed, which such bytes cannot keep.
   */
  readonly opaque: Plan | null;
  /** The plan of the rule (its `via`, `to`), or the defaults. Requests inside an opened CONNECT get their own. */
  readonly plan: Plan;
}

/** A compiled policy: frozen, swapped as one reference on reload. */
export interface Policy {
  /** First 16 hex digits of the SHA-256 of its sources: in logs, `/readyz` and metrics. */
  readonly version: string;
  readonly defaults: Plan;
  decide(facts: RequestFacts): Decision;
  decideConnect(facts: ConnectFacts): ConnectDecision;
}
