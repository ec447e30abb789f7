// What is valid but probably not meant: warnings of `policy check`.
import { type CompiledRule, isReporting } from "./compiled.ts";
import { coversPattern, coversWho } from "./cover.ts";
import type { PolicyDocument, RuleDocument } from "./document.ts";
import { matchesHost } from "./match.ts";
import type { Pattern } from "./patterns.ts";
import { hostText } from "./patterns.ts";
import type { DocumentPath, Findings } from "./problems.ts";

/** Adds warnings about rules that compiled well. `now`: milliseconds since 1970. */
export function lint(document: PolicyDocument, rules: readonly CompiledRule[], findings: Findings, now: number): void {
  lintMode(document.defaults, ["defaults"], "the defaults", findings, now);
  rules.forEach((rule, order) => {
    const at: DocumentPath = ["rules", order];
    lintMode(document.rules[order] as RuleDocument, at, `rule ${rule.id}`, findings, now);
    rule.patterns.forEach((pattern, i) => {
      const where = [...at, rule.kind, i];
      lintName(pattern, where, findings);
      lintWildcard(pattern, rule, rules, where, findings);
      lintShadow(pattern, i, rule, rules, where, findings, now);
    });
    if (rule.tunnel !== null) lintTunnel(rule, rules, at, findings);
  });
}

function lintMode(
  document: Pick<RuleDocument, "mode" | "until">,
  at: DocumentPath,
  name: string,
  findings: Findings,
  now: number,
): void {
  if (document.mode !== "report") return;
  if (document.until === undefined) {
    findings.warn([...at, "mode"], `${name}: report mode without an end: say until: YYYY-MM-DD`);
  } else if (document.until <= now) {
    findings.warn([...at, "until"], `${name}: report mode is over, so it is enforced`);
  }
}

/** Names that people read as something else. */
function lintName(pattern: Pattern, at: DocumentPath, findings: Findings): void {
  const written = /^(?:\S+\s+)?(?:\w+:\/\/)?([^/]*)/.exec(pattern.text.trim())?.[1] ?? "";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the range is ASCII itself
  if (/^[\x00-\x7f]*$/.test(written)) return;
  findings.warn(at, `${written} is compared as ${hostText(pattern.host)}`);
  for (const label of written.split(/[.。]/u)) {
    if (scriptsOf(label) > 1)
      findings.warn(at, `${label} mixes letters of several scripts: is it the name that it looks like?`);
  }
}

const SCRIPTS = [
  /\p{Script=Latin}/u,
  /\p{Script=Cyrillic}/u,
  /\p{Script=Greek}/u,
  /\p{Script=Armenian}/u,
  /\p{Script=Hebrew}/u,
  /\p{Script=Arabic}/u,
];

/** Han, Hiragana, Katakana and Hangul are usually mixed, with Latin too, and are not counted. */
const scriptsOf = (label: string): number => SCRIPTS.filter((script) => script.test(label)).length;

/** `*.x` never covers `x`: warn when no rule of the kind speaks of the other. */
function lintWildcard(
  pattern: Pattern,
  rule: CompiledRule,
  rules: readonly CompiledRule[],
  at: DocumentPath,
  findings: Findings,
): void {
  const same = rules.filter((other) => other.kind === rule.kind).flatMap((other) => other.patterns);
  if (pattern.host.kind === "suffix") {
    const { suffix } = pattern.host;
    if (!same.some((other) => matchesHost(other.host, suffix))) {
      findings.warn(at, `*.${suffix} does not cover ${suffix} itself, and no other ${rule.kind} does`);
    }
  } else if (
    pattern.host.kind === "exact" &&
    rule.kind === "deny" &&
    pattern.path === null &&
    /^[^:]*[a-z][^:]*$/.test(pattern.host.host)
  ) {
    const { host } = pattern.host;
    if (!same.some((other) => matchesHost(other.host, `a.${host}`))) {
      findings.warn(at, `this denies ${host} but not the names below it: add *.${host}`);
    }
  }
}

/** A pattern that never decides, because a deny or an earlier allow always does. */
function lintShadow(
  pattern: Pattern,
  index: number,
  rule: CompiledRule,
  rules: readonly CompiledRule[],
  at: DocumentPath,
  findings: Findings,
  now: number,
): void {
  if (rule.patterns.some((other, i) => i < index && coversPattern(other, pattern))) {
    findings.warn(at, `${pattern.text} is covered by an earlier pattern of this rule`);
    return;
  }
  for (const other of rules) {
    if (other === rule || isReporting(other, now) || !coversWho(other, rule)) continue;
    // A tunnel rule does not match inside an intercepted connection, so it shadows tunnels only.
    if (other.kind === "allow" && (rule.kind === "deny" || other.order > rule.order)) continue;
    if (other.kind === "deny" && rule.kind === "deny" && other.order > rule.order) continue;
    if (other.tunnel !== null && rule.tunnel === null) continue;
    if (!other.patterns.some((outer) => coversPattern(outer, pattern))) continue;
    const how = other.kind === "deny" ? "a deny always wins" : "it comes first";
    findings.warn(at, `${pattern.text} never decides: rule ${other.id} covers it, and ${how}`);
    return;
  }
}

/** A tunnel rule that an earlier allow or a partial deny keeps from tunnelling. */
function lintTunnel(rule: CompiledRule, rules: readonly CompiledRule[], at: DocumentPath, findings: Findings): void {
  for (const other of rules) {
    if (other === rule || other.tunnel !== null || (other.kind === "allow" && other.order > rule.order)) continue;
    const partial = other.kind === "allow" || other.patterns.some((p) => p.methods !== null || p.path !== null);
    const meets = other.patterns.some((p) => rule.patterns.some((own) => meetsHost(p, own)));
    if (!partial || !meets) continue;
    const why = other.kind === "allow" ? "comes first" : "speaks of methods or paths";
    findings.warn([...at, "tunnel"], `rule ${rule.id} may not tunnel: rule ${other.id} ${why} for the same host`);
  }
}

const meetsHost = (a: Pattern, b: Pattern): boolean => {
  if (b.host.kind === "exact") return matchesHost(a.host, b.host.host);
  return a.host.kind === "exact" ? matchesHost(b.host, a.host.host) : hostText(a.host) === hostText(b.host);
};
