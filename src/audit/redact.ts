// What never stands in a record: query values (unless a rule asks), credentials in fields, secrets of the policy.
import type { Fields } from "../http/fields.ts";

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
