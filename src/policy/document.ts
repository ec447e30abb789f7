// What a policy is compiled from: the policy part of the configuration, after validation, with secrets put in. The schema of
// `src/config` yields exactly this; keys are spelled as in the file.
import type { ContentRuleInput } from "../filters/schema.ts";

/** Bytes and milliseconds; Infinity: none. */
export interface LimitsDocument {
  readonly request?: number | undefined;
  readonly response?: number | undefined;
  readonly headers?: number | undefined;
  readonly url?: number | undefined;
  readonly idle?: number | undefined;
  readonly total?: number | undefined;
}

export interface EditsDocument {
  readonly set?: Readonly<Record<string, string>> | undefined;
  readonly append?: Readonly<Record<string, string | readonly string[]>> | undefined;
  readonly remove?: readonly string[] | undefined;
}

export interface HeadersDocument extends EditsDocument {
  readonly response?: EditsDocument | undefined;
}

export interface ViaDocument {
  readonly url: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly resolve?: "both" | "here" | undefined;
}

export interface RerouteDocument {
  readonly url: string;
  readonly host?: "set" | "keep" | undefined;
}

export interface RedirectDocument {
  readonly status?: 301 | 302 | 303 | 307 | 308 | undefined;
  readonly to: string;
}

export interface TunnelDocument {
  readonly reason: string;
  readonly "bytes-out"?: number | undefined;
  readonly "bytes-in"?: number | undefined;
  readonly total?: number | undefined;
  readonly idle?: number | undefined;
  readonly "without-sni"?: "deny" | "allow" | undefined;
}

export interface RecordDocument {
  readonly fields?: readonly string[] | undefined;
  readonly bodies?: number | undefined;
  readonly query?: boolean | undefined;
}

export type ModeName = "enforce" | "report";

export interface RuleDocument {
  readonly id: string;
  readonly who?: readonly string[] | undefined;
  readonly allow?: readonly string[] | undefined;
  readonly deny?: readonly string[] | undefined;
  /** The operator knows that a pattern covers a whole top-level domain, or everything. */
  readonly broad?: boolean | undefined;
  readonly reason?: string | undefined;
  readonly mode?: ModeName | undefined;
  /** End of report mode, milliseconds since 1970. */
  readonly until?: number | undefined;
  readonly "encoded-slashes"?: "deny" | "allow" | undefined;
  readonly limits?: LimitsDocument | undefined;
  readonly headers?: HeadersDocument | undefined;
  readonly content?: readonly ContentRuleInput[] | undefined;
  readonly to?: RerouteDocument | undefined;
  readonly via?: ViaDocument | undefined;
  readonly redirect?: RedirectDocument | undefined;
  readonly tunnel?: TunnelDocument | undefined;
  readonly record?: RecordDocument | undefined;
}

export interface DefaultsDocument {
  readonly action: "deny" | "allow";
  readonly mode: ModeName;
  readonly until?: number | undefined;
  readonly limits: LimitsDocument;
  readonly "on-unscannable": "deny" | "allow";
  readonly "encoded-slashes": "deny" | "allow";
  readonly hold: number;
  readonly "max-match": number;
  readonly "scan-limit": number;
}

export interface PolicyDocument {
  readonly defaults: DefaultsDocument;
  readonly rules: readonly RuleDocument[];
  /** Names that `who` may use. */
  readonly clients: readonly string[];
}
