// From a question (the filters of `audit query`) to a test of packed records, and to the terms that a block of records must hold to be
// worth a look.
import type { PackedRecord } from "./packed.ts";
import { AT } from "./row.ts";
import { digestTerm, folderTerm, idTerm, numberTerm, pathTerm, statusClassTerm } from "./signature.ts";

/** Filters of values that are words. */
const WORD_FILTERS = ["client", "host", "method", "decision", "rule", "reason", "kind"] as const;

/**
 * Filters that are written as text. `*` is any run of characters where patterns are allowed; `-` asks for none. `status`: `404`,
 * `4xx`, `-`, or several with commas. `digest`: SHA-256 in hex, of which at least the first 12 digits.
 */
export const TEXT_FILTERS = [...WORD_FILTERS, "path", "status", "digest", "id"] as const;

export interface Filter extends Readonly<Partial<Record<(typeof TEXT_FILTERS)[number], string>>> {
  /** Milliseconds since 1970. */
  readonly since?: number;
  readonly until?: number;
  readonly uninspected?: boolean;
}

type Test = (record: PackedRecord) => boolean;

export interface Condition {
  /** Does the record match? */
  readonly matches: Test;
  /** It looks at values before this place of a row; 0: at none, all match. */
  readonly end: number;
  /** For each group, a block must have one of its terms. */
  readonly terms: readonly (readonly number[])[];
}

/** The numbers of the words that match one of the tests: exactly, or by a GLOB pattern of SQLite. */
export type FindWords = (tests: readonly { readonly text: string; readonly glob: boolean }[]) => number[];

/** What can be grouped by. */
export const GROUPS = ["client", "host", "method", "status", "decision", "rule", "reason", "kind", "address"] as const;
export type Group = (typeof GROUPS)[number];

/** A filter that cannot be understood. */
export class QueryError extends Error {
  override readonly name = "QueryError";
}

/** More words than this are no help in finding blocks. */
const MAX_TERMS = 64;

/** The condition of a filter. Throws QueryError. */
export function conditionOf(f: Filter, findWords: FindWords): Condition {
  const all: Building = { tests: [], end: 0, terms: [] };
  const { since, until } = f;
  if (since !== undefined) add(all, AT.at, (r) => (r.numbers[AT.at] as number) >= since);
  if (until !== undefined) add(all, AT.at, (r) => (r.numbers[AT.at] as number) < until);
  for (const column of WORD_FILTERS) {
    const text = f[column];
    if (text === undefined) continue;
    word(
      all,
      AT[column],
      column === "host" ? text.toLowerCase() : column === "method" ? text.toUpperCase() : text,
      findWords,
    );
  }
  if (f.status !== undefined) status(all, f.status);
  if (f.uninspected === true) {
    add(all, AT.uninspected, (r) => r.numbers[AT.uninspected] === 1);
    all.terms.push([numberTerm(AT.uninspected, 1)]);
  }
  // What needs the text of a value comes last.
  if (f.path !== undefined) path(all, f.path);
  if (f.digest !== undefined) digest(all, f.digest);
  if (f.id !== undefined) id(all, f.id);
  const { tests, terms } = all;
  return { matches: (record) => tests.every((test) => test(record)), end: all.end, terms };
}

interface Building {
  readonly tests: Test[];
  end: number;
  readonly terms: number[][];
}

/** `place`: of the last value that the test looks at. */
function add(all: Building, place: number, test: Test): void {
  all.tests.push(test);
  all.end = Math.max(all.end, place + 1);
}

/** A value that is a word; several with commas. */
function word(all: Building, place: number, text: string, findWords: FindWords): void {
  if (text === "-") {
    add(all, place, (r) => r.isNull(place));
    all.terms.push([numberTerm(place, 0)]);
    return;
  }
  const options = text.split(",").map((part) => part.trim());
  const ids = new Set(
    findWords(options.map((o) => (o.includes("*") ? { text: globOf(o), glob: true } : { text: o, glob: false }))),
  );
  add(all, place, (r) => ids.has(r.numbers[place] as number));
  if (ids.size <= MAX_TERMS) all.terms.push([...ids].map((n) => numberTerm(place, n)));
}

/** GLOB of SQLite knows `?` and `[…]` too: here they are themselves. */
const globOf = (pattern: string): string => pattern.replaceAll(/[?[]/g, "[$&]");

/** An exact path matches with any query; `*` matches any run of characters. */
function path(all: Building, text: string): void {
  if (!text.includes("*")) {
    addPath(all, (p) => p.startsWith(text) && (p.length === text.length || p[text.length] === "?"));
    all.terms.push([pathTerm(text.split("?", 1)[0] as string)]);
    return;
  }
  const parts = text.split("*");
  addPath(all, (p) => fits(p, parts));
  const folder = folderTerm(text.slice(0, text.indexOf("*")));
  if (folder !== null) all.terms.push([folder]);
}

function addPath(all: Building, test: (path: string) => boolean): void {
  add(all, AT.path, (r) => {
    const found = r.text(AT.path);
    return found !== null && test(found);
  });
}

/** True when the text is these parts in their order, with anything between them. */
function fits(text: string, parts: readonly string[]): boolean {
  const last = parts.at(-1) as string;
  if (!text.startsWith(parts[0] as string) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let at = (parts[0] as string).length;
  for (let i = 1; i < parts.length - 1; i++) {
    const part = parts[i] as string;
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= end;
}

function status(all: Building, text: string): void {
  const ranges: [number, number][] = [];
  const terms: number[] = [];
  for (const part of text.split(",").map((p) => p.trim().toLowerCase())) {
    const number = Number(part[0]) * 100;
    if (part === "-") {
      ranges.push([0, 0]);
      terms.push(numberTerm(AT.status, 0));
    } else if (/^[1-5]xx$/.test(part)) {
      ranges.push([number, number + 99]);
      terms.push(statusClassTerm(number));
    } else if (/^[1-9]\d\d$/.test(part)) {
      ranges.push([Number(part), Number(part)]);
      terms.push(numberTerm(AT.status, Number(part)));
    } else throw new QueryError(`--status ${text}: write 404, 4xx, 401,403, or - for none`);
  }
  add(all, AT.status, (r) => {
    const found = r.numbers[AT.status] as number;
    return ranges.some(([low, high]) => found >= low && found <= high);
  });
  all.terms.push(terms);
}

function digest(all: Building, text: string): void {
  const hex = text.toLowerCase().replace(/^sha256:/, "");
  if (!/^[0-9a-f]{12,64}$/.test(hex)) throw new QueryError("--digest wants at least 12 hex digits of a SHA-256");
  add(
    all,
    AT.more,
    (r) =>
      r.text(AT.sentSha)?.startsWith(hex) === true ||
      r.text(AT.receivedSha)?.startsWith(hex) === true ||
      r.text(AT.more)?.includes(`"${hex}`) === true,
  );
  all.terms.push([digestTerm(hex)]);
}

/** Our own ids are upper case (Crockford base 32). */
function id(all: Building, text: string): void {
  const upper = text.toUpperCase();
  const known = /^[0-9A-HJKMNP-TV-Z]{26}$/.test(upper) ? upper : text;
  add(all, AT.id, (r) => r.text(AT.id) === known);
  all.terms.push([idTerm(known)]);
}
