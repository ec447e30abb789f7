// Document in, frozen policy out: patterns read, matchers prepared, plans made. Every problem is reported at once.
import type { ContentPlan } from "../filters/content-plan.ts";
import { ContentRuleError, compileContent } from "../filters/index.ts";
import type { CompiledRule, Target } from "./compiled.ts";
import { allowedBy, CompiledPolicy } from "./decide.ts";
import type { DefaultsDocument, PolicyDocument, RuleDocument } from "./document.ts";
import { lint } from "./lint.ts";
import { compilePath } from "./match.ts";
import { type Pattern, PatternError, parsePattern } from "./patterns.ts";
import { compilePlan, compileTunnel, defaultPlan } from "./plan.ts";
import { type DocumentPath, Findings, nearest, PolicyError } from "./problems.ts";
import type { Plan } from "./types.ts";

export interface CompileOptions {
  /** First 16 hex digits of the SHA-256 of the sources. */
  readonly version: string;
  /** Milliseconds since 1970: report mode has an end date. */
  readonly now: () => number;
  /** Known secrets, for content rules; never described. */
  readonly secrets?: readonly { readonly name: string; readonly value: string }[];
}

interface Context {
  readonly document: PolicyDocument;
  readonly options: CompileOptions;
  readonly base: Plan;
  readonly findings: Findings;
}

/** Compiles a policy. Throws a PolicyError that holds every problem of the document. */
export function compilePolicy(document: PolicyDocument, options: CompileOptions): CompiledPolicy {
  const findings = new Findings();
  const base = defaultPlan(document.defaults.limits);
  const context: Context = { document, options, base, findings };
  checkIds(document.rules, findings);
  const rules = document.rules.map((rule, order) => compileRule(rule, order, context));
  if (findings.problems.length > 0) throw new PolicyError(findings.problems);
  lint(document, rules, findings, options.now());
  const { defaults } = document;
  return new CompiledPolicy({
    version: options.version,
    defaults: base,
    defaultAction: defaults.action,
    defaultReportUntil: reportUntil(defaults.mode, defaults.until),
    encodedSlashes: defaults["encoded-slashes"] === "allow",
    rules: Object.freeze(rules),
    warnings: Object.freeze(findings.warnings),
    now: options.now,
  });
}

function checkIds(rules: readonly RuleDocument[], findings: Findings): void {
  const seen = new Set<string>();
  rules.forEach((rule, i) => {
    if (seen.has(rule.id)) findings.problem(["rules", i, "id"], `another rule is called ${rule.id} already`);
    seen.add(rule.id);
  });
}

function compileRule(rule: RuleDocument, order: number, context: Context): CompiledRule {
  const { document, findings, base } = context;
  const at: DocumentPath = ["rules", order];
  checkKind(rule, at, findings);
  checkWho(rule, document.clients, at, findings);
  const kind = rule.deny === undefined ? "allow" : "deny";
  const patterns = readPatterns(rule, kind, at, findings);
  checkTunnel(rule, patterns, at, findings);
  const mode = rule.mode ?? document.defaults.mode;
  const until = reportUntil(mode, rule.mode === undefined ? document.defaults.until : rule.until);
  const plan = compilePlan(rule, base, content(rule, until, context, at), at, findings);
  const targets: Target[] = [];
  const compiled: CompiledRule = {
    id: rule.id,
    order,
    kind,
    who: rule.who === undefined ? null : new Set(rule.who),
    patterns: Object.freeze(patterns),
    targets,
    reportUntil: until,
    tunnel: rule.tunnel === undefined ? null : compileTunnel(rule.tunnel, plan.limits),
    plan,
    decision: allowedBy(rule.id, plan),
    encodedSlashes: (rule["encoded-slashes"] ?? document.defaults["encoded-slashes"]) === "allow",
    why: rule.reason ?? null,
  };
  for (const pattern of patterns) targets.push(target(compiled, pattern));
  Object.freeze(targets);
  return Object.freeze(compiled);
}

const target = (rule: CompiledRule, pattern: Pattern): Target =>
  Object.freeze({
    order: rule.order,
    rule,
    pattern,
    methods: pattern.methods === null ? null : new Set(pattern.methods),
    path: pattern.path === null ? null : compilePath(pattern.path),
  });

/** 0: enforced; Infinity: report mode without an end. */
function reportUntil(mode: "enforce" | "report", until: number | undefined): number {
  return mode === "enforce" ? 0 : (until ?? Number.POSITIVE_INFINITY);
}

const PLAN_KEYS = ["limits", "headers", "content", "to", "via", "redirect", "tunnel", "encoded-slashes"] as const;

function checkKind(rule: RuleDocument, at: DocumentPath, findings: Findings): void {
  if (rule.allow === undefined && rule.deny === undefined) {
    findings.problem(at, `rule ${rule.id} says neither allow nor deny`);
  }
  if (rule.allow !== undefined && rule.deny !== undefined) {
    findings.problem([...at, "deny"], `rule ${rule.id} says both allow and deny: write two rules`);
  }
  if (rule.deny !== undefined) {
    for (const key of PLAN_KEYS) {
      if (rule[key] !== undefined) findings.problem([...at, key], `what is denied has no use for ${key}`);
    }
  }
  if (rule.redirect !== undefined) {
    for (const key of ["to", "via", "content"] as const) {
      if (rule[key] !== undefined) findings.problem([...at, key], `a redirect is answered here: ${key} has no use`);
    }
  }
  if (rule.until !== undefined && rule.mode !== "report") {
    findings.problem([...at, "until"], "until is the end of report mode: say mode: report");
  }
}

function checkWho(rule: RuleDocument, clients: readonly string[], at: DocumentPath, findings: Findings): void {
  (rule.who ?? []).forEach((name, i) => {
    if (clients.includes(name)) return;
    const meant = nearest(name, clients);
    findings.problem(
      [...at, "who", i],
      `no client is called ${name}${meant === null ? "" : `: did you mean ${meant}?`}`,
    );
  });
}

function readPatterns(rule: RuleDocument, kind: "allow" | "deny", at: DocumentPath, findings: Findings): Pattern[] {
  const patterns: Pattern[] = [];
  (rule[kind] ?? []).forEach((text, i) => {
    try {
      const pattern = parsePattern(text);
      patterns.push(pattern);
      checkBreadth(rule, kind, pattern, [...at, kind, i], findings);
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      findings.problem([...at, kind, i], error.message);
    }
  });
  return patterns;
}

/** `*` and `*.com` open or close far more than most people mean (pitfalls H19, H20). */
function checkBreadth(
  rule: RuleDocument,
  kind: "allow" | "deny",
  pattern: Pattern,
  at: DocumentPath,
  findings: Findings,
): void {
  const { host } = pattern;
  if (rule.broad === true || host.kind === "exact") return;
  if (host.kind === "any") {
    const instead = kind === "deny" ? "set defaults.action: deny instead" : "name the hosts";
    findings.problem(at, `* covers every host: ${instead}, or say broad: true`);
  } else if (!host.suffix.includes(".")) {
    findings.problem(at, `*.${host.suffix} covers a whole top-level domain: name the hosts, or say broad: true`);
  }
}

/** A blind tunnel cannot keep what needs to look inside. */
function checkTunnel(rule: RuleDocument, patterns: readonly Pattern[], at: DocumentPath, findings: Findings): void {
  if (rule.tunnel === undefined) return;
  patterns.forEach((pattern) => {
    const i = (rule.allow ?? []).indexOf(pattern.text);
    const where = [...at, "allow", i];
    if (pattern.methods !== null) findings.problem(where, "a tunnel is not opened: a method cannot be compared");
    if (pattern.path !== null) findings.problem(where, "a tunnel is not opened: a path cannot be compared");
    if (pattern.scheme === "http") findings.problem(where, "a tunnel carries TLS: write https:// or no scheme");
  });
  for (const key of ["headers", "content", "redirect", "limits", "record", "encoded-slashes"] as const) {
    if (rule[key] !== undefined) findings.problem([...at, key], `a tunnel is not opened: ${key} contradicts it`);
  }
}

function content(rule: RuleDocument, until: number, context: Context, at: DocumentPath): ContentPlan | null {
  if (rule.content === undefined || rule.content.length === 0) return null;
  const { options, findings } = context;
  try {
    return compileContent(rule.content, contentOptions(context.document.defaults, until, options));
  } catch (error) {
    if (!(error instanceof ContentRuleError)) throw error;
    for (const p of error.problems) findings.problem([...at, "content", ...p.path], p.message);
    return null;
  }
}

function contentOptions(defaults: DefaultsDocument, until: number, options: CompileOptions) {
  const { now } = options;
  return {
    hold: defaults.hold,
    maxMatch: defaults["max-match"],
    scanLimit: defaults["scan-limit"],
    onUnscannable: defaults["on-unscannable"],
    mode: until === 0 ? ("enforce" as const) : () => (now() < until ? ("report" as const) : ("enforce" as const)),
    secrets: options.secrets ?? [],
  };
}
