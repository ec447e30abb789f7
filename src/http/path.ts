// The canonical form of a path, in which rules compare it, and whether raw and canonical form could be read apart.
// The origin server gets the path as it was sent: what is dangerous here must be refused, not repaired.

export interface CanonicalPath {
  /** Without the query; dot segments resolved; every octet in its shortest spelling (RFC 3986 section 6.2.2). */
  readonly path: string;
  /**
   * Where the path has empty segments (`//`): the same path without them, as many origin servers read it. Else null.
   * Such paths are common and legal: a deny should match either form, an allow both.
   */
  readonly merged: string | null;
  /** Why origin servers may read another path than this one; null: they agree. */
  readonly dangerous: string | null;
}

/** A path that is canonical as it stands: only pchar, no percent sign, no empty segment, no dot segment, no `;`. */
const PLAIN = /^(?:\/(?!\/|\.{1,2}(?:\/|$))[\w\-.~!$&'()*+,=:@]*)+$/;

/**
 * The canonical form of the path of `target` (path and query as sent; the query is cut off).
 * Percent-encoded pchars are decoded, everything else is encoded, in upper case.
 */
export function canonicalPath(target: string): CanonicalPath {
  const mark = target.indexOf("?");
  const raw = mark < 0 ? target : target.slice(0, mark);
  if (PLAIN.test(raw) || raw === "*") return { path: raw, merged: null, dangerous: null };
  const encoded = normaliseOctets(raw);
  const path = resolveDots(encoded);
  const merged = path.includes("//") ? resolveDots(encoded.replace(/\/{2,}/g, "/")) : null;
  return { path, merged, dangerous: dangerIn(raw, encoded) };
}

/** The ways in which readers are known to differ; the first that holds is named. Found in the path as it was sent. */
const DANGERS: readonly (readonly [why: string, found: RegExp])[] = [
  ["a control character", /\p{Cc}|%[01][\da-f]|%7f/iu],
  ["a backslash", /\\|%5c/i],
  ["an encoded slash", /%2f/i],
  ["a fragment mark", /#|%23/],
  ["an encoded question mark", /%3f/i],
  // An origin server that decodes twice finds a control, a delimiter, a dot, or a letter or digit of another name.
  ["a double encoding", /%25(?:25)*(?:[01][\da-f]|2[3def]|3[\dbf]|[46][1-9a-f]|5[\dacf]|7[\dae])/i],
  ["an incomplete percent-encoding", /%(?![\da-f]{2})/i],
  // UTF-8 that spells an ASCII character in two or three octets, as %C0%AE for a dot.
  ["an overlong encoding", /%(?:c[01]%[89ab]|e0%[89])[\da-f]/i],
  ["an encoded dot segment", /(?:^|\/)(?:%2e|\.%2e|%2e\.|%2e%2e)(?=[/;]|%3b|$)/i],
];

function dangerIn(raw: string, encoded: string): string | null {
  if (!raw.startsWith("/")) return "no slash at the beginning";
  for (const [why, found] of DANGERS) if (found.test(raw)) return why;
  if (/\/\.{1,2};/.test(encoded)) return "a dot segment with a parameter";
  // Whether the empty segment counts decides what `..` removes.
  const empty = encoded.indexOf("//");
  if (empty >= 0 && /\/\.{1,2}(?:\/|$)/.test(encoded.slice(empty + 1))) return "a dot segment after an empty segment";
  return null;
}

function normaliseOctets(raw: string): string {
  const decoded = raw.replace(/%([\da-f]{2})/gi, (triplet, hex: string) => {
    const c = String.fromCharCode(Number.parseInt(hex, 16));
    return /[\w\-.~!$&'()*+,;=:@]/.test(c) ? c : triplet.toUpperCase();
  });
  // What no URI may hold bare (and a percent sign that begins nothing) gets the spelling that it has elsewhere.
  return decoded.replace(/[^\w\-.~!$&'()*+,;=:@/%]|%(?![\dA-F]{2})/gu, encodeCharacter);
}

const ENCODER = new TextEncoder();
function encodeCharacter(character: string): string {
  let text = "";
  for (const octet of ENCODER.encode(character)) text += `%${octet.toString(16).toUpperCase().padStart(2, "0")}`;
  return text;
}

/** RFC 3986 section 5.2.4; empty segments count as segments. */
function resolveDots(path: string): string {
  const segments = path.split("/");
  const kept: string[] = [];
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i] as string;
    const last = i === segments.length - 1;
    if (segment === "..") kept.pop();
    else if (segment !== ".") kept.push(segment);
    if (last && (segment === "." || segment === "..")) kept.push("");
  }
  return `/${kept.join("/")}`;
}
