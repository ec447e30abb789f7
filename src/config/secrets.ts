// Secrets: where they come from, and that they never get into a message.
import { dirname, resolve } from "node:path";
import { KnownSecrets } from "../shared/known-secrets.ts";
import { SHORTEST_HIDDEN } from "../shared/secret-spellings.ts";
import type { MergedDocument } from "./merge.ts";
import { type Outside, withoutLineEnd } from "./outside.ts";
import type { Report } from "./report.ts";
import type { ConfigDocument } from "./schema.ts";
import { secretSchema } from "./server-schema.ts";

/** Every secret value that was seen while loading. */
export class SecretValues {
  readonly #named = new Map<string, string>();
  readonly #values = new Set<string>();
  readonly #variables = new Set<string>();

  /** The environment variable `name` holds a secret. */
  heldBy(name: string): void {
    this.#variables.add(name);
  }

  /** The environment variables that hold secrets: children are not given them. */
  variables(): readonly string[] {
    return Object.freeze([...this.#variables]);
  }

  set(name: string, value: string): void {
    this.#named.set(name, value);
    this.add(value);
  }

  /** Until its value is known. */
  reserve(name: string): void {
    this.#named.set(name, `placeholder-of-${name}`);
  }

  get(name: string): string | undefined {
    return this.#named.get(name);
  }

  names(): string[] {
    return [...this.#named.keys()];
  }

  add(value: string): void {
    if (value.length >= SHORTEST_HIDDEN) this.#values.add(value);
  }

  /** Those that the document itself holds: passwords and keys that were not written as references. */
  collect(document: ConfigDocument): void {
    for (const { password, bearer } of Object.values(document.clients)) {
      if (password !== undefined) this.add(password);
      if (bearer?.secret !== undefined) this.add(bearer.secret);
    }
    for (const { via } of document.rules) {
      if (via?.password !== undefined) this.add(via.password);
      const inUrl = /:\/\/[^/@:]*:([^/@]+)@/.exec(via?.url ?? "")?.[1];
      if (inUrl !== undefined) {
        this.add(inUrl);
        this.add(percentDecoded(inUrl));
      }
    }
    const passphrases = document.tls["client-certificates"].map((c) => c.passphrase);
    for (const p of [...passphrases, document.tls["ca-passphrase"], document.server.tls?.passphrase]) {
      if (p !== undefined) this.add(p);
    }
  }

  values(): readonly string[] {
    return Object.freeze([...this.#values]);
  }

  named(): { name: string; value: string }[] {
    return [...this.#named].map(([name, value]) => ({ name, value }));
  }

  /** The text without any secret, in any spelling. For problems, which are few. */
  scrub(text: string): string {
    return new KnownSecrets([...this.#values]).redact(text);
  }
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // The policy's compiler says that it is malformed.
  }
}

/** Reads what `secrets:` names. With `lenient`, what cannot be had is a placeholder, and no command is run. */
export async function readSecrets(
  merged: MergedDocument,
  outside: Outside,
  secrets: SecretValues,
  lenient: boolean,
  report: Report,
): Promise<void> {
  const section = merged.tree.secrets;
  if (typeof section !== "object" || section === null || Array.isArray(section)) return;
  const reading = Object.entries(section).map(async ([name, document]) => {
    const parsed = secretSchema.safeParse(document);
    const at = ["secrets", name];
    secrets.reserve(name);
    if (!parsed.success) return; // The schema of the whole document says it.
    const given = Object.values(parsed.data).filter((v) => v !== undefined).length;
    if (given !== 1) {
      report.problem(at, "a secret comes from exactly one of env, file and command");
      return;
    }
    if (parsed.data.env !== undefined) secrets.heldBy(parsed.data.env);
    try {
      const value = await readSecret(parsed.data, dirname(merged.origin(at).source.file), outside, lenient);
      if (value === null) return;
      if (value === "") throw new Error("it is empty");
      if (value.length < SHORTEST_HIDDEN)
        report.warn(
          at,
          `the secret ${name} is shorter than ${SHORTEST_HIDDEN} characters and is not taken out of logs`,
        );
      secrets.set(name, value);
    } catch (error) {
      if (!lenient) report.problem(at, `the secret ${name}: ${(error as Error).message}`);
    }
  });
  await Promise.all(reading);
}

async function readSecret(
  document: { env?: string | undefined; file?: string | undefined; command?: string | string[] | undefined },
  folder: string,
  outside: Outside,
  lenient: boolean,
): Promise<string | null> {
  if (document.env !== undefined) return outside.env(document.env);
  if (document.file !== undefined) return withoutLineEnd((await outside.file(resolve(folder, document.file))).text);
  if (lenient) return null;
  const { command } = document;
  const words = typeof command === "string" ? command.trim().split(/\s+/) : (command ?? []);
  if (typeof command === "string" && /["'`$|&;<>\\]/.test(command)) {
    throw new Error("there is no shell: write the command as a list of program and arguments");
  }
  return outside.command(words);
}
