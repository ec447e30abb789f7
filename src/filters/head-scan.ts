// Searches and edits what is not a body: fields, paths and queries. A text is looked at as it is sent, and with its
// percent-encoding undone once and twice.
import type { Fields } from "../http/fields.ts";
import type { TextRule } from "./content-plan.ts";
import { percentDecoded, percentDecodedBytes } from "./percent.ts";

/** Fields hold bytes, one a character. */
const bytesOf = (text: string): Buffer => Buffer.from(text, /[^\0-\xff]/.test(text) ? "utf8" : "latin1");

/** True when the rule matches in the bytes. */
function found(rule: TextRule, bytes: Buffer): boolean {
  return rule.matcher.matches?.(bytes) ?? rule.matcher.find(bytes, 0, bytes.length) !== null;
}

/** Credentials of Basic authentication (RFC 7617): a token is sent in them as a password, by git for one. */
const BASIC = /^\s*basic\s+([A-Za-z0-9+/_-]+)/i;

/**
 * The text itself and what its escapes stand for; bytes beyond ASCII also as what they are in ISO 8859-1; and what is in Basic
 * credentials.
 */
function readings(text: string, plus: boolean): Buffer[] {
  const all = [bytesOf(text)];
  for (let depth = 0; depth < 2; depth++) {
    const last = all[depth] as Buffer;
    const undone = percentDecodedBytes(last, plus);
    if (undone === last || undone.equals(last)) break;
    all.push(undone);
  }
  if (/[\x80-\xff]/.test(text)) all.push(percentDecodedBytes(Buffer.from(text, "utf8"), plus));
  const basic = BASIC.exec(text);
  if (basic !== null) all.push(Buffer.from(basic[1] as string, "base64"));
  return all;
}

/** True when the rule matches in the text or in what its escapes stand for; `plus`: "+" may be a space. */
export const matchesText = (rule: TextRule, text: string, plus: boolean): boolean =>
  readings(text, plus).some((bytes) => found(rule, bytes));

/** What the rule's match in the text is, where its matcher can name it. */
export function nameIn(rule: TextRule, text: string): string | null {
  const { matcher } = rule;
  if (matcher.nameOf === undefined) return null;
  for (const bytes of readings(text, false)) {
    const match = matcher.find(bytes, 0, bytes.length);
    if (match !== null) return matcher.nameOf(bytes.subarray(match.start, match.end));
  }
  return null;
}

/** The text with every match replaced, or the same text where there is none. */
function replaced(rule: TextRule, bytes: Buffer): Buffer | null {
  const pieces: Buffer[] = [];
  let at = 0;
  for (let m = rule.matcher.find(bytes, 0, bytes.length); m !== null; m = rule.matcher.find(bytes, at, bytes.length)) {
    pieces.push(bytes.subarray(at, m.start), Buffer.from(rule.replacement, "utf8"));
    at = m.end;
  }
  return pieces.length === 0 ? null : Buffer.concat([...pieces, bytes.subarray(at)]);
}

/** A field value with every match replaced; the whole value goes where a match shows only with its escapes undone. */
export function redactedValue(rule: TextRule, value: string): string {
  const bytes = replaced(rule, bytesOf(value));
  const result = bytes === null ? value : bytes.toString("latin1");
  return matchesText(rule, result, false) ? Buffer.from(rule.replacement, "utf8").toString("latin1") : result;
}

/** A path with every match replaced. It still begins with "/". */
export const redactedPath = (rule: TextRule, path: string): string =>
  redactedTarget(rule, path, PATH_PARTS, "/", false);

/** A query and its "?" with every match replaced. The "?" stays: without it the query would be a part of the path. */
export const redactedQuery = (rule: TextRule, query: string): string =>
  redactedTarget(rule, query, QUERY_PARTS, "?", true);

/**
 * A path or a query with every match replaced, part by part (`separators` stay). What is put in is percent-encoded, and a
 * part in which a match shows only with its escapes undone is encoded anew. It begins with `first`, whatever was replaced.
 */
function redactedTarget(rule: TextRule, text: string, separators: RegExp, first: string, plus: boolean): string {
  const begun = (part: string): string => (part.startsWith(first) ? part : first + part);
  const parts = text.split(separators).map((part) => redactedPart(rule, part, plus));
  const result = begun(parts.join(""));
  if (!matchesText(rule, result, plus)) return result;
  // A match across parts.
  const whole = replaced(encoded(rule), bytesOf(result));
  const text2 = whole === null ? result : begun(whole.toString("latin1"));
  return matchesText(rule, text2, plus) ? first + encoded(rule).replacement : text2;
}

const encoded = (rule: TextRule): TextRule => ({ ...rule, replacement: encodeURIComponent(rule.replacement) });

function redactedPart(rule: TextRule, part: string, plus: boolean): string {
  const asSent = replaced(encoded(rule), bytesOf(part));
  if (asSent !== null) return asSent.toString("latin1");
  const undone = Buffer.from(percentDecoded(part, plus), "utf8");
  const edited = replaced(rule, undone);
  return edited === null ? part : encodeURIComponent(edited.toString("utf8"));
}

/** The separators of a query and of a path, captured so that `split` keeps them. */
const QUERY_PARTS = /([&;=?])/;
const PATH_PARTS = /(\/)/;

/** Where the query begins: the path before it, and the query with its "?". */
export function splitTarget(target: string): { path: string; query: string } {
  const at = target.indexOf("?");
  return at < 0 ? { path: target, query: "" } : { path: target.slice(0, at), query: target.slice(at) };
}

/** True when the rule matches in a name or a value of the list (from index `i` on: name, value). */
export function matchesField(rule: TextRule, fields: Fields, i: number): boolean {
  return matchesText(rule, fields[i] as string, false) || matchesText(rule, fields[i + 1] as string, false);
}
