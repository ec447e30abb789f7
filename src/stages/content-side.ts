// The content rules of one exchange in one direction: what is done about a match, and what is written down.
import type { Exchange } from "../exchange/exchange.ts";
import type { ContentAction, ContentPlan, ContentRule, SideRules } from "../filters/content-plan.ts";
import type { Fields } from "../http/fields.ts";
import { ProxyError, type Reason } from "../shared/errors.ts";

export type Direction = "request" | "response";

export class ContentSide {
  readonly x: Exchange;
  readonly plan: ContentPlan;
  readonly direction: Direction;
  readonly rules: SideRules;
  readonly enforced: boolean;
  /** True: the content is of messages with lengths of their own (gRPC). */
  framed = false;
  /** Why nothing may be changed, or null. */
  readonly frozen: string | null;

  constructor(x: Exchange, plan: ContentPlan, direction: Direction) {
    this.x = x;
    this.plan = plan;
    this.direction = direction;
    this.rules = plan[direction];
    this.enforced = plan.mode() === "enforce";
    this.frozen = direction === "request" ? signatureOf(x.forward.fields, x.forward.path) : null;
  }

  /** The fields that are on their way. */
  get fields(): Fields {
    return this.direction === "request" ? this.x.forward.fields : (this.x.response?.fields ?? []);
  }

  /** What is done about a match of the rule. In report mode nothing is blocked or changed; what is signed is not changed. */
  act(rule: ContentRule): ContentAction {
    if (!this.enforced) return "report";
    return rule.action === "redact" && this.frozen !== null ? "block" : rule.action;
  }

  /**
   * Deals with a match of a rule that looks at `place`; `name`: what was found, where that can be said. True: replace it. Throws a
   * ProxyError when it is blocked.
   */
  matched(rule: ContentRule, place: string, name: string | null = null): boolean {
    const action = this.act(rule);
    if (action === "block") throw this.blocked(rule, place, name);
    this.noted(rule, action, name);
    return action === "redact";
  }

  /** The same for content; of messages that say how long they are nothing is replaced. */
  actOnBody(rule: ContentRule): ContentAction {
    const action = this.act(rule);
    return action === "redact" && this.framed ? "block" : action;
  }

  /** Writes down a match that was let through or replaced. */
  noted(rule: ContentRule, action: ContentAction, name: string | null = null): void {
    const by = this.x.decision?.rule ?? "default";
    const what = action === "redact" ? "redacted" : "reported";
    const note = `content-${what}:${by}:${labelled(rule, name)}:${this.direction}`;
    if (!this.x.notes?.includes(note)) this.x.note(note);
    if (action === "report" && rule.action !== "report") this.x.reported ??= by;
  }

  /** The error that blocks. `fixed`: why nothing can be replaced there, where that is not to be seen from the message. */
  blocked(rule: ContentRule, place: string, name: string | null = null, fixed: string | null = null): ProxyError {
    const reason =
      fixed ?? this.frozen ?? (this.framed ? "it is of gRPC" : "it is partly out already, or not in UTF-8");
    const why = rule.action === "redact" ? ` and must not be changed: ${reason}` : "";
    const text =
      rule.message ?? `the ${place} of the ${this.direction} matches ${labelled(rule, name)} of the rule${why}`;
    return new ProxyError("content-blocked", text, rule.status === null ? undefined : { status: rule.status });
  }

  /** True when some rule of the body does more than report. */
  get #blocks(): boolean {
    return this.rules.body.some((rule) => rule.action !== "report");
  }

  /** True: content that cannot be looked at is refused. */
  get strict(): boolean {
    return this.enforced && this.plan.onUnscannable === "deny" && this.#blocks;
  }

  /** The content cannot be looked at. Throws a ProxyError unless that may pass. */
  unscannable(why: string, reason: Reason = "content-blocked"): void {
    if (this.strict) throw new ProxyError(reason, `the content of the ${this.direction} cannot be inspected: ${why}`);
    const note = `content-unscanned:${this.direction}:${why}`;
    if (!this.x.notes?.includes(note)) this.x.note(note);
    const wouldDeny = !this.enforced && this.plan.onUnscannable === "deny" && this.#blocks;
    if (wouldDeny) this.x.reported ??= this.x.decision?.rule ?? "default";
  }

  /** The reason for content whose coding cannot be undone. */
  get undecodable(): Reason {
    return this.direction === "request" ? "undecodable-request" : "undecodable-response";
  }

  /** Bytes of decoded content. */
  get sizeLimit(): number {
    return this.x.decision?.plan.limits[this.direction] ?? Number.POSITIVE_INFINITY;
  }
}

/** `content[0] (token)`, or `content[0] (token github-personal)`. */
const labelled = (rule: ContentRule, name: string | null): string =>
  name === null ? rule.label : rule.label.replace(/\)$/, ` ${name})`);

/** Ways to sign a request in its Authorization field: AWS 4 and 2, Google, Azure, HTTP Signatures (draft-cavage), OAuth 1.0. */
const SIGNING: readonly [RegExp, string][] = [
  [/^\s*AWS(?:4-|\s)/i, "AWS Signature"],
  [/^\s*GOOG4-/i, "Google's signature"],
  [/^\s*SharedKey(?:Lite)?\s/i, "Azure's Shared Key"],
  [/^\s*Signature\s/i, "HTTP Signatures"],
  [/^\s*OAuth\s.*oauth_signature/i, "OAuth 1.0"],
];

/** What signs this request, or says what its content is, so that a change would break it (RFC 9421, RFC 9530, and others). */
export function signatureOf(fields: Fields, path: string): string | null {
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] as string).toLowerCase();
    const scheme =
      name === "authorization" ? SIGNING.find(([begins]) => begins.test(fields[i + 1] as string)) : undefined;
    if (scheme !== undefined) return `it is signed (${scheme[1]})`;
    if (name === "x-amz-content-sha256") return "it is signed (AWS Signature)";
    if (name === "signature" || name === "signature-input") return "it is signed (HTTP Message Signatures)";
    if (name === "content-digest") return "it carries a digest of its content";
  }
  return /[?&](?:x-amz-signature|x-goog-signature|oauth_signature)=/i.test(path) ? "it is signed, in the query" : null;
}
