// What never stands in a record: query values (unless a rule asks), credentials in fields, secrets of the policy.
import type { Fields } from "../http/fields.ts";
import { type KnownSecrets, REDACTED } from "../shared/known-secrets.ts";
import type { AuditRecord, OriginRecord, RecordedBody } from "./record.ts";

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

/**
 * The path and query of a record; `query`: with query values. Secrets go first: of one that has "=" in it, its beginning would
 * otherwise be left as a name.
 */
export function recordedPath(path: string, query: boolean, secrets: KnownSecrets): string {
  const safe = secrets.redactPath(path);
  return query ? safe : redactQuery(safe);
}

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

/** Fields whose value is a URL. */
const URL_FIELDS = new Set(["referer", "location", "content-location"]);
/** What stands before the host of a URL (RFC 3986 section 3.2.1); bounded, since a peer chose the text. */
const USERINFO = /([a-z][a-z0-9+.-]{0,15}:\/\/)[^\s/?#@]{1,1024}@/gi;

/** The fields of these names (lower case), as a flat list, without credentials; `query`: query values of URLs stay. */
export function recordedFields(
  fields: Fields,
  names: readonly string[],
  query: boolean,
  secrets: KnownSecrets,
): string[] {
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    const lower = name.toLowerCase();
    if (!names.includes(lower)) continue;
    kept.push(
      name,
      isCredentialField(lower) ? REDACTED : recordedValue(lower, secrets.redactPath(fields[i + 1] as string), query),
    );
  }
  return kept;
}

function recordedValue(name: string, value: string, query: boolean): string {
  const safe = value.includes("@") ? value.replace(USERINFO, `$1${REDACTED}@`) : value;
  return query || !URL_FIELDS.has(name) ? safe : redactQuery(safe);
}

/**
 * The record without any secret of the configuration, in whatever spelling: in every text that a client, an origin or the
 * operator chose. What goes into the log has been through this (`redactingSink`).
 */
export function redactRecord(r: AuditRecord, secrets: KnownSecrets): AuditRecord {
  if (secrets.none) return r;
  const text = <T extends string | null>(value: T): T => (value === null ? value : (secrets.redact(value) as T));
  const safe: { -readonly [K in keyof AuditRecord]: AuditRecord[K] } = {
    ...r,
    client: text(r.client),
    rule: text(r.rule),
    method: text(r.method),
    host: r.host === null ? null : secrets.redactHost(r.host),
    path: r.path === null ? null : secrets.redactPath(r.path),
    clientProtocol: text(r.clientProtocol),
    originProtocol: text(r.originProtocol),
    sni: r.sni === null ? null : secrets.redactHost(r.sni),
    notes: r.notes.length === 0 ? r.notes : r.notes.map((note) => secrets.redactPath(note)),
    // It may quote a path.
    error: r.error === null ? null : secrets.redactPath(r.error),
    origin: r.origin === null ? null : redactOrigin(r.origin, secrets),
  };
  if (r.requestFields !== undefined) safe.requestFields = redactFields(r.requestFields, secrets);
  if (r.responseFields !== undefined) safe.responseFields = redactFields(r.responseFields, secrets);
  if (r.requestBody !== undefined) safe.requestBody = redactBody(r.requestBody, secrets);
  if (r.responseBody !== undefined) safe.responseBody = redactBody(r.responseBody, secrets);
  return safe;
}

/** The same object when nothing changes: all exchanges of a connection share it. */
function redactOrigin(origin: OriginRecord, secrets: KnownSecrets): OriginRecord {
  if (origin.to === null && origin.via === null) return origin;
  const to = origin.to === null ? null : secrets.redact(origin.to);
  const via = origin.via === null ? null : secrets.redact(origin.via);
  return to === origin.to && via === origin.via ? origin : { ...origin, to, via };
}

/** Values may be URLs, so they are read as paths are. Names stand in the list because the policy names them. */
const redactFields = (fields: readonly string[], secrets: KnownSecrets): string[] =>
  fields.map((text) => secrets.redactPath(text));

/**
 * What was kept of a body without any secret (an origin may say what we put into its request), nor the beginning of one at the
 * cut. A body that had one is not whole any more.
 */
export function redactBody(body: RecordedBody, secrets: KnownSecrets): RecordedBody {
  if (secrets.none) return body;
  const text = Buffer.from(body.base64, "base64").toString("latin1");
  const safe = body.whole ? secrets.redact(text) : secrets.redactCut(text);
  return safe === text ? body : { base64: Buffer.from(safe, "latin1").toString("base64"), whole: false };
}
