// What a child is to trust: the roots of the system and the CA of the house it joined.
import { dirname, join, resolve } from "node:path";
import { readRoot } from "../edge/tls/ca.ts";
import { systemRoots, trustBundle } from "../edge/tls/roots.ts";
import type { TrustFiles } from "./child-environment.ts";
import { CommandError } from "./output.ts";
import { writeTrustFiles } from "./trust-files.ts";

/** Writes the files that the child's variables point at; `caFile` as the house says it. */
export async function prepareTrust(caFile: string, data: string, inherited: NodeJS.ProcessEnv): Promise<TrustFiles> {
  const found = await readRoot(dirname(caFile), Date.now());
  if (found === null) throw new CommandError(`there is no CA certificate at ${caFile}`);
  const ca = { certificatePem: found.root.toString(), previous: found.previous };
  const roots = await systemRoots({ env: withoutOurBundle(inherited, data) });
  return writeTrustFiles(data, [ca.certificatePem, ...ca.previous].join(""), trustBundle(roots, ca), inherited);
}

/** Inside another `run` SSL_CERT_FILE names our own bundle, which is no source of roots. */
export function withoutOurBundle(env: NodeJS.ProcessEnv, data: string): NodeJS.ProcessEnv {
  if (env.SSL_CERT_FILE !== join(resolve(data), "trust", "bundle.pem")) return env;
  const { SSL_CERT_FILE: _ours, ...rest } = env;
  return rest;
}
