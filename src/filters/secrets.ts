// The `secrets` filter: the configured secrets in every usual form, providers' tokens by their format, and private keys.
import { SHORTEST_FILTERED, secretForms, secretHostForms } from "../shared/secret-spellings.ts";
import type { TextMatcher } from "./content-plan.ts";
import { LiteralSet } from "./literal-set.ts";
import { patternMatcher } from "./pattern.ts";
import { TOKEN_FORMATS } from "./token-formats.ts";
import { TokenMatcher } from "./token-matcher.ts";

export interface SecretMatcher {
  readonly kind: "known-secret" | "token" | "private-key";
  readonly matcher: TextMatcher;
  /** For host names, in lower case; null where it makes no sense. */
  readonly host: TextMatcher | null;
}

/** Of a longer secret only the beginning is looked for. */
const LONGEST_LOOKED_FOR = 256;

/** A private key in PEM: its first line, and then base64, or the fields that stand before it. Line ends may be escaped. */
const PRIVATE_KEY =
  "-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:\\\\[rn]|\\s){0,8}(?:[A-Za-z0-9+/]{40}|Proc-Type:|Version:|Comment:)";

/** The matchers for the configured secrets (those of at least eight characters) and for everything that is known by its form. */
export function secretMatchers(secrets: readonly { readonly value: string }[], maxMatch: number): SecretMatcher[] {
  const matchers: SecretMatcher[] = [
    { kind: "token", matcher: new TokenMatcher(), host: new TokenMatcher(TOKEN_FORMATS.filter(fitsHost), true) },
    { kind: "private-key", matcher: patternMatcher(PRIVATE_KEY, false), host: null },
  ];
  const values = secrets.map((s) => s.value.slice(0, LONGEST_LOOKED_FOR)).filter((v) => v.length >= SHORTEST_FILTERED);
  const short = (form: Buffer): boolean => form.length <= maxMatch;
  const forms = values.flatMap(secretForms).filter(short);
  if (forms.length === 0) return matchers;
  const known: SecretMatcher = {
    kind: "known-secret",
    matcher: new LiteralSet(forms),
    host: new LiteralSet(values.flatMap(secretHostForms).filter(short)),
  };
  return [known, ...matchers];
}

/** Host names have letters, digits, hyphens, and in practice underscores. */
const fitsHost = (format: { anchor: string; rest?: unknown }): boolean =>
  /^[A-Za-z0-9_-]+$/.test(format.anchor) && format.rest === undefined;
