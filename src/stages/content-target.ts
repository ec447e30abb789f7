// The content rules for paths and queries. What is replaced there makes another target, so the policy is asked for that as well.
import type { TextRule } from "../filters/content-plan.ts";
import { matchesText, nameIn, redactedPath, redactedQuery, splitTarget } from "../filters/head-scan.ts";
import type { ContentSide } from "./content-side.ts";
import { decisionFor } from "./decision.ts";

/** Looks at the target that goes out, and replaces in it. Throws a ProxyError where it is blocked. */
export function scanTarget(side: ContentSide): void {
  const { forward } = side.x;
  hideSecrets(side);
  let { path, query } = splitTarget(forward.path);
  let changed: TextRule | null = null;
  for (const rule of side.rules.path)
    if (matchesText(rule, path, false) && side.matched(rule, "path", nameIn(rule, path))) {
      path = redactedPath(rule, path);
      changed = rule;
    }
  for (const rule of side.rules.query)
    if (query !== "" && matchesText(rule, query, true) && side.matched(rule, "query", nameIn(rule, query)))
      query = redactedQuery(rule, query);
  scanWholeTarget(side, path + query);
  if (changed !== null) decideAgain(side, changed, path + query);
  forward.path = path + query;
}

/** Another path may be another's business: it must be allowed by the same rule, in the same way. */
function decideAgain(side: ContentSide, rule: TextRule, target: string): void {
  const { decision } = side.x;
  const again = decisionFor(side.x, target);
  const same =
    again.allowed &&
    again.outcome === decision?.outcome &&
    again.rule === decision.rule &&
    again.plan === decision.plan;
  if (!same) throw side.blocked(rule, "path", null, "the rule does not allow the path that this would make");
}

/** A secret with a question mark in it stands partly in the path and partly in the query. It is not replaced there. */
function scanWholeTarget(side: ContentSide, target: string): void {
  for (const rule of side.rules.path)
    if (rule.secret && side.rules.query.some((other) => other.matcher === rule.matcher) && crosses(rule, target))
      side.matched(rule, "target");
}

const crosses = (rule: TextRule, target: string): boolean => {
  const { path, query } = splitTarget(target);
  return (
    query !== "" &&
    matchesText(rule, target, true) &&
    !matchesText(rule, path, false) &&
    !matchesText(rule, query, true)
  );
};

/** What the rules find in the target stays out of the record and of the refusal. */
function hideSecrets({ x, rules }: ContentSide): void {
  let { path, query } = splitTarget(x.received.path);
  for (const rule of rules.path)
    if (rule.secret && matchesText(rule, path, false)) path = redactedPath(hidden(rule), path);
  for (const rule of rules.query)
    if (rule.secret && query !== "" && matchesText(rule, query, true)) query = redactedQuery(hidden(rule), query);
  if (rules.path.some((rule) => rule.secret && crosses(rule, path + query))) x.shownTarget = "/(redacted)";
  else if (path + query !== x.received.path) x.shownTarget = path + query;
}

const hidden = (rule: TextRule): TextRule => ({ ...rule, replacement: "(redacted)" });
