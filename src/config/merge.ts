// Several files as one document: lists are joined in order, sections are joined key by key, and nothing is said twice.
import type { DocumentPath } from "../policy/problems.ts";
import type { ConfigProblem, Place } from "./loaded.ts";
import { problemText } from "./loaded.ts";
import type { YamlSource } from "./yaml-source.ts";

type Tree = Record<string, unknown>;

interface Origin {
  readonly source: YamlSource;
  readonly path: DocumentPath;
}

/** Names in these sections are whole: two files cannot share one. */
const NAMED = new Set(["clients", "secrets"]);

/** The document of all files, and where each part of it came from. */
export class MergedDocument {
  readonly tree: Tree = {};
  readonly problems: ConfigProblem[] = [];
  readonly #origins = new Map<string, Origin>();
  readonly #first: YamlSource;

  /** At least one source, in order. */
  constructor(sources: readonly YamlSource[]) {
    this.#first = sources[0] as YamlSource;
    for (const source of sources) {
      this.problems.push(...source.problems);
      this.#join(this.tree, source.tree as Tree, [], source);
    }
  }

  /** The file that a part of the document came from, and the path in it. */
  origin(path: DocumentPath): Origin {
    for (let length = path.length; length > 0; length--) {
      const found = this.#origins.get(JSON.stringify(path.slice(0, length)));
      if (found !== undefined) return { source: found.source, path: [...found.path, ...path.slice(length)] };
    }
    return { source: this.#first, path };
  }

  locate(path: DocumentPath, key = false): Place {
    const { source, path: inside } = this.origin(path);
    return source.locate(inside, key);
  }

  #join(into: Tree, from: Tree, path: DocumentPath, source: YamlSource): void {
    for (const [key, value] of Object.entries(from)) {
      const at = [...path, key];
      if (at.length === 1 && (key === "include" || (key === "version" && key in into))) continue;
      const had = Object.hasOwn(into, key) ? into[key] : undefined;
      if (Array.isArray(value) && (had === undefined || Array.isArray(had))) this.#append(into, key, value, at, source);
      else if (isTree(value) && (had === undefined || isTree(had)) && !NAMED.has(String(path[0]))) {
        if (had === undefined) this.#set(into, key, {}, at, source);
        this.#join(into[key] as Tree, value, at, source);
      } else if (had === undefined) this.#set(into, key, value, at, source);
      else this.#twice(at, source);
    }
  }

  #append(into: Tree, key: string, values: unknown[], at: DocumentPath, source: YamlSource): void {
    if (!Object.hasOwn(into, key)) this.#set(into, key, [], at, source);
    const list = into[key] as unknown[];
    values.forEach((value, i) => {
      this.#origins.set(JSON.stringify([...at, list.length]), { source, path: [...at, i] });
      list.push(value);
    });
  }

  #set(into: Tree, key: string, value: unknown, at: DocumentPath, source: YamlSource): void {
    // Not by assignment: `__proto__` in a file is a key like any other.
    Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
    this.#origins.set(JSON.stringify(at), { source, path: at });
  }

  #twice(at: DocumentPath, source: YamlSource): void {
    const message = `${at.join(".")} is set already`;
    const first = problemText({ ...this.locate(at, true), message: "" }).replace(/: $/, "");
    this.problems.push({ ...source.locate(at, true), message: `${message} in ${first}` });
  }
}

const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);
