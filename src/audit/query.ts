// From a question (the filters of `audit query`) to the condition of an SQL statement over `records`. Pure text.
import { idToHex } from "./ulid.ts";

/** Times in milliseconds since 1970. `*` is any run of characters where patterns are allowed; `-` asks for none. */
export interface Filter {
  readonly since?: number;
  readonly until?: number;
  readonly client?: string;
  readonly host?: string;
  readonly method?: string;
  readonly path?: string;
  /** `404`, `4xx`, `-`, or several with commas. */
  readonly status?: string;
  readonly decision?: string;
  readonly rule?: string;
  readonly reason?: string;
  /** SHA-256 in hex, of which at least the first 12 digits. */
  readonly digest?: string;
  readonly id?: string;
  readonly kind?: string;
  readonly uninspected?: boolean;
}

export type Param = string | number | Uint8Array;

export interface Condition {
  /** Without WHERE; "1" when everything matches. */
  readonly sql: string;
  readonly params: readonly Param[];
}

/** What can be grouped by. */
export const GROUPS = ["client", "host", "method", "status", "decision", "rule", "reason", "kind", "address"] as const;
export type Group = (typeof GROUPS)[number];

/** A filter that cannot be understood. */
export class QueryError extends Error {
  override readonly name = "QueryError";
}

/** The condition of a filter. Throws QueryError. */
export function conditionOf(f: Filter): Condition {
  const parts: string[] = [];
  const params: Param[] = [];
  const add = (sql: string, ...values: Param[]) => {
    parts.push(sql);
    params.push(...values);
  };
  if (f.since !== undefined) add("at >= ?", f.since);
  if (f.until !== undefined) add("at < ?", f.until);
  if (f.client !== undefined) word(add, "client", f.client);
  if (f.host !== undefined) word(add, "host", f.host.toLowerCase());
  if (f.method !== undefined) word(add, "method", f.method.toUpperCase());
  if (f.decision !== undefined) word(add, "decision", f.decision);
  if (f.rule !== undefined) word(add, "rule", f.rule);
  if (f.reason !== undefined) word(add, "reason", f.reason);
  if (f.kind !== undefined) word(add, "kind", f.kind);
  if (f.path !== undefined) path(add, f.path);
  if (f.status !== undefined) status(add, f.status);
  if (f.digest !== undefined) digest(add, f.digest);
  if (f.id !== undefined) add("id = ?", idParam(f.id.toUpperCase(), f.id));
  if (f.uninspected === true) add("uninspected = 1");
  return { sql: parts.length === 0 ? "1" : parts.join(" AND "), params };
}

type Add = (sql: string, ...values: Param[]) => void;

/** A column of interned words; several with commas. */
function word(add: Add, column: string, text: string): void {
  if (text === "-") {
    add(`${column} IS NULL`);
    return;
  }
  const options = text.split(",").map((part) => part.trim());
  const exact = options.length === 1 && !text.includes("*");
  if (exact) add(`${column} = (SELECT id FROM words WHERE text = ?)`, text);
  else {
    const tests = options.map((option) => (option.includes("*") ? "text GLOB ?" : "text = ?")).join(" OR ");
    add(`${column} IN (SELECT id FROM words WHERE ${tests})`, ...options.map((o) => (o.includes("*") ? globOf(o) : o)));
  }
}

/** GLOB of SQLite knows `?` and `[…]` too: here they are themselves. */
const globOf = (pattern: string): string => pattern.replaceAll(/[?[]/g, "[$&]");

/** An exact path matches with any query; `*` matches any run of characters. The first 48 characters are indexed. */
function path(add: Add, text: string): void {
  if (!text.includes("*")) {
    add(
      "substr(path, 1, 48) >= substr(?, 1, 48) AND substr(path, 1, 48) < substr(?, 1, 48) || ?",
      text,
      text,
      "\u{10FFFF}",
    );
    add("(path = ? OR path GLOB ?)", text, `${globOf(text)}[?]*`);
    return;
  }
  const prefix = text.slice(0, Math.min(text.indexOf("*"), 48));
  if (prefix !== "") add("substr(path, 1, 48) >= ? AND substr(path, 1, 48) < ?", prefix, `${prefix}\u{10FFFF}`);
  add("path GLOB ?", globOf(text));
}

function status(add: Add, text: string): void {
  const tests: string[] = [];
  const values: number[] = [];
  for (const part of text.split(",").map((p) => p.trim().toLowerCase())) {
    if (part === "-") tests.push("status IS NULL");
    else if (/^[1-5]xx$/.test(part)) {
      tests.push("status BETWEEN ? AND ?");
      values.push(Number(part[0]) * 100, Number(part[0]) * 100 + 99);
    } else if (/^[1-9]\d\d$/.test(part)) {
      tests.push("status = ?");
      values.push(Number(part));
    } else throw new QueryError(`--status ${text}: write 404, 4xx, 401,403, or - for none`);
  }
  add(`(${tests.join(" OR ")})`, ...values);
}

function digest(add: Add, text: string): void {
  const hex = text.toLowerCase().replace(/^sha256:/, "");
  if (!/^[0-9a-f]{12,64}$/.test(hex)) throw new QueryError("--digest wants at least 12 hex digits of a SHA-256");
  add("seq IN (SELECT seq FROM digests WHERE start = ?)", Number.parseInt(hex.slice(0, 12), 16));
  const glob = `${hex}*`;
  add("(lower(hex(sentSha)) GLOB ? OR lower(hex(receivedSha)) GLOB ? OR more GLOB ?)", glob, glob, `*"${hex}*`);
}

function idParam(upper: string, text: string): Param {
  const hex = idToHex(upper);
  return hex.startsWith(":") ? `:${text}` : Buffer.from(hex, "hex");
}
