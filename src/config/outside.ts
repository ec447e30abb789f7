// What the configuration takes from outside: files, the environment and commands, each bounded, each read once.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";

const LARGEST_FILE = 8 * 1024 * 1024;
const COMMAND_DEADLINE = 10_000;
const LARGEST_OUTPUT = 64 * 1024;

export type Environment = Readonly<Record<string, string | undefined>>;

/** Text of a file with its digest. */
export interface ReadText {
  readonly text: string;
  readonly sha256: string;
  /** Every user of the machine may change it. */
  readonly anybodyWrites: boolean;
}

/** Reads outside things. Every method throws an Error whose message may be shown. */
export class Outside {
  readonly #env: Environment;
  readonly #files = new Map<string, Promise<ReadText>>();

  constructor(env: Environment) {
    this.#env = env;
  }

  /** The text of a file (UTF-8). The same file is read once, so that everything sees the same bytes. */
  file(path: string): Promise<ReadText> {
    const had = this.#files.get(path);
    if (had !== undefined) return had;
    const reading = readText(path);
    this.#files.set(path, reading);
    return reading;
  }

  /** The value of an environment variable. An empty one counts as missing. */
  env(name: string): string {
    const value = this.#env[name];
    if (value === undefined || value === "") throw new Error(`the environment variable ${name} is not set`);
    return value;
  }

  /** What a program prints, without the line break at its end. No shell; its error output stays where it is. */
  command(words: readonly string[]): Promise<string> {
    const [program, ...rest] = words;
    return new Promise((resolve, reject) => {
      const options = { timeout: COMMAND_DEADLINE, maxBuffer: LARGEST_OUTPUT, killSignal: "SIGKILL" as const };
      execFile(program as string, rest, options, (error, stdout) => {
        if (error === null) resolve(withoutLineEnd(stdout));
        else reject(new Error(commandText(program as string, error)));
      });
    });
  }
}

async function readText(path: string): Promise<ReadText> {
  try {
    const found = await stat(path);
    // A pipe or a device may never end.
    if (!found.isFile() && !found.isDirectory()) throw new Error("it is not a regular file");
    if (found.size > LARGEST_FILE) throw new Error("it is larger than 8MiB");
    const bytes = await readFile(path);
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
    const anybodyWrites = process.platform !== "win32" && (found.mode & 0o002) !== 0;
    return { text, sha256: createHash("sha256").update(bytes).digest("hex"), anybodyWrites };
  } catch (error) {
    throw new Error(`cannot read ${path}: ${fileText(error as NodeJS.ErrnoException)}`);
  }
}

function fileText(error: NodeJS.ErrnoException): string {
  if (error.code === "ENOENT") return "there is no such file";
  if (error.code === "EACCES") return "permission denied";
  if (error.code === "EISDIR") return "it is a folder";
  return error.code === "ERR_ENCODING_INVALID_ENCODED_DATA" ? "it is not UTF-8 text" : error.message;
}

/** Never what the command printed: it may be the secret. */
function commandText(program: string, error: Error & { code?: unknown; killed?: boolean }): string {
  if (error.code === "ENOENT") return `there is no command ${program}`;
  if (error.killed) return `${program} did not end within ${COMMAND_DEADLINE / 1000}s`;
  return `${program} failed${typeof error.code === "number" ? ` with exit code ${error.code}` : ""}`;
}

/** Drops one line break at the end: editors add it. */
export const withoutLineEnd = (text: string): string => text.replace(/\r?\n$/, "");
