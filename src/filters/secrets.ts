// The `secrets` filter: the configured secrets in every usual form, providers' tokens by their format, and private keys.
import {
  base64Forms,
  SHORTEST_FILTERED,
  secretForms,
  secretHostForms,
  secretTexts,
} from "../shared/secret-spellings.ts";
import type { TextMatcher } from "./content-plan.ts";
import { EscapedMatcher } from "./escaped-matcher.ts";
import { LiteralSet } from "./literal-set.ts";
import { patternMatcher } from "./pattern.ts";
import { readBytes } from "./reading.ts";
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
/** Of a secret that is little but escapes, less would be left. */
const SHORTEST_FOLDED = 4;

/** A space, a line break or what stands between two lines of a text in a program; a character of base64; as they are or escaped. */
const SPACE = "(?:[ +]|%20)";
const GAP = "(?:\\\\{1,3}[rnt]|%0[AaDd]|[\\s\"'+,.>|])";
const LETTER = "(?:[A-Za-z0-9+/]|%2[BbFf]|\\\\{1,3}/)";

/** A private key in PEM: its first line, and then base64, or the fields that stand before it. */
const PRIVATE_KEY =
  `-----BEGIN${SPACE}(?:[A-Z0-9]{1,12}${SPACE}){0,4}PRIVATE${SPACE}KEY(?:${SPACE}BLOCK)?-----` +
  `${GAP}{0,64}(?:${LETTER}{40}|Proc-Type:|Version:|Comment:)`;

/** The first lines of private keys in base64 (as files are sent in JSON) and in UTF-16, with the first letters of the key. */
function encodedKeys(): Buffer[] {
  const kinds = ["", "RSA ", "EC ", "DSA ", "ENCRYPTED "].map((kind) => [`${kind}PRIVATE KEY-----`, "M"]);
  const all = [...kinds, ["OPENSSH PRIVATE KEY-----", "b3Bl"], ["PGP PRIVATE KEY BLOCK-----", ""]];
  const lines = all.flatMap(([head, key]) => ["\n", "\r\n"].map((end) => `-----BEGIN ${head}${end}${key}`));
  const inBase64 = new Set(lines.flatMap((line) => base64Forms(Buffer.from(line))));
  const wide = lines.map((line) => Buffer.from(line, "utf16le"));
  return [
    ...[...inBase64].map((form) => Buffer.from(form)),
    ...wide,
    ...wide.map((line) => Buffer.from(line).swap16()),
  ];
}

/** Stands in the first line of every private key, so many bytes after its beginning at most. */
const IN_FIRST_LINE = Buffer.from("PRIVATE");
const BEFORE = 80;

/** The pattern for private keys, which is tried only where one can be. */
function keyMatcher(): TextMatcher {
  const pattern = patternMatcher(PRIVATE_KEY, false);
  return {
    exact: false,
    longest: pattern.longest,
    find(text, from, to) {
      const hit = text.subarray(from, to).indexOf(IN_FIRST_LINE);
      return hit < 0 ? null : pattern.find(text, Math.max(from, from + hit - BEFORE), to);
    },
    open(text, from, to) {
      const first = Math.max(from, to - pattern.longest);
      const hyphen = text.subarray(first, to).indexOf("-");
      return hyphen < 0 ? to : first + hyphen;
    },
  };
}

const tokens = new TokenMatcher();
const tokensInHosts = new TokenMatcher(TOKEN_FORMATS.filter(fitsHost), true);
const keys = keyMatcher();
const encodedKeySet = new LiteralSet(encodedKeys());

/** What is known by its form alone, which is the same for every rule; a match has `most` bytes at most, escapes included. */
const byForm = (most: number): SecretMatcher[] => [
  { kind: "token", matcher: tokens, host: tokensInHosts },
  { kind: "token", matcher: new EscapedMatcher(tokens, "plain", most), host: null },
  { kind: "private-key", matcher: keys, host: null },
  { kind: "private-key", matcher: new EscapedMatcher(keys, "plain", most), host: null },
  { kind: "private-key", matcher: encodedKeySet, host: null },
  { kind: "private-key", matcher: new EscapedMatcher(encodedKeySet, "folded", most), host: null },
];

/**
 * The matchers for the configured secrets (those of at least eight characters) and for everything that is known by its form.
 * Of a form that is longer than `maxMatch` so many bytes are looked for.
 */
export function secretMatchers(secrets: readonly { readonly value: string }[], maxMatch: number): SecretMatcher[] {
  const values = secrets.map((s) => s.value.slice(0, LONGEST_LOOKED_FOR)).filter((v) => v.length >= SHORTEST_FILTERED);
  const most = Math.max(maxMatch, SHORTEST_FILTERED);
  if (values.length === 0) return byForm(most);
  const cut = (form: Buffer): Buffer => form.subarray(0, most);
  const known: SecretMatcher = {
    kind: "known-secret",
    matcher: new LiteralSet(values.flatMap(secretForms).map(cut)),
    host: new LiteralSet(values.flatMap(secretHostForms).map(cut)),
  };
  const folded = new LiteralSet(values.flatMap(secretTexts).flatMap(foldedForms).map(cut));
  const escaped = new EscapedMatcher(folded, "folded", most);
  return [known, { kind: "known-secret", matcher: escaped, host: null }, ...byForm(most)];
}

/** A text as it is read where it stands by itself, and where the sign before it makes an escape of its beginning. */
function foldedForms(text: Buffer): Buffer[] {
  const alone = readBytes(text, "folded");
  const behind = ["=", "\\", "%"].map((sign) => readBytes(Buffer.concat([Buffer.from(sign), text]), "folded"));
  return [alone, ...behind.filter((form) => !form.includes(alone))].filter((form) => form.length >= SHORTEST_FOLDED);
}

/** Host names have letters, digits, hyphens, and in practice underscores. */
function fitsHost(format: { anchor: string; rest?: unknown }): boolean {
  return /^[A-Za-z0-9_-]+$/.test(format.anchor) && format.rest === undefined;
}
