// The `secrets` filter: the configured secrets in every usual form, providers' tokens by their format, and private keys.
import {
  base64Forms,
  SHORTEST_FILTERED,
  secretForms,
  secretHostForms,
  secretTexts,
} from "../shared/secret-spellings.ts";
import type { TextMatcher } from "./content-plan.ts";
import { LiteralSet } from "./literal-set.ts";
import { patternMatcher } from "./pattern.ts";
import { SpelledSet } from "./spelled-set.ts";
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

/** A space, a line break or what stands between two lines of a text in a program; a character of base64; as they are or escaped. */
const SPACE = "(?:[ +]|%20)";
const GAP = "(?:\\\\{1,3}[rnt]|%0[AaDd]|[\\s\"'+,.>|])";
const LETTER = "(?:[A-Za-z0-9+/]|%2[BbFf]|\\\\{1,3}/)";

/** A private key in PEM: its first line, and then base64, or the fields that stand before it. */
const PRIVATE_KEY =
  `-----BEGIN${SPACE}(?:[A-Z0-9]{1,12}${SPACE}){0,4}PRIVATE${SPACE}KEY(?:${SPACE}BLOCK)?-----` +
  `${GAP}{0,64}(?:${LETTER}{40}|Proc-Type:|Version:|Comment:)`;

/** The first lines of private keys in base64 (as files are sent in JSON), with the first letters of the key. */
function encodedKeys(): Buffer[] {
  const kinds = ["", "RSA ", "EC ", "DSA ", "ENCRYPTED "].map((kind) => [`${kind}PRIVATE KEY-----`, "M"]);
  const all = [...kinds, ["OPENSSH PRIVATE KEY-----", "b3Bl"], ["PGP PRIVATE KEY BLOCK-----", ""]];
  const lines = all.flatMap(([head, key]) => ["\n", "\r\n"].map((end) => `-----BEGIN ${head}${end}${key}`));
  return [...new Set(lines.flatMap((line) => base64Forms(Buffer.from(line))))].map((form) => Buffer.from(form));
}

/** What is known by its form alone, which is the same for every rule. */
const BY_FORM: readonly SecretMatcher[] = [
  { kind: "token", matcher: new TokenMatcher(), host: new TokenMatcher(TOKEN_FORMATS.filter(fitsHost), true) },
  { kind: "private-key", matcher: patternMatcher(PRIVATE_KEY, false), host: null },
  { kind: "private-key", matcher: new LiteralSet(encodedKeys()), host: null },
];

/**
 * The matchers for the configured secrets (those of at least eight characters) and for everything that is known by its form.
 * Of a form that is longer than `maxMatch` so many bytes are looked for.
 */
export function secretMatchers(secrets: readonly { readonly value: string }[], maxMatch: number): SecretMatcher[] {
  const values = secrets.map((s) => s.value.slice(0, LONGEST_LOOKED_FOR)).filter((v) => v.length >= SHORTEST_FILTERED);
  if (values.length === 0) return [...BY_FORM];
  const most = Math.max(maxMatch, SHORTEST_FILTERED);
  const cut = (form: Buffer): Buffer => form.subarray(0, most);
  const known: SecretMatcher = {
    kind: "known-secret",
    matcher: new LiteralSet(values.flatMap(secretForms).map(cut)),
    host: new LiteralSet(values.flatMap(secretHostForms).map(cut)),
  };
  const spelled = new SpelledSet(values.flatMap(secretTexts).map(cut), most);
  return [known, { kind: "known-secret", matcher: spelled, host: null }, ...BY_FORM];
}

/** Host names have letters, digits, hyphens, and in practice underscores. */
function fitsHost(format: { anchor: string; rest?: unknown }): boolean {
  return /^[A-Za-z0-9_-]+$/.test(format.anchor) && format.rest === undefined;
}
