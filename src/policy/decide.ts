// Facts in, decision out: a matching deny always wins; otherwise the first matching allow in the file; otherwise the default.
import { canonicalPath } from "../http/path.ts";
import { authorityText, canonicalHost, originText } from "../http/target.ts";
import type { CompiledRule, Query, Target } from "./compiled.ts";
import {
  allowsPath,
  couldMatchPort,
  deniesConnect,
  deniesPath,
  includesClient,
  isReporting,
  matchesHead,
} from "./compiled.ts";
import { HostIndex } from "./host-index.ts";
import type { DocumentProblem } from "./problems.ts";
import { readPath } from "./readings.ts";
import type {
  ConnectDecision,
  ConnectFacts,
  Decision,
  Outcome,
  Plan,
  Policy,
  RequestFacts,
  TunnelPlan,
} from "./types.ts";

export interface PolicyParts {
  readonly version: string;
  readonly defaults: Plan;
  readonly defaultAction: "deny" | "allow";
  /** As `CompiledRule.reportUntil`, for the default. */
  readonly defaultReportUntil: number;
  readonly encodedSlashes: boolean;
  readonly rules: readonly CompiledRule[];
  readonly warnings: readonly DocumentProblem[];
  /** The time in milliseconds since 1970, for the end of report mode. */
  readonly now: () => number;
}

interface ConnectQuery {
  readonly facts: ConnectFacts;
  readonly anybody: boolean;
  readonly now: number;
}

const denies = (t: Target, q: Query): boolean =>
  !isReporting(t.rule, q.now) && includesClient(t.rule, q.facts.client) && matchesHead(t, q.facts) && deniesPath(t, q);
const wouldDeny = (t: Target, q: Query): boolean =>
  isReporting(t.rule, q.now) && includesClient(t.rule, q.facts.client) && matchesHead(t, q.facts) && deniesPath(t, q);
// A tunnel rule allows a CONNECT and nothing else: a request, also one in absolute-form, could not keep its limits.
const allows = (t: Target, q: Query): boolean =>
  t.rule.tunnel === null &&
  (q.anybody || includesClient(t.rule, q.facts.client)) &&
  matchesHead(t, q.facts) &&
  allowsPath(t, q);

const deniesAll = (t: Target, q: ConnectQuery): boolean =>
  !isReporting(t.rule, q.now) && includesClient(t.rule, q.facts.client) && deniesConnect(t, q.facts.port);
const wouldDenyAll = (t: Target, q: ConnectQuery): boolean =>
  isReporting(t.rule, q.now) && includesClient(t.rule, q.facts.client) && deniesConnect(t, q.facts.port);
const deniesSome = (t: Target, q: ConnectQuery): boolean =>
  !isReporting(t.rule, q.now) && includesClient(t.rule, q.facts.client) && couldMatchPort(t.pattern, q.facts.port);
const couldAllow = (t: Target, q: ConnectQuery): boolean =>
  (q.anybody || includesClient(t.rule, q.facts.client)) && couldMatchPort(t.pattern, q.facts.port);
/** Everything to this authority is allowed, whatever it is. */
const allowsAll = (t: Target, q: ConnectQuery): boolean =>
  t.pattern.methods === null && t.pattern.path === null && couldAllowInside(t, q);
const couldAllowInside = (t: Target, q: ConnectQuery): boolean => t.rule.tunnel === null && couldAllow(t, q);

/** A compiled policy that can also explain itself. Made by `compilePolicy`. */
export class CompiledPolicy implements Policy {
  readonly version: string;
  readonly defaults: Plan;
  readonly rules: readonly CompiledRule[];
  readonly warnings: readonly DocumentProblem[];
  readonly defaultAction: "deny" | "allow";
  readonly #parts: PolicyParts;
  readonly #denies = new HostIndex<Target>();
  readonly #allows = new HostIndex<Target>();
  readonly #mayReport: boolean;
  readonly #defaultAllow: Decision;

  constructor(parts: PolicyParts) {
    this.#parts = parts;
    this.version = parts.version;
    this.defaults = parts.defaults;
    this.defaultAction = parts.defaultAction;
    this.rules = parts.rules;
    this.warnings = parts.warnings;
    for (const rule of parts.rules) {
      const index = rule.kind === "deny" ? this.#denies : this.#allows;
      for (const target of rule.targets) index.add(target.pattern.host, target);
    }
    this.#mayReport = parts.defaultReportUntil !== 0 || parts.rules.some((r) => r.reportUntil !== 0);
    this.#defaultAllow = allowed("allow", null, parts.defaults);
    Object.freeze(this);
  }

  /** The time by this policy's clock. */
  now(): number {
    return this.#parts.now();
  }

  /** The decision for a request. Total: any facts get one. */
  decide(facts: RequestFacts): Decision {
    const host = canonicalHost(facts.host);
    if (host === null) return this.#refused(facts, null, "the host is not a name or an address");
    const now = this.#mayReport ? this.#parts.now() : 0;
    const readings = readPath(facts.path, canonicalPath(facts.path));
    const { path, others, bare } = readings;
    const query: Query = { facts, path, otherPaths: others, barePaths: bare, anybody: false, now };
    const deny = this.#denies.first(host, query, denies);
    if (deny !== null) return this.#refused(facts, deny.rule, denyText(deny.rule));
    const allow = this.#allows.first(host, query, allows);
    if (readings.dangerous !== null && !(readings.slashesOnly && this.#acceptsSlashes(allow))) {
      return this.#refused(facts, null, `its path has ${readings.dangerous}, which servers read in different ways`);
    }
    const would = this.#mayReport ? this.#denies.first(host, query, wouldDeny) : null;
    if (would !== null && (allow !== null || this.#defaultPasses(now))) {
      return allowed("would-deny", would.rule.id, allow?.rule.plan ?? this.defaults);
    }
    if (allow !== null) return allow.rule.decision;
    if (this.defaultAction === "allow") return this.#defaultAllow;
    if (now < this.#parts.defaultReportUntil) return allowed("would-deny", null, this.defaults);
    const wants = facts.client === null && this.#allows.first(host, { ...query, anybody: true }, allows) !== null;
    return this.#refused(facts, null, null, wants);
  }

  /** The decision at CONNECT, where neither method nor path is known. Total. */
  decideConnect(facts: ConnectFacts): ConnectDecision {
    const host = canonicalHost(facts.host);
    if (host === null) return this.#refusedConnect(facts, null, "the host is not a name or an address");
    const now = this.#mayReport ? this.#parts.now() : 0;
    const query: ConnectQuery = { facts, anybody: false, now };
    const deny = this.#denies.first(host, query, deniesAll);
    if (deny !== null) return this.#refusedConnect(facts, deny.rule, denyText(deny.rule));
    const would = this.#mayReport ? this.#denies.first(host, query, wouldDenyAll) : null;
    const outcome = would === null ? "allow" : "would-deny";
    const allow = this.#allows.first(host, query, couldAllow);
    const whole = this.#allows.first(host, query, allowsAll)?.rule.plan ?? null;
    const opaque = whole ?? (this.#defaultPasses(now) ? this.defaults : null);
    if (allow !== null) {
      const { rule } = allow;
      if (rule.tunnel === null) return intercept(outcome, would?.rule.id ?? rule.id, rule.plan, opaque);
      // A deny that speaks of methods or paths can only be kept by looking inside.
      if (this.#denies.first(host, query, deniesSome) === null) {
        return tunnelled(outcome, would?.rule.id ?? rule.id, rule.tunnel, rule.plan);
      }
      const inside = this.#allows.first(host, query, couldAllowInside);
      if (inside !== null) return intercept(outcome, would?.rule.id ?? rule.id, inside.rule.plan, opaque);
    }
    if (this.defaultAction === "allow") return intercept(outcome, would?.rule.id ?? null, this.defaults, opaque);
    if (now < this.#parts.defaultReportUntil)
      return intercept("would-deny", would?.rule.id ?? null, this.defaults, opaque);
    const wants = facts.client === null && this.#allows.first(host, { ...query, anybody: true }, couldAllow) !== null;
    return this.#refusedConnect(facts, null, allow === null ? null : tunnelText(allow.rule), wants);
  }

  #acceptsSlashes(allow: Target | null): boolean {
    return allow === null ? this.#parts.encodedSlashes : allow.rule.encodedSlashes;
  }

  #defaultPasses(now: number): boolean {
    return this.defaultAction === "allow" || now < this.#parts.defaultReportUntil;
  }

  #refused(facts: RequestFacts, rule: CompiledRule | null, why: string | null, wantsCredential = false): Decision {
    const what = `${facts.method} ${originText(facts)}${facts.path.split(/[?#]/, 1)[0]}`;
    return Object.freeze({
      allowed: false,
      outcome: "deny",
      rule: rule?.id ?? null,
      reason: wantsCredential ? "unauthenticated" : "not-allowed",
      message: refusalText(what, facts.client, why, wantsCredential),
      plan: rule?.plan ?? this.defaults,
    });
  }

  #refusedConnect(
    facts: ConnectFacts,
    rule: CompiledRule | null,
    why: string | null,
    wantsCredential = false,
  ): ConnectDecision {
    return Object.freeze({
      kind: "refuse",
      outcome: "deny",
      rule: rule?.id ?? null,
      reason: wantsCredential ? "unauthenticated" : "not-allowed",
      message: refusalText(`CONNECT ${authorityText(facts)}`, facts.client, why, wantsCredential),
      tunnel: null,
      plan: rule?.plan ?? this.defaults,
      opaque: null,
    });
  }
}

const allowed = (outcome: Outcome, rule: string | null, plan: Plan): Decision =>
  Object.freeze({ allowed: true, outcome, rule, reason: null, message: "", plan });

/** The answer of an allow rule when nothing else is to be said. */
export const allowedBy = (id: string, plan: Plan): Decision => allowed("allow", id, plan);

const intercept = (outcome: Outcome, rule: string | null, plan: Plan, opaque: Plan | null): ConnectDecision =>
  Object.freeze({ kind: "intercept", outcome, rule, reason: null, message: "", tunnel: null, plan, opaque });

const tunnelled = (outcome: Outcome, rule: string, tunnel: TunnelPlan, plan: Plan): ConnectDecision =>
  Object.freeze({ kind: "tunnel", outcome, rule, reason: null, message: "", tunnel, plan, opaque: null });

const denyText = (rule: CompiledRule): string =>
  `rule ${rule.id} denies it${rule.why === null ? "" : ` (${rule.why})`}`;

const tunnelText = (rule: CompiledRule): string =>
  `rule ${rule.id} would tunnel it, but a deny with methods or paths covers it, which a blind tunnel cannot keep`;

function refusalText(what: string, client: string | null, why: string | null, wantsCredential: boolean): string {
  const whom = client ?? "an anonymous client";
  if (why !== null) return `${what} is refused for ${whom}: ${why}.`;
  if (wantsCredential) return `no rule allows ${what} for ${whom}, but one does for a client that says who it is.`;
  return `no rule allows ${what} for ${whom}.`;
}
