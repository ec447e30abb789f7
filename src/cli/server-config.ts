// Finds the MCP servers in a client's configuration and replaces them without touching anything else: JSON, with comments
// and trailing commas as VS Code allows them. Known places: `mcpServers`, `mcp.servers`, `servers`, and those per project.
import {
  applyEdits,
  type FormattingOptions,
  getNodeValue,
  type JSONPath,
  modify,
  type Node,
  type ParseError,
  parseTree,
} from "jsonc-parser";
import { CommandError } from "./output.ts";

export interface ServerEntry {
  readonly name: string;
  readonly path: JSONPath;
  readonly value: Readonly<Record<string, unknown>>;
}

/** The servers, in the order of the file. Throws CommandError when the text is not JSON. */
export function serversIn(text: string): ServerEntry[] {
  const problems: ParseError[] = [];
  const tree = parseTree(text.replace(/^\ufeff/, " "), problems, { allowTrailingComma: true });
  const first = problems[0];
  if (tree === undefined || first !== undefined) {
    const line = text.slice(0, first?.offset ?? 0).split("\n").length;
    throw new CommandError(`the file is not JSON: something is wrong in line ${line}`);
  }
  const found: ServerEntry[] = [];
  walk(tree, [], found);
  return found;
}

function walk(node: Node, path: JSONPath, found: ServerEntry[]): void {
  if (node.type !== "object") return;
  for (const property of node.children ?? []) {
    const [key, value] = property.children ?? [];
    if (key === undefined || value?.type !== "object") continue;
    const name = String(key.value);
    const here = [...path, name];
    if (isServerList(path, name)) addServers(value, here, found);
    else if (here.length <= 3) walk(value, here, found);
  }
}

function isServerList(path: JSONPath, name: string): boolean {
  if (name === "mcpServers") return true;
  return name === "servers" && (path.length === 0 || path.at(-1) === "mcp");
}

function addServers(list: Node, path: JSONPath, found: ServerEntry[]): void {
  for (const property of list.children ?? []) {
    const [key, value] = property.children ?? [];
    if (key === undefined || value?.type !== "object") continue;
    found.push({ name: String(key.value), path: [...path, String(key.value)], value: getNodeValue(value) });
  }
}

/** The text with `command` and `args` of these servers replaced; everything else stays byte for byte. */
export function replaceServers(
  text: string,
  changes: readonly { readonly server: ServerEntry; readonly value: object | null }[],
): string {
  const formattingOptions = formatOf(text);
  let result = text;
  for (const { server, value } of changes) {
    for (const [key, is] of Object.entries(value ?? {})) {
      if (JSON.stringify(server.value[key]) === JSON.stringify(is)) continue;
      result = applyEdits(result, modify(result, [...server.path, key], is, { formattingOptions }));
    }
  }
  return result;
}

function formatOf(text: string): FormattingOptions {
  const indent = /\n([ \t]+)\S/.exec(text)?.[1] ?? "  ";
  return {
    insertSpaces: !indent.startsWith("\t"),
    tabSize: indent.startsWith("\t") ? 1 : indent.length,
    eol: text.includes("\r\n") ? "\r\n" : "\n",
  };
}
