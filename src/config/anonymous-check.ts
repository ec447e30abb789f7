// Denies for named clients: while authentication is optional, a client that shows no credential is nobody, and escapes them.
import type { ClientConfig } from "../policy/clients.ts";
import type { CompiledRule } from "../policy/compiled.ts";
import type { CompiledPolicy } from "../policy/decide.ts";
import { coversHost } from "../policy/match.ts";
import type { Findings } from "../policy/problems.ts";
import type { Settings } from "./settings.ts";

/** Warns of denies that a client gets around by leaving its credential away. `policy` null: it did not compile. */
export function checkAnonymous(settings: Settings, policy: CompiledPolicy | null, findings: Findings): void {
  if (settings.server.authentication === "required" || policy === null) return;
  const credentialed = new Set(settings.clients.filter(showsCredential).map((client) => client.name));
  for (const rule of policy.rules) {
    if (rule.kind !== "deny" || rule.who === null || !opensToNobody(rule, policy)) continue;
    const names = [...rule.who].filter((name) => credentialed.has(name));
    if (names.length === 0) continue;
    findings.warn(
      ["rules", rule.order, "who"],
      `rule ${rule.id}: a client that shows no credential is not ${names.join(" or ")} and escapes this deny: say server: { authentication: required }, or leave out who`,
    );
  }
}

/** A client that is known by its address alone cannot help being known. */
const showsCredential = ({ password, bearer, certificate, addresses }: ClientConfig): boolean =>
  password !== null || bearer !== null || certificate !== null || addresses.length === 0;

/** True when somebody without a name may reach a host of this deny. */
function opensToNobody(deny: CompiledRule, policy: CompiledPolicy): boolean {
  if (policy.defaultAction === "allow") return true;
  const open = policy.rules.filter((rule) => rule.kind === "allow" && rule.who === null).flatMap((r) => r.patterns);
  return deny.patterns.some((own) => open.some(({ host }) => coversHost(own.host, host) || coversHost(host, own.host)));
}
