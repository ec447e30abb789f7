// From a question (the filters of `audit query`) to the condition of an SQL statement over `records`, and to the terms that a block of
// records must hold to be worth a look.
import { AT } from "./row.ts";
import { digestTerm, folderTerm, idTerm, numberTerm, pathTerm, statusClassTerm } from "./signature.ts";

/** Values that have no column: SQL gets them by a function of that name from the column `packed`. */
export const PACKED_FILTERS = ["id", "sentSha", "receivedSha", "more"] as const;

/** Filters of columns that hold interned words. */
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

export type Param = string | number;

export interface Condition {
  /** Without WHERE; "1" when everything matches. */
  readonly sql: string;
  readonly params: readonly Param[];
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
  const all: Building = { parts: [], params: [], terms: [] };
  if (f.since !== undefined) add(all, "at >= ?", f.since);
  if (f.until !== undefined) add(all, "at < ?", f.until);
  for (const column of WORD_FILTERS) {
    const text = f[column];
    if (text === undefined) continue;
    word(
      all,
      column,
      column === "host" ? text.toLowerCase() : column === "method" ? text.toUpperCase() : text,
      findWords,
    );
  }
  if (f.path !== undefined) path(all, f.path);
  if (f.status !== undefined) status(all, f.status);
  if (f.digest !== undefined) digest(all, f.digest);
  if (f.id !== undefined) id(all, f.id);
  if (f.uninspected === true) {
    add(all, "uninspected = 1");
    all.terms.push([numberTerm(AT.uninspected, 1)]);
  }
  return { sql: all.parts.length === 0 ? "1" : all.parts.join(" AND "), params: all.params, terms: all.terms };
}

interface Building {
  readonly parts: string[];
  readonly params: Param[];
  readonly terms: number[][];
}

function add(all: Building, sql: string, ...values: Param[]): void {
  all.parts.push(sql);
  all.params.push(...values);
}

/** A column of interned words; several with commas. */
function word(all: Building, column: (typeof WORD_FILTERS)[number], text: string, findWords: FindWords): void {
  if (text === "-") {
    add(all, `${column} IS NULL`);
    all.terms.push([numberTerm(AT[column], 0)]);
    return;
  }
  const options = text.split(",").map((part) => part.trim());
  const ids = findWords(
    options.map((o) => (o.includes("*") ? { text: globOf(o), glob: true } : { text: o, glob: false })),
  );
  if (ids.length === 1) add(all, `${column} = ?`, ids[0] as number);
  else add(all, `${column} IN (SELECT value FROM json_each(?))`, JSON.stringify(ids));
  if (ids.length <= MAX_TERMS) all.terms.push(ids.map((n) => numberTerm(AT[column], n)));
}

/** GLOB of SQLite knows `?` and `[…]` too: here they are themselves. */
const globOf = (pattern: string): string => pattern.replaceAll(/[?[]/g, "[$&]");

/** An exact path matches with any query; `*` matches any run of characters. */
function path(all: Building, text: string): void {
  if (!text.includes("*")) {
    add(all, "(path = ? OR path GLOB ?)", text, `${globOf(text)}[?]*`);
    all.terms.push([pathTerm(text.split("?", 1)[0] as string)]);
    return;
  }
  add(all, "path GLOB ?", globOf(text));
  const folder = folderTerm(text.slice(0, text.indexOf("*")));
  if (folder !== null) all.terms.push([folder]);
}

function status(all: Building, text: string): void {
  const tests: string[] = [];
  const values: number[] = [];
  const terms: number[] = [];
  for (const part of text.split(",").map((p) => p.trim().toLowerCase())) {
    const number = Number(part[0]) * 100;
    if (part === "-") {
      tests.push("status IS NULL");
      terms.push(numberTerm(AT.status, 0));
    } else if (/^[1-5]xx$/.test(part)) {
      tests.push("status BETWEEN ? AND ?");
      values.push(number, number + 99);
      terms.push(statusClassTerm(number));
    } else if (/^[1-9]\d\d$/.test(part)) {
      tests.push("status = ?");
      values.push(Number(part));
      terms.push(numberTerm(AT.status, Number(part)));
    } else throw new QueryError(`--status ${text}: write 404, 4xx, 401,403, or - for none`);
  }
  add(all, `(${tests.join(" OR ")})`, ...values);
  all.terms.push(terms);
}

function digest(all: Building, text: string): void {
  const hex = text.toLowerCase().replace(/^sha256:/, "");
  if (!/^[0-9a-f]{12,64}$/.test(hex)) throw new QueryError("--digest wants at least 12 hex digits of a SHA-256");
  const glob = `${hex}*`;
  add(all, "(sentSha(packed) GLOB ? OR receivedSha(packed) GLOB ? OR more(packed) GLOB ?)", glob, glob, `*"${hex}*`);
  all.terms.push([digestTerm(hex)]);
}

/** Our own ids are upper case (Crockford base 32). */
function id(all: Building, text: string): void {
  const upper = text.toUpperCase();
  const known = /^[0-9A-HJKMNP-TV-Z]{26}$/.test(upper) ? upper : text;
  add(all, "id(packed) = ?", known);
  all.terms.push([idTerm(known)]);
}
