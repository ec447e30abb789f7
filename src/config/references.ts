// Puts values in the place of `${env:X}`, `${file:X}` and `${secret:X}` throughout a document.
import { dirname, resolve } from "node:path";
import { type DocumentPath, nearest } from "../policy/problems.ts";
import type { MergedDocument } from "./merge.ts";
import { type Outside, withoutLineEnd } from "./outside.ts";
import type { Report } from "./report.ts";
import type { SecretValues } from "./secrets.ts";
import { mapTexts, type Reference, type Resolved, substitute } from "./substitute.ts";

/** The tree with every reference resolved. Those that cannot be are problems (placeholders when `lenient`). */
export async function putIn(
  merged: MergedDocument,
  outside: Outside,
  secrets: SecretValues,
  lenient: boolean,
  report: Report,
): Promise<unknown> {
  const found = new Map<Reference, Promise<Resolved>>();
  const find = (reference: Reference): string => {
    found.set(reference, resolveOne(reference, merged, outside, secrets));
    return "";
  };
  mapTexts(merged.tree, [], (text, path) => substitute(text, path, find, () => {}));
  const resolved = await Promise.all([...found].map(async ([r, answer]) => [keyOf(r), await answer] as const));
  const values = new Map(resolved);
  return mapTexts(merged.tree, [], (text, path) =>
    substitute(
      text,
      path,
      (r) => take(r, values.get(keyOf(r)), secrets, lenient, report),
      (at, m) => report.problem(at, m),
    ),
  );
}

const keyOf = (r: Reference): string => JSON.stringify([r.kind, r.name, r.path]);

async function resolveOne(
  reference: Reference,
  merged: MergedDocument,
  outside: Outside,
  secrets: SecretValues,
): Promise<Resolved> {
  const { kind, name, path } = reference;
  try {
    if (kind === "env") return { value: outside.env(name) };
    if (kind === "secret") return secretOf(name, path, secrets);
    const folder = dirname(merged.origin(path).source.file);
    return { value: withoutLineEnd((await outside.file(resolve(folder, name))).text) };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

function secretOf(name: string, path: DocumentPath, secrets: SecretValues): Resolved {
  if (path[0] === "secrets") return { problem: "a secret cannot come from another secret" };
  const value = secrets.get(name);
  if (value !== undefined) return { value };
  const meant = nearest(name, secrets.names());
  return { problem: `no secret is called ${name}${meant === null ? "" : `: did you mean ${meant}?`}` };
}

function take(
  reference: Reference,
  resolved: Resolved | undefined,
  secrets: SecretValues,
  lenient: boolean,
  report: Report,
): string {
  const { kind, name, path } = reference;
  if (kind === "env" && isSensitive(path)) secrets.heldBy(name);
  if (resolved !== undefined && "value" in resolved) {
    if (isSensitive(path)) secrets.add(resolved.value);
    return resolved.value;
  }
  // A secret that is not in the file is a mistake of the file, whatever the environment.
  if (lenient && kind !== "secret") return `placeholder-of-${name}`;
  report.problem(path, resolved?.problem ?? `${kind}:${name} cannot be had`);
  return `placeholder-of-${name}`;
}

/** Places where a value from outside is a credential. */
const isSensitive = (path: DocumentPath): boolean =>
  path.some((step) => step === "headers" || /password|passphrase|^secret$/.test(String(step))) || path.includes("via");
