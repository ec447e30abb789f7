// What happens to the requests that a rule allows: one frozen Plan per rule, everything that can be prepared prepared.
import type { ContentPlan } from "../filters/content-plan.ts";
import { DEFAULT_LIMITS } from "./defaults.ts";
import type { EditsDocument, LimitsDocument, RuleDocument, TunnelDocument } from "./document.ts";
import { checkEdits } from "./edits.ts";
import { readRedirect, readReroute, readVia } from "./endpoints.ts";
import type { DocumentPath, Findings } from "./problems.ts";
import type { FieldEdit, Limits, Plan, RecordPlan, TunnelPlan } from "./types.ts";

/** Limits of a rule over those of the defaults. */
export function mergeLimits(base: Limits, own: LimitsDocument | undefined): Limits {
  if (own === undefined) return base;
  return Object.freeze({
    request: own.request ?? base.request,
    response: own.response ?? base.response,
    headers: own.headers ?? base.headers,
    url: own.url ?? base.url,
    idle: own.idle ?? base.idle,
    total: own.total ?? base.total,
  });
}

const NO_RECORD: RecordPlan = Object.freeze({ fields: Object.freeze([]), bodies: 0, query: false });

/** The plan of what no rule speaks of. */
export function defaultPlan(limits: LimitsDocument): Plan {
  return Object.freeze({
    limits: mergeLimits(DEFAULT_LIMITS, limits),
    requestEdits: Object.freeze([]),
    responseEdits: Object.freeze([]),
    content: null,
    to: null,
    via: null,
    redirect: null,
    record: NO_RECORD,
  });
}

/** The plan of a rule. Problems go to `findings`; what is returned then is never used. */
export function compilePlan(
  rule: RuleDocument,
  base: Plan,
  content: ContentPlan | null,
  at: DocumentPath,
  findings: Findings,
): Plan {
  const { headers, record } = rule;
  checkEdits(headers, "request", [...at, "headers"], findings);
  checkEdits(headers?.response, "response", [...at, "headers", "response"], findings);
  return Object.freeze({
    limits: mergeLimits(base.limits, rule.limits),
    requestEdits: edits(headers),
    responseEdits: edits(headers?.response),
    content,
    to: rule.to === undefined ? null : readReroute(rule.to, [...at, "to"], findings),
    via: rule.via === undefined ? null : readVia(rule.via, [...at, "via"], findings),
    redirect: rule.redirect === undefined ? null : readRedirect(rule.redirect, [...at, "redirect"], findings),
    record:
      record === undefined
        ? NO_RECORD
        : Object.freeze({
            fields: Object.freeze((record.fields ?? []).map((name) => name.toLowerCase())),
            bodies: record.bodies ?? 0,
            query: record.query ?? false,
          }),
  });
}

/** In the order remove, set, append, whatever the order in the file. */
function edits(document: EditsDocument | undefined): readonly FieldEdit[] {
  const list: FieldEdit[] = [];
  for (const name of document?.remove ?? []) {
    list.push(Object.freeze({ op: "remove", name: name.toLowerCase(), value: "" }));
  }
  for (const [name, value] of Object.entries(document?.set ?? {})) list.push(Object.freeze({ op: "set", name, value }));
  for (const [name, values] of Object.entries(document?.append ?? {})) {
    for (const value of typeof values === "string" ? [values] : values) {
      list.push(Object.freeze({ op: "append", name, value }));
    }
  }
  return Object.freeze(list);
}

/** The plan of a blind tunnel; `limits` are those of the defaults. */
export function compileTunnel(tunnel: TunnelDocument, limits: Limits): TunnelPlan {
  return Object.freeze({
    reason: tunnel.reason,
    bytesOut: tunnel["bytes-out"] ?? Number.POSITIVE_INFINITY,
    bytesIn: tunnel["bytes-in"] ?? Number.POSITIVE_INFINITY,
    total: tunnel.total ?? Number.POSITIVE_INFINITY,
    idle: tunnel.idle ?? limits.idle,
    withoutSni: tunnel["without-sni"] ?? "deny",
  });
}

/** True when bytes that are not HTTP cannot be let through: they would lead around a redirect, or around filters that block. */
export function wantsHttp({ redirect, content }: Plan): boolean {
  if (redirect !== null) return true;
  if (content === null || content.onUnscannable === "allow" || content.mode() === "report") return false;
  return [...content.request.body, ...content.response.body].some((rule) => rule.action !== "report");
}
