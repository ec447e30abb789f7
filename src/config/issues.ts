// What zod says about a document, as sentences with a place in the document.
import type { z } from "zod";
import type { DocumentPath } from "../policy/problems.ts";
import { KEY_SEPARATOR } from "./section.ts";

export interface SchemaProblem {
  readonly path: DocumentPath;
  readonly message: string;
  /** True: the problem is the key, not its value. */
  readonly key: boolean;
}

type Issue = z.core.$ZodIssue;

/** All problems, the branches of unions resolved to the one that was probably meant. */
export function schemaProblems(issues: readonly Issue[], tree: unknown, base: DocumentPath = []): SchemaProblem[] {
  return issues.flatMap((issue) => {
    const path = [...base, ...(issue.path as (string | number)[])];
    if (issue.code === "unrecognized_keys") {
      const sentences = issue.message.split(KEY_SEPARATOR);
      return issue.keys.map((key, i) => ({
        path: [...path, key],
        message: sentences[i] ?? `unknown key ${key}`,
        key: true,
      }));
    }
    if (issue.code === "invalid_union") return unionProblems(issue, path, tree);
    if (issue.code === "invalid_key") return [{ path, message: issue.issues[0]?.message ?? issue.message, key: true }];
    return [{ path, message: sentence(issue, path, tree), key: false }];
  });
}

/** The branch that got furthest; when none got anywhere, what any of them wants. */
function unionProblems(issue: Issue & { errors?: Issue[][] }, path: DocumentPath, tree: unknown): SchemaProblem[] {
  const branches = issue.errors ?? [];
  const deep = branches.filter((b) => b.length > 0 && b.every((i) => i.path.length > 0 || !OTHER_BRANCH.has(i.code)));
  const best = deep.sort((a, b) => a.length - b.length)[0];
  if (best !== undefined) return schemaProblems(best, tree, path);
  const wanted = [...new Set(branches.flatMap((b) => b.map((i) => sentence(i, path, tree))))];
  return [
    {
      path,
      message: wanted.map((text, i) => (i === 0 ? text : text.replace(/^expected /, ""))).join(", or "),
      key: false,
    },
  ];
}

/** Problems of a value as a whole: another branch was meant. */
const OTHER_BRANCH: ReadonlySet<string | undefined> = new Set(["invalid_type", "invalid_value"]);

function sentence(issue: Issue, path: DocumentPath, tree: unknown): string {
  const value = path.reduce<unknown>(
    (at, step) => (at as Record<string | number, unknown> | undefined | null)?.[step],
    tree,
  );
  const text = issue.message.replace(/^Invalid (?:input|option): /, "");
  if (value === undefined) return `${String(path.at(-1) ?? "a value")} is missing: ${text}`;
  return text;
}
