// Why a decision is what it is: the rule that decided, and why each other rule did not, as data and as text.
import { canonicalPath } from "../http/path.ts";
import { canonicalHost } from "../http/target.ts";
import { closedHost, type NetworkPolicy } from "./addresses.ts";
import type { CompiledRule, Query, Target } from "./compiled.ts";
import { allowsPath, couldMatchPort, deniesPath, includesClient, isReporting, matchesHead } from "./compiled.ts";
import type { CompiledPolicy } from "./decide.ts";
import { matchesHost } from "./match.ts";
import { hostText } from "./patterns.ts";
import { readPath } from "./readings.ts";
import type { ConnectDecision, Decision, RequestFacts } from "./types.ts";

export type RuleResult = "decides" | "reports" | "loses" | "does-not-match";

export interface RuleExplanation {
  readonly id: string;
  readonly kind: "allow" | "deny";
  readonly result: RuleResult;
  readonly why: string;
}

export interface Explanation {
  readonly allowed: boolean;
  readonly outcome: Decision["outcome"];
  readonly rule: string | null;
  readonly reason: Decision["reason"];
  readonly message: string;
  /** What happens at CONNECT; null for a request that needs none. */
  readonly connect: Pick<ConnectDecision, "kind" | "outcome" | "rule" | "reason" | "message"> | null;
  /** The canonical form that rules were compared with. */
  readonly compared: { readonly host: string | null; readonly path: string };
  readonly rules: readonly RuleExplanation[];
  /** What the plan of an allowed request does, without any value. */
  readonly plan: readonly string[];
  readonly text: string;
}

/**
 * Explains what happens to a request. For https the CONNECT that comes first is explained as well; a request that ends in
 * a blind tunnel is then decided by the tunnel's rule. `network`: what an allowed request may not reach all the same is told
 * as far as nothing has to be resolved for it.
 */
export function explainRequest(policy: CompiledPolicy, facts: RequestFacts, network: NetworkPolicy): Explanation {
  const connect = facts.scheme === "https" ? policy.decideConnect(facts) : null;
  const inside = connect?.kind === "intercept";
  const settled = connect !== null && connect.kind !== "intercept";
  const seen = { ...facts, insideConnect: facts.insideConnect || inside };
  const decided: Decision = settled ? fromConnect(connect) : policy.decide(seen);
  const decision = withAddresses(decided, facts.host, network);
  const host = canonicalHost(facts.host);
  const canonical = canonicalPath(facts.path);
  const readings = readPath(facts.path, canonical);
  const query: Query = {
    facts: seen,
    path: readings.path,
    otherPaths: readings.others,
    barePaths: readings.bare,
    anybody: false,
    now: policy.now(),
  };
  const rules = policy.rules.map((rule) => explainRule(rule, host, query, decision, settled));
  const partial = {
    allowed: decision.allowed,
    outcome: decision.outcome,
    rule: decision.rule,
    reason: decision.reason,
    message: decision.message,
    connect: connect === null ? null : pickConnect(connect),
    compared: { host, path: canonical.path },
    rules,
    plan: decision.allowed ? describePlan(policy, decision, connect) : [],
  };
  return Object.freeze({ ...partial, text: explanationText(partial, facts, policy) });
}

/** The decision, or the refusal that the address check makes of it. */
export function withAddresses<D extends Decided>(decision: D, host: string, network: NetworkPolicy): D {
  const { to, via, redirect } = decision.plan;
  if (decision.outcome === "deny" || redirect !== null) return decision;
  const hosts = [to?.host ?? canonicalHost(host) ?? host, ...(via === null ? [] : [via.host])];
  const closed = hosts.map((one) => closedHost(one, network)).find((why) => why !== null);
  if (closed === undefined) return decision;
  const refused = { outcome: "deny", reason: "address-prohibited", message: `${closed}.` } as const;
  return { ...decision, ...refused, ...("allowed" in decision ? { allowed: false } : { kind: "refuse" }) };
}
type Decided = Pick<Decision, "outcome" | "plan" | "reason" | "message"> & ({ allowed: boolean } | { kind: string });

const fromConnect = (c: ConnectDecision): Decision => ({
  allowed: c.kind !== "refuse",
  outcome: c.outcome,
  rule: c.rule,
  reason: c.reason,
  message: c.message,
  plan: c.plan,
});

const pickConnect = ({ kind, outcome, rule, reason, message }: ConnectDecision) => ({
  kind,
  outcome,
  rule,
  reason,
  message,
});

function explainRule(
  rule: CompiledRule,
  host: string | null,
  query: Query,
  decision: Decision,
  atConnect: boolean,
): RuleExplanation {
  const say = (result: RuleResult, why: string): RuleExplanation => ({ id: rule.id, kind: rule.kind, result, why });
  const misses = rule.targets.map((target) => missOf(target, host, query, atConnect));
  const hit = misses.indexOf(null);
  const matched = hit < 0 ? null : (rule.patterns[hit]?.text ?? "");
  if (rule.id === decision.rule && decision.outcome !== "would-deny") {
    const but = decision.reason === "address-prohibited" ? ", and the address check refuses" : "";
    return say("decides", `matches ${matched ?? "at CONNECT"}${but}`);
  }
  if (rule.id === decision.rule) return say("reports", `matches ${matched ?? "at CONNECT"}, in report mode`);
  if (matched === null) return say("does-not-match", misses[0] ?? "it has no pattern");
  if (rule.kind === "deny" && isReporting(rule, query.now)) return say("reports", `matches ${matched}, in report mode`);
  if (decision.rule === null && decision.reason === "address-prohibited") {
    return say("loses", `matches ${matched}, and the address check refuses`);
  }
  if (decision.rule === null) return say("loses", `matches ${matched}, but the request is refused before rules count`);
  return say("loses", `matches ${matched}, but ${decision.rule} ${decision.allowed ? "comes first" : "denies"}`);
}

/** Why a target does not match; null: it does. The reason that is nearest to a match, so host first. */
function missOf(target: Target, host: string | null, query: Query, atConnect: boolean): string | null {
  const { pattern, rule } = target;
  const { facts } = query;
  if (host === null || !matchesHost(pattern.host, host)) return `is for ${hostText(pattern.host)}`;
  if (!includesClient(rule, facts.client)) return `is for ${[...(rule.who ?? [])].join(", ")}`;
  if (pattern.scheme !== null && pattern.scheme !== facts.scheme) return `is for ${pattern.scheme}`;
  if (!couldMatchPort(pattern, facts.port)) return `is for port ${pattern.port ?? "443 (https) and 80 (http)"}`;
  if (target.methods !== null && !target.methods.has(facts.method)) return `is for ${pattern.methods?.join(", ")}`;
  if (!matchesHead(target, facts)) return `is for port ${pattern.port ?? "443 (https) and 80 (http)"}`;
  if (rule.tunnel !== null && !atConnect)
    return facts.insideConnect ? "is a tunnel, and this connection is opened" : "is a tunnel: it allows CONNECT alone";
  const path = rule.kind === "deny" ? deniesPath(target, query) : allowsPath(target, query);
  return path ? null : `is for ${pattern.path}`;
}

function describePlan(policy: CompiledPolicy, decision: Decision, connect: ConnectDecision | null): string[] {
  const { plan } = decision;
  const lines: string[] = [];
  if (connect?.tunnel) lines.push(`tunnelled, not opened: ${connect.tunnel.reason}`);
  if (plan.redirect !== null) lines.push(`answered with ${plan.redirect.status} to ${plan.redirect.to}`);
  if (plan.to !== null) lines.push(`sent to ${plan.to.scheme}://${plan.to.host}:${plan.to.port}`);
  if (plan.via !== null) lines.push(`through the proxy ${plan.via.scheme}://${plan.via.host}:${plan.via.port}`);
  for (const edit of plan.requestEdits) lines.push(`request: ${edit.op} ${edit.name}`);
  for (const edit of plan.responseEdits) lines.push(`response: ${edit.op} ${edit.name}`);
  for (const text of plan.content?.describe ?? []) lines.push(text);
  const { limits } = plan;
  for (const name of ["request", "response", "headers", "url", "idle", "total"] as const) {
    if (limits[name] !== policy.defaults.limits[name]) lines.push(`limit: ${name} ${limits[name]}`);
  }
  return lines;
}

function explanationText(e: Omit<Explanation, "text">, facts: RequestFacts, policy: CompiledPolicy): string {
  const by = e.rule === null ? `the default (${policy.defaultAction})` : `rule ${e.rule}`;
  const lines = [
    `${e.outcome}  ${facts.method} ${facts.scheme}://${e.compared.host ?? "?"}${e.compared.path}`,
    `  by ${by}`,
  ];
  if (e.message !== "") lines.push(`  ${e.message}`);
  if (e.connect !== null) lines.push(`  at CONNECT: ${e.connect.kind}`);
  for (const line of e.plan) lines.push(`  ${line}`);
  for (const r of e.rules) lines.push(`  ${r.result.padEnd(15)} ${r.kind.padEnd(6)} ${r.id}: ${r.why}`);
  return lines.join("\n");
}
