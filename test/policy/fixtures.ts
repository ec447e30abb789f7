// Policies and facts for the tests of this folder.
import { compilePolicy } from "../../src/policy/compile.ts";
import type { CompiledPolicy } from "../../src/policy/decide.ts";
import type { DefaultsDocument, RuleDocument } from "../../src/policy/document.ts";
import { type DocumentProblem, PolicyError } from "../../src/policy/problems.ts";
import type { ConnectFacts, RequestFacts } from "../../src/policy/types.ts";

export const DEFAULTS: DefaultsDocument = {
  action: "deny",
  mode: "enforce",
  limits: {},
  "on-unscannable": "deny",
  "encoded-slashes": "deny",
  hold: 65536,
  "max-match": 4096,
  "scan-limit": 1 << 20,
};

export interface Setup {
  readonly defaults?: Partial<DefaultsDocument>;
  readonly clients?: readonly string[];
  readonly now?: () => number;
}

export const policyOf = (rules: readonly RuleDocument[], setup: Setup = {}): CompiledPolicy =>
  compilePolicy(
    { defaults: { ...DEFAULTS, ...setup.defaults }, rules, clients: setup.clients ?? ["a", "b"] },
    { version: "0123456789abcdef", now: setup.now ?? (() => 1000) },
  );

export function problemsOf(rules: readonly RuleDocument[]): readonly DocumentProblem[] {
  try {
    policyOf(rules);
  } catch (error) {
    if (error instanceof PolicyError) return error.problems;
    throw error;
  }
  return [];
}

/** `GET https://host:port/path`, by `client`. */
export function request(text: string, client: string | null = null, insideConnect = false): RequestFacts {
  const match = /^(\S+) (https?):\/\/(\[[^\]]+\]|[^:/]*)(?::(\d+))?(\/.*)?$/.exec(text);
  if (match === null) throw new Error(`not a request: ${text}`);
  const scheme = match[2] as "http" | "https";
  const port = match[4] === undefined ? (scheme === "https" ? 443 : 80) : Number(match[4]);
  const host = (match[3] as string).replace(/^\[|\]$/g, "");
  return {
    client,
    address: "192.0.2.1",
    method: match[1] as string,
    scheme,
    host,
    port,
    path: match[5] ?? "/",
    insideConnect,
  };
}

export const connect = (host: string, port = 443, client: string | null = null): ConnectFacts => ({
  client,
  address: "192.0.2.1",
  host,
  port,
});
