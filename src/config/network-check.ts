// Hosts that the operator wrote fall under the address rules like any other: says which line opens a literal address.
import { canonicalIp } from "../http/ip-address.ts";
import { parseAbsoluteTarget } from "../http/target.ts";
import { compileNetwork, parseNetworkEntry } from "../policy/addresses.ts";
import type { CompiledPolicy } from "../policy/decide.ts";
import type { DocumentPath, Findings } from "../policy/problems.ts";
import type { ConfigDocument } from "./schema.ts";
import type { Settings } from "./settings.ts";

/** Checks `network.allow`, and warns of literal addresses in `to`, `via` and `jwks` that it does not open. */
export function checkNetwork(
  document: ConfigDocument,
  settings: Settings,
  policy: CompiledPolicy | null,
  findings: Findings,
): void {
  const { allow } = document.network;
  let valid = true;
  for (const [i, text] of allow.entries()) {
    const entry = parseNetworkEntry(text);
    if (!("problem" in entry)) continue;
    valid = false;
    findings.problem(["network", "allow", i], entry.problem);
  }
  if (!valid) return;
  const network = compileNetwork(allow);
  const check = (host: string, at: DocumentPath): void => {
    const ip = canonicalIp(host);
    if (ip === null || network.permits(ip).allowed) return;
    findings.warn(at, `${host} is closed to the proxy: add ${ip}/${ip.includes(":") ? 128 : 32} to network.allow`);
  };
  for (const rule of policy?.rules ?? []) {
    if (rule.plan.to !== null) check(rule.plan.to.host, ["rules", rule.order, "to"]);
    if (rule.plan.via !== null) check(rule.plan.via.host, ["rules", rule.order, "via"]);
  }
  for (const client of settings.clients) {
    const host = client.bearer?.jwks == null ? undefined : parseAbsoluteTarget(client.bearer.jwks)?.host;
    if (host !== undefined) check(host, ["clients", client.name, "bearer", "jwks"]);
  }
}
