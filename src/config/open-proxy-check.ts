// An open proxy: listening where others reach it, asking nobody who they are, and letting them go anywhere.
import { classifyAddress } from "../policy/address-class.ts";
import type { ClientConfig } from "../policy/clients.ts";
import { type CompiledRule, isReporting } from "../policy/compiled.ts";
import { coversPattern } from "../policy/cover.ts";
import type { CompiledPolicy } from "../policy/decide.ts";
import type { DocumentPath, Findings } from "../policy/problems.ts";
import type { ConfigDocument } from "./schema.ts";
import type { Settings } from "./settings.ts";

interface Opening {
  readonly at: DocumentPath;
  readonly because: string;
}

/** Warns when whoever reaches the port may go anywhere. `policy` null: it did not compile. `now`: milliseconds since 1970. */
export function checkOpenProxy(
  document: ConfigDocument,
  settings: Settings,
  policy: CompiledPolicy | null,
  findings: Findings,
  now: number,
): void {
  const { listen, authentication } = settings.server;
  if (policy === null || isLoopback(listen.host)) return;
  const anybody = authentication === "optional";
  const everywhere = new Set(settings.clients.filter(knownByAnyAddress).map((client) => client.name));
  if (!anybody && everywhere.size === 0) return;
  const opening = defaultOpens(document, now) ?? ruleThatOpens(policy, everywhere, anybody, now);
  if (opening === null) return;
  const address = `${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`;
  // A flag or a variable may have said the address: then what opens is all that the file has.
  const at: DocumentPath = document.server.listen === address ? ["server", "listen"] : opening.at;
  const who = anybody
    ? "say server: { authentication: required } and name the clients"
    : `give ${[...everywhere].join(" and ")} a password, a token or a narrower range`;
  findings.warn(
    at,
    `an open proxy: it listens at ${address}, and ${opening.because}, so whoever reaches this address may go anywhere through it: ${who}, allow only the hosts that are needed, or listen at 127.0.0.1`,
  );
}

function isLoopback(host: string): boolean {
  const { class: own, embedded } = classifyAddress(host);
  return own === "loopback" || (embedded !== null && classifyAddress(embedded).class === "loopback");
}

/** A range of all addresses says nothing of who somebody is. */
const knownByAnyAddress = ({ addresses }: ClientConfig): boolean => addresses.some(({ bits }) => bits === 0);

function defaultOpens({ defaults }: ConfigDocument, now: number): Opening | null {
  if (defaults.action === "allow")
    return { at: ["defaults", "action"], because: "what no rule is about is allowed (defaults.action)" };
  const reports = defaults.mode === "report" && (defaults.until === undefined || now < defaults.until);
  return reports
    ? { at: ["defaults", "mode"], because: "what no rule is about is only reported (defaults.mode)" }
    : null;
}

function ruleThatOpens(
  policy: CompiledPolicy,
  everywhere: ReadonlySet<string>,
  anybody: boolean,
  now: number,
): Opening | null {
  const denied = policy.rules.filter((r) => r.kind === "deny" && r.who === null && !isReporting(r, now));
  const opensTo = ({ who }: CompiledRule) =>
    who === null ? anybody || everywhere.size > 0 : [...who].some((name) => everywhere.has(name));
  for (const rule of policy.rules) {
    if (rule.kind !== "allow" || rule.plan.to !== null || rule.plan.redirect !== null || !opensTo(rule)) continue;
    const i = rule.patterns.findIndex(
      (pattern) =>
        pattern.host.kind === "any" &&
        (pattern.path === null || pattern.path === "/**") &&
        !denied.some((deny) => deny.patterns.some((outer) => coversPattern(outer, pattern))),
    );
    if (i >= 0) return { at: ["rules", rule.order, "allow", i], because: `rule ${rule.id} allows every host` };
  }
  return null;
}
