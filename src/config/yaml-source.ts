// One YAML (or JSON) file as a tree, with the place of everything in it. Pure: text in, tree and problems out.
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import type { DocumentPath } from "../policy/problems.ts";
import type { ConfigProblem, Place } from "./loaded.ts";

/** Aliases multiply what a small file says; a policy needs few. */
const MOST_ALIASES = 100;

export interface YamlSource {
  readonly file: string;
  readonly sha256: string;
  /** Plain objects, lists and scalars. */
  readonly tree: Readonly<Record<string, unknown>>;
  readonly problems: readonly ConfigProblem[];
  /** Where a value stands; with `key`, where its key stands. The nearest place that exists, at least the file itself. */
  locate(path: DocumentPath, key?: boolean): Place;
}

/** Reads the text of a file. Duplicate keys, unknown tags, several documents and alias bombs are problems. */
export function readYaml(file: string, text: string, sha256: string): YamlSource {
  const lines = new LineCounter();
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  let document: Document.Parsed | null = null;
  const problems: ConfigProblem[] = [];
  let tree: unknown = {};
  try {
    document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false, schema: "core" });
    for (const e of [...document.errors, ...document.warnings]) problems.push({ ...place(e.pos[0]), message: said(e) });
    if (problems.length === 0) tree = document.toJS({ maxAliasCount: MOST_ALIASES }) ?? {};
  } catch (error) {
    problems.push({ file, line: 1, column: 1, message: bombText(error as Error) });
  }
  if (typeof tree !== "object" || Array.isArray(tree)) {
    problems.push({ file, line: 1, column: 1, message: "a policy file is a map of sections: version, rules, …" });
    tree = {};
  }
  const locate = (path: DocumentPath, key = false): Place =>
    place(document === null ? 0 : offsetOf(document, path, key));
  return { file, sha256, tree: tree as Record<string, unknown>, problems, locate };
}

function said(error: { code: string; message: string }): string {
  if (error.code === "DUPLICATE_KEY") return "this key stands here twice";
  if (error.code === "MULTIPLE_DOCS") return "one file holds one document: remove the line ---";
  return error.message.split("\n", 1)[0] as string;
}

const bombText = (error: Error): string =>
  error instanceof RangeError ? "nested too deeply" : `${error.message} (at most ${MOST_ALIASES} aliases)`;

/** Offset of the deepest node on the way to `path` that exists. */
function offsetOf(document: Document.Parsed, path: DocumentPath, key: boolean): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (let i = 0; i < path.length; i++) {
    if (isAlias(node)) node = node.resolve(document);
    const step = path[i];
    if (isMap(node)) {
      const pair = node.items.find((item) => String(isScalar(item.key) ? item.key.value : item.key) === String(step));
      if (pair === undefined) return offset;
      offset = startOf(pair.key) ?? offset;
      if (key && i === path.length - 1) return offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === "number") node = node.items[step];
    else return offset;
    offset = startOf(node) ?? offset;
  }
  return offset;
}

const startOf = (node: unknown): number | null => (isNode(node) ? ((node as Node).range?.[0] ?? null) : null);
