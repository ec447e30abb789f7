// What a reload swaps as one reference: the configuration and everything made from it. Nothing of a new one is in force
// before all of it could be made (invariant 9).

import { loadConfig } from "../config/load.ts";
import type { LoadedConfig, ServerConfig } from "../config/loaded.ts";
import { runTests } from "../config/run-tests.ts";
import { type OpenAuthenticator, openAuthenticator } from "../edge/auth/authenticator.ts";
import type { KeyFetchPort } from "../edge/auth/key-set.ts";
import { OriginTls } from "../edge/tls/origin-tls.ts";
import { type Roots, systemRoots, withAdded } from "../edge/tls/roots.ts";
import type { RefusalOptions } from "../exchange/refusal.ts";
import { compileNetwork, type NetworkPolicy } from "../policy/addresses.ts";
import { afterReload } from "./server-settings.ts";

export interface InForce {
  readonly config: LoadedConfig;
  readonly network: NetworkPolicy;
  readonly authenticator: OpenAuthenticator;
  readonly originTls: OriginTls;
  readonly roots: Roots;
  readonly refusal: RefusalOptions;
  /** Settings of `server` that the file changed and that wait for the next start. */
  readonly waiting: readonly string[];
}

export interface Sources {
  readonly files: readonly string[];
  readonly flags: {
    readonly listen?: string;
    readonly admin?: string;
    readonly data?: string;
    readonly ca?: string;
    readonly logLevel?: string;
  };
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Loads, validates, runs the file's own tests, and makes what depends on it. `started`: the `server` section of a house that
 * runs. Rejects with every problem.
 */
export async function loadInForce(
  sources: Sources,
  keys: (roots: Roots) => KeyFetchPort,
  started?: ServerConfig,
): Promise<InForce> {
  const loaded = await loadConfig({ files: sources.files, env: sources.env, flags: sources.flags });
  const { server, waiting } = afterReload(started ?? loaded.server, loaded.server);
  const config: LoadedConfig = { ...loaded, server };
  const failed = runTests(config).filter((result) => !result.passed);
  if (failed.length > 0) {
    const list = failed.map((f) => `${f.test.place.file}:${f.test.place.line}:${f.test.place.column}: ${f.message}`);
    throw new Error(`the file's own tests fail:\n${list.join("\n")}`);
  }
  const roots = withAdded(await systemRoots({ env: sources.env }), config.tls.roots);
  const authenticator = openAuthenticator({
    clients: config.clients,
    required: config.server.authentication === "required",
    keys: keys(roots),
    now: Date.now,
  });
  return {
    config,
    network: compileNetwork(config.network.allow),
    authenticator,
    originTls: originTlsOf(config, roots),
    roots,
    waiting,
    refusal: { hints: config.server.hints, challenges: challengesOf(config), name: "sallyport" },
  };
}

function originTlsOf(config: LoadedConfig, roots: Roots): OriginTls {
  return new OriginTls({
    roots: roots.pems,
    exceptions: config.tls.exceptions,
    clientCertificates: config.tls.clientCertificates,
    now: Date.now,
  });
}

/** Basic always; Bearer where some client has a token (RFC 9110 section 11.6.1, RFC 6750 section 3). */
function challengesOf(config: LoadedConfig): string[] {
  const challenges = ['Basic realm="sallyport", charset="UTF-8"'];
  if (config.clients.some((c) => c.bearer !== null)) challenges.push('Bearer realm="sallyport"');
  return challenges;
}
