// The parts of a compiled policy: rules with their plans, and one target per pattern. All frozen.
import type { Scheme } from "../http/messages.ts";
import { DEFAULT_PORT } from "../http/target.ts";
import type { Ordered } from "./host-index.ts";
import type { PathMatcher } from "./match.ts";
import type { Pattern } from "./patterns.ts";
import type { Decision, Plan, RequestFacts, TunnelPlan } from "./types.ts";

export interface CompiledRule extends Ordered {
  readonly id: string;
  readonly kind: "allow" | "deny";
  /** null: everybody. */
  readonly who: ReadonlySet<string> | null;
  readonly patterns: readonly Pattern[];
  readonly targets: readonly Target[];
  /** Report mode until this time (Infinity: without an end); 0: enforced. */
  readonly reportUntil: number;
  readonly tunnel: TunnelPlan | null;
  readonly plan: Plan;
  /** What an allow answers when nothing else is to be said: made once. */
  readonly decision: Decision;
  readonly encodedSlashes: boolean;
  /** The operator's words, for refusals. */
  readonly why: string | null;
}

/** One pattern of one rule. */
export interface Target extends Ordered {
  readonly rule: CompiledRule;
  readonly pattern: Pattern;
  readonly methods: ReadonlySet<string> | null;
  readonly path: PathMatcher | null;
}

/** A request on its way through the rules. `path` canonical; `otherPaths`: as else it could be read. */
export interface Query {
  readonly facts: RequestFacts;
  readonly path: string;
  readonly otherPaths: readonly string[] | null;
  /** As `PathReadings.bare`. */
  readonly barePaths: readonly string[] | null;
  /** True: whoever asks; to find out whether a credential would help. */
  readonly anybody: boolean;
  readonly now: number;
}

export const isReporting = (rule: CompiledRule, now: number): boolean =>
  rule.reportUntil !== 0 && now < rule.reportUntil;

export const includesClient = (rule: CompiledRule, client: string | null): boolean =>
  rule.who === null || (client !== null && rule.who.has(client));

/** Scheme, port and method; the host is the index's matter. */
export function matchesHead(target: Target, facts: Pick<RequestFacts, "scheme" | "port" | "method">): boolean {
  const { scheme, port } = target.pattern;
  if (scheme !== null && scheme !== facts.scheme) return false;
  if (facts.port !== (port ?? DEFAULT_PORT[facts.scheme])) return false;
  return target.methods === null || target.methods.has(facts.method);
}

/** A deny holds when any reading of the path matches. */
export function deniesPath(target: Target, query: Query): boolean {
  const { path } = target;
  if (path === null || path(query.path)) return true;
  return (query.otherPaths?.some(path) ?? false) || (query.barePaths?.some(path) ?? false);
}

/** An allow holds when every reading of the path matches. */
export function allowsPath(target: Target, query: Query): boolean {
  const { path } = target;
  if (path === null) return true;
  if (!path(query.path) || !(query.otherPaths?.every(path) ?? true)) return false;
  return query.barePaths === null || query.barePaths.every(path) || (target.pattern.path?.includes(";") ?? false);
}

/** True when a request to this port could match, whatever its scheme. */
export function couldMatchPort(pattern: Pattern, port: number): boolean {
  if (pattern.port !== null) return pattern.port === port;
  return pattern.scheme === null ? port === 443 || port === 80 : port === DEFAULT_PORT[pattern.scheme as Scheme];
}

/**
 * True when a deny covers everything that could come through CONNECT to this port: no method, no path, and no scheme
 * but the one that lives at this port (with another port, both schemes may live there, and the request decides).
 */
export function deniesConnect(target: Target, port: number): boolean {
  const { pattern } = target;
  if (pattern.methods !== null || pattern.path !== null || !couldMatchPort(pattern, port)) return false;
  return pattern.scheme === null || port === DEFAULT_PORT[pattern.scheme];
}
