// Asks the policy: refuses, redirects, reroutes, or lets the decision stand.
import type { Exchange } from "../exchange/exchange.ts";
import type { Stage, StageResult } from "../exchange/stage.ts";
import { firstValue } from "../http/fields.ts";
import { PHRASES } from "../http/serialise.ts";
import { authorityText } from "../http/target.ts";
import type { RedirectPlan } from "../policy/types.ts";
import { ProxyError } from "../shared/errors.ts";
import { decisionFor } from "./decision.ts";

export const decideStage: Stage = {
  name: "decide",
  onRequest(x: Exchange): StageResult {
    const decision = decisionFor(x, x.received.path);
    x.decision = decision;
    if (!decision.allowed) throw new ProxyError(decision.reason ?? "not-allowed", decision.message);
    const { to, redirect } = decision.plan;
    if (redirect !== null) return redirection(x, redirect);
    if (to !== null) {
      x.forward.scheme = to.scheme;
      x.forward.host = to.host;
      x.forward.port = to.port;
      x.hostText = to.hostField === "set" ? authorityText(to, to.scheme) : keptHost(x);
    }
    return null;
  },
};

/** What Host is to say when it stays as the client sent it; null: that is what the field says. */
const keptHost = (x: Exchange): string | null =>
  x.hostText ?? (firstValue(x.forward.fields, "host") === null ? authorityText(x.received, x.received.scheme) : null);

/** The client is told to go elsewhere, with its own path and query (RFC 9110 section 15.4). */
function redirection(x: Exchange, redirect: RedirectPlan): StageResult {
  const location = `${redirect.to.replace(/\/$/, "")}${x.received.path === "*" ? "/" : x.received.path}`;
  return {
    status: redirect.status,
    phrase: PHRASES[redirect.status] ?? "Redirect",
    fields: ["Location", location, "X-Sallyport-Decision", `allow; id=${x.id}; redirect`, "Cache-Control", "no-store"],
    content: new Uint8Array(0),
  };
}
