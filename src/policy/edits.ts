// Which fields a rule may set, append to and remove, and which values it may give them.
import type { EditsDocument } from "./document.ts";
import type { DocumentPath, Findings } from "./problems.ts";

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// CR and LF would begin a field of their own (pitfalls F13); NUL and other controls are refused by careful readers.
const BAD_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

/** Framing and connection fields: they belong to the engine, and an edit could make two readers disagree. */
const OURS = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
  "expect",
  "via",
  "http2-settings",
]);

/** True for a field that no rule may touch. `name` in lower case. */
export const isOurs = (name: string): boolean =>
  OURS.has(name) || name.startsWith("proxy-") || name.startsWith("x-sallyport-");

/** Reports every edit that cannot be. Never quotes a value: it may be a secret. */
export function checkEdits(
  edits: EditsDocument | undefined,
  side: "request" | "response",
  at: DocumentPath,
  findings: Findings,
): void {
  if (edits === undefined) return;
  for (const op of ["set", "append"] as const) {
    const seen = new Set<string>();
    for (const [name, values] of Object.entries(edits[op] ?? {})) {
      checkName(name, side, [...at, op, name], findings, seen);
      for (const value of typeof values === "string" ? [values] : values) {
        checkValue(name, value, [...at, op, name], findings);
      }
    }
  }
  const seen = new Set<string>();
  for (const [i, name] of (edits.remove ?? []).entries()) {
    checkName(name, side, [...at, "remove", i], findings, seen);
  }
}

function checkName(name: string, side: string, at: DocumentPath, findings: Findings, seen: Set<string>): void {
  const lower = name.toLowerCase();
  if (!TOKEN.test(name)) findings.problem(at, `${JSON.stringify(name)} is not a field name`);
  else if (seen.has(lower)) findings.problem(at, `${lower} stands here twice; field names do not know case`);
  else if (lower === "host" && side === "request") {
    findings.problem(at, "Host follows the target: use `to: { url: …, host: set|keep }`");
  } else if (isOurs(lower)) {
    findings.problem(at, `${name} belongs to the connection or to the framing and cannot be edited`);
  }
  seen.add(lower);
}

function checkValue(name: string, value: string, at: DocumentPath, findings: Findings): void {
  if (BAD_VALUE.test(value)) {
    findings.problem(at, `the value of ${name} holds a line break, another control character or one beyond Latin-1`);
  } else if (value.trim() !== value) {
    findings.problem(at, `the value of ${name} begins or ends with white space, which does not survive the wire`);
  }
}
