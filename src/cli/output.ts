// What commands print: tables, colour, JSON, errors. Colour only on a terminal; nothing that came from elsewhere reaches a
// terminal with its control characters (pitfalls O8).
import pc from "picocolors";

/** Exit codes of every command. */
export const EXIT = { done: 0, no: 1, usage: 2 } as const;

/** An error for people: wrong usage or configuration. `main` prints the message alone and exits with `code`. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: number;
  constructor(message: string, code: number = EXIT.usage, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const CAUSES: Readonly<Record<string, string>> = {
  EACCES: "permission denied: run it as the user that owns it, or name another one",
  EPERM: "permission denied: run it as the user that owns it, or name another one",
  ENOENT: "there is no such file or folder",
  ENOTDIR: "something in this path is a file, not a folder",
  EISDIR: "it is a folder",
  EEXIST: "it is there already",
  ENOSPC: "the disk is full",
  EFBIG: "files may not grow so large (ulimit -f)",
  EROFS: "the file system is read-only",
  EMFILE: "too many open files: raise the limit (ulimit -n)",
};

/** Ports have causes of their own. */
const LISTEN_CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE:
    "another program has this port; name another one with --listen (proxy) or --admin (health, metrics; or off)",
  EADDRNOTAVAIL: "this machine does not have this address",
  EACCES: "ports below 1024 are for root: name another one with --listen or --admin",
};

type SystemError = NodeJS.ErrnoException & { readonly address?: string; readonly port?: number };

/** An error of the operating system as a sentence that says what to do; others as their own message. */
export function errorText(error: Error): string {
  const { code = "", syscall, path, address, port } = error as SystemError;
  if (syscall === "listen" && port !== undefined) {
    const cause = LISTEN_CAUSES[code];
    if (cause !== undefined) return `cannot listen at ${address}:${port}: ${cause}`;
  }
  const cause = CAUSES[code];
  return path === undefined || cause === undefined ? error.message : `cannot use ${safeText(path)}: ${cause}`;
}

const wantsColour = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY === true && (process.env.NO_COLOR ?? "") === "" && process.env.TERM !== "dumb";

/** Colours for standard output, which do nothing when it is not a terminal. */
export const colours = pc.createColors(wantsColour(process.stdout));
/** Colours for standard error. */
export const errorColours = pc.createColors(wantsColour(process.stderr));

/** Controls, invisible format characters (bidirectional overrides among them), line and paragraph separators. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** Text that a terminal shows and does not obey: what could steer it is written as `\x1b`, `\u202e`. */
export function safeText(text: string): string {
  return text.replace(UNSAFE, (c) => {
    const code = c.codePointAt(0) as number;
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** A remark for people, on standard error. */
export function notice(line: string): void {
  process.stderr.write(`${errorColours.dim("sallyport:")} ${line}\n`);
}

/** JSON in which controls and bidirectional overrides are escaped too, so that a terminal shows and does not obey them. */
export const jsonText = (value: unknown, indent = 0): string =>
  JSON.stringify(value, null, indent).replace(/[\u007f-\u009f\p{Cf}\u2028\u2029]/gu, (c) =>
    Array.from({ length: c.length }, (_, i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`).join(""),
  );

export function printJson(value: unknown): void {
  process.stdout.write(`${jsonText(value, 2)}\n`);
}

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** A table as text; cells may hold colour. Cells that come from elsewhere must have gone through `safeText`. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((c, i) => Math.max(c.title.length, ...rows.map((r) => visible(r[i] ?? "").length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => pad(cell, widths[i] as number, columns[i]?.align ?? "left"))
      .join("  ")
      .trimEnd();
  return [colours.bold(line(columns.map((c) => c.title))), ...rows.map(line)].join("\n");
}

function pad(cell: string, width: number, align: "left" | "right"): string {
  const blanks = " ".repeat(Math.max(0, width - visible(cell).length));
  return align === "left" ? cell + blanks : blanks + cell;
}

/** Without the colours that we put in ourselves. */
const visible = (text: string): string => {
  const start = String.fromCharCode(27);
  return text.split(start).reduce((all, part, i) => all + (i === 0 ? part : part.replace(/^\[[0-9;]*m/, "")), "");
};

/** The word of `words` that is nearest to `word`, or null when none is near. */
export function nearest(word: string, words: readonly string[]): string | null {
  let best: string | null = null;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const w of words) {
    const d = distance(word, w);
    if (d < least) [best, least] = [w, d];
  }
  return best;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
