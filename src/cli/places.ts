// Where a command finds the house: the same defaults, environment and flags as `start`.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Option } from "commander";
import { parse } from "yaml";

/** The options that every command about a house has. */
export interface PlaceOptions {
  readonly config?: string[];
  readonly data?: string;
  readonly ca?: string;
}

export interface Places {
  /** Absolute; empty: the default policy. */
  readonly configFiles: string[];
  /** Absolute folders. */
  readonly data: string;
  readonly ca: string;
}

/** `-c FILE`, as often as there are files: one that took several at once would take the words behind it too. */
export const configOption = (says: string): Option =>
  new Option("-c, --config <file>", `${says}; may be repeated`).argParser((file, before: string[] | undefined) => [
    ...(before ?? []),
    file,
  ]);

/**
 * Flags beat environment beats file, and a folder is seen from the working directory, as `start` does it. Only the two folders
 * are read from the file: it may need secrets that are not here.
 */
export function findPlaces(options: PlaceOptions, env: NodeJS.ProcessEnv): Places {
  const named = options.config ?? (env.SALLYPORT_CONFIG ? [env.SALLYPORT_CONFIG] : []);
  const configFiles = named.map((file) => resolve(file));
  const server = configFiles.map(serverSection).find((s) => s !== null) ?? null;
  const folder = (flag: string | undefined, variable: string | undefined, key: "data" | "ca", usual: string) => {
    if (flag) return resolve(flag);
    if (variable) return resolve(variable);
    const said = server?.[key];
    return resolve(typeof said === "string" ? said : usual);
  };
  return {
    configFiles,
    data: folder(options.data, env.SALLYPORT_DATA, "data", "data"),
    ca: folder(options.ca, env.SALLYPORT_CA, "ca", "certs"),
  };
}

function serverSection(file: string): Record<string, unknown> | null {
  try {
    const document = parse(readFileSync(file, "utf8")) as { server?: Record<string, unknown> } | null;
    return document?.server ?? null;
  } catch {
    // The house itself says what is wrong with the file.
    return null;
  }
}
