// `${env:X}`, `${file:X}` and `${secret:X}` in the texts of a document; `$${` stands for `${` itself.
import { type DocumentPath, nearest } from "../policy/problems.ts";

export interface Reference {
  readonly kind: "env" | "file" | "secret";
  readonly name: string;
  /** Where the text stands that holds it. */
  readonly path: DocumentPath;
}

/** What a reference stands for, or a sentence about why it cannot be had. */
export type Resolved = { readonly value: string } | { readonly problem: string };

const TOKEN = /\$\$\{|\$\{([^}]*)(\}?)/g;
const KINDS = ["env", "file", "secret"] as const;

/** Calls `visit` for every text of the tree and puts what it returns in its place. Keys stay. Depth is bounded by YAML. */
export function mapTexts(
  tree: unknown,
  path: DocumentPath,
  visit: (text: string, path: DocumentPath) => string,
): unknown {
  if (typeof tree === "string") return visit(tree, path);
  if (Array.isArray(tree)) return tree.map((item, i) => mapTexts(item, [...path, i], visit));
  if (typeof tree !== "object" || tree === null) return tree;
  const copy: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(tree)) {
    const mapped = mapTexts(value, [...path, key], visit);
    Object.defineProperty(copy, key, { value: mapped, enumerable: true, configurable: true, writable: true });
  }
  return copy;
}

/** Replaces the references in a text. `resolve` is called for each; `fail` gets a sentence for each that is malformed. */
export function substitute(
  text: string,
  path: DocumentPath,
  resolve: (reference: Reference) => string,
  fail: (path: DocumentPath, message: string) => void,
): string {
  if (!text.includes("${")) return text;
  return text.replace(TOKEN, (token, inside: string | undefined, close: string | undefined) => {
    if (inside === undefined) return "${";
    const reference = close === "" ? null : readReference(inside, path);
    if (reference === null) {
      fail(path, malformed(inside));
      return token;
    }
    return resolve(reference);
  });
}

function readReference(inside: string, path: DocumentPath): Reference | null {
  const colon = inside.indexOf(":");
  const kind = KINDS.find((k) => k === inside.slice(0, colon));
  const name = inside.slice(colon + 1).trim();
  return kind === undefined || name === "" ? null : { kind, name, path };
}

function malformed(inside: string): string {
  const kind = inside.split(":", 1)[0] as string;
  const meant = nearest(kind, KINDS);
  const hint = meant === null || !inside.includes(":") ? "" : `: did you mean ${meant}:?`;
  return `a reference is \${env:NAME}, \${file:PATH} or \${secret:NAME}${hint} (for the characters themselves write $\${)`;
}
