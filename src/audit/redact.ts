// What never stands in a record: query values (unless a rule asks), credentials in fields, secrets of the policy.
import type { Fields } from "../http/fields.ts";
import type { RecordedBody } from "./record.ts";

export const REDACTED = "[redacted]";

const CREDENTIAL_FIELDS = new Set([
  "authorization",
  "proxy-authorization",
  "cookie",
  "cookie2",
  "set-cookie",
  "set-cookie2",
  "x-api-key",
  "api-key",
  "apikey",
  "x-auth-token",
  "x-access-token",
  "x-amz-security-token",
  "x-goog-api-key",
  "x-goog-iam-authorization-token",
  "x-csrf-token",
  "x-xsrf-token",
  "x-vault-token",
  "x-gitlab-token",
  "private-token",
  "job-token",
  "x-figma-token",
  "authentication-info",
  "proxy-authentication-info",
]);

/** True for a field that carries a credential, by its name (lower case). */
export const isCredentialField = (name: string): boolean =>
  CREDENTIAL_FIELDS.has(name) ||
  /(?:^|[-_])(?:token|secret|password|passwd|api-?key|credentials?|session-?id)$/.test(name);

/** The target with every query value replaced; a part without "=" may be a value, and is replaced too. */
export function redactQuery(path: string): string {
  const mark = path.indexOf("?");
  if (mark < 0 || mark === path.length - 1) return path;
  const parts = path.slice(mark + 1).split("&");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    const equals = part.indexOf("=");
    if (equals >= 0) parts[i] = equals === part.length - 1 ? part : `${part.slice(0, equals)}=${REDACTED}`;
    else if (part !== "") parts[i] = REDACTED;
  }
  return `${path.slice(0, mark)}?${parts.join("&")}`;
}

/** The text with every secret value replaced. */
export function redactSecrets(text: string, secrets: readonly string[]): string {
  let safe = text;
  for (const secret of secrets)
    if (secret.length > 0 && safe.includes(secret)) safe = safe.replaceAll(secret, REDACTED);
  return safe;
}

/** So many characters of a secret at the end of what was kept are taken for its beginning. */
const SHORTEST_BEGINNING = 4;

/**
 * What was kept of a body without any secret value (an origin may say what we put into its request), nor the beginning of
 * one at the cut. A body that had one is not whole any more.
 */
export function redactBody(body: RecordedBody, secrets: readonly string[]): RecordedBody {
  if (secrets.length === 0) return body;
  const values = secrets.map((secret) => Buffer.from(secret).toString("latin1"));
  const text = Buffer.from(body.base64, "base64").toString("latin1");
  const safe = withoutBeginning(redactSecrets(text, values), body.whole ? [] : values);
  return safe === text ? body : { base64: Buffer.from(safe, "latin1").toString("base64"), whole: false };
}

function withoutBeginning(text: string, secrets: readonly string[]): string {
  let cut = text.length;
  for (const secret of secrets)
    for (let n = Math.min(secret.length - 1, text.length); n >= SHORTEST_BEGINNING; n--)
      if (text.endsWith(secret.slice(0, n))) {
        cut = Math.min(cut, text.length - n);
        break;
      }
  return cut === text.length ? text : `${text.slice(0, cut)}${REDACTED}`;
}

/** The fields of these names (lower case), as a flat list; credentials and secret values are replaced. */
export function recordedFields(fields: Fields, names: readonly string[], secrets: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    const lower = name.toLowerCase();
    if (!names.includes(lower)) continue;
    kept.push(name, isCredentialField(lower) ? REDACTED : redactSecrets(fields[i + 1] as string, secrets));
  }
  return kept;
}
