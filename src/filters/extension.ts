// The file name extension filter: by the last segment of the path, and by Content-Disposition (RFC 6266).
import { allValues } from "../http/fields.ts";
import type { HeadFacts, HeadMatcher } from "./content-plan.ts";
import { percentDecoded } from "./percent.ts";

/** A matcher for `exe` or `.exe` (also `.tar.gz`); case does not matter. Throws an Error for anything else. */
export function extensionMatcher(wanted: string): HeadMatcher {
  const ending = `.${wanted.replace(/^\./, "").toLowerCase()}`;
  if (!/^\.[^./\\\s][^/\\\s]*$/.test(ending))
    throw new Error("not a file name extension: write it like exe or .tar.gz");
  return { matches: (head) => names(head).some((name) => plainName(name).endsWith(ending)) };
}

function names(head: HeadFacts): string[] {
  const path = head.path.split(/[?#]/, 1)[0] as string;
  const last = percentDecoded(path.slice(path.lastIndexOf("/") + 1), false);
  // After decoding there may be another separator; a parameter (`a.exe;v=1`) is no part of the name.
  const found = [
    last,
    last.split(";", 1)[0] as string,
    last.slice(Math.max(last.lastIndexOf("/"), last.lastIndexOf("\\")) + 1),
  ];
  for (const value of allValues(head.fields, "content-disposition")) found.push(...dispositionNames(value));
  return found;
}

/** `filename="a.exe"`, `filename*=UTF-8''a%2Eexe`, and what some readers understand: parts (RFC 2231), encoded words (RFC 2047). */
function dispositionNames(value: string): string[] {
  const found: string[] = [];
  let joined = "";
  for (const m of value.matchAll(/filename(\*?)(\d*)(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/gi)) {
    const text = (m[4] ?? m[5] ?? "").replace(/\\(.)/g, "$1").trim();
    const extended = m[3] === "*" || (m[1] === "*" && m[2] === "");
    const name = extended ? percentDecoded(text.slice(text.lastIndexOf("'") + 1), false) : text;
    found.push(name, percentDecoded(text, false), withoutEncodedWords(text));
    if (m[2] !== "") joined += name;
  }
  return joined === "" ? found : [...found, joined];
}

/** RFC 2047 section 2: base64, or escapes with "=". */
const withoutEncodedWords = (text: string): string =>
  text.replace(/=\?[^?]{1,40}\?([bq])\?([^?]*)\?=/gi, (_, kind: string, coded: string) =>
    kind.toLowerCase() === "b"
      ? Buffer.from(coded, "base64").toString("utf8")
      : percentDecoded(coded.replaceAll("%", "%25").replaceAll("=", "%"), false),
  );

/** Trailing dots and spaces are dropped by some file systems. */
const plainName = (name: string): string => name.toLowerCase().replace(/[. ]+$/, "");
