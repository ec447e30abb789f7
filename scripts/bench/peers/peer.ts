// What a proxy must say of itself to be measured: whether it is there, how it is started, and what it can do.
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import type { OriginPorts } from "../payload.ts";
import type { ScenarioId } from "../scenarios.ts";

export interface Surroundings {
  /** A folder of its own, which every user may enter and write to: squid gives up root's rights. */
  readonly dir: string;
  /** The port to listen on, on 127.0.0.1. */
  readonly port: number;
  readonly origin: OriginPorts;
  /** PEM files: the CA that signed the origin's certificate, and the CA to sign with (certificate, key, both in one). */
  readonly originCa: string;
  readonly ca: { readonly cert: string; readonly key: string; readonly both: string };
}

export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** PEM file, once it listens: the CA whose certificates clients see. */
  readonly caFile: string;
}

export interface Peer {
  readonly name: string;
  /** How to install what is missing. */
  readonly install: string;
  /** Its version, or null: not installed. */
  version(): Promise<string | null>;
  /** Writes its configuration and says how it is started (in the foreground). */
  prepare(surroundings: Surroundings): Promise<Start>;
  readonly scenarios: readonly ScenarioId[];
}

/** Programs of Debian packages are where an ordinary user's PATH does not look. */
const PLACES = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin", "/usr/lib/squid"];

/** The path of this program, or null. */
export function findProgram(name: string): string | null {
  for (const place of PLACES) {
    const path = join(place, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here.
    }
  }
  return null;
}
