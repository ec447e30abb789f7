// The peers from npm, each started by a small file of ours.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { scenariosBut } from "../scenarios.ts";
import type { Peer } from "./peer.ts";

const require = createRequire(import.meta.url);
const TSX = ["--import", import.meta.resolve("tsx")];

function packageVersion(name: string): string | null {
  for (const folder of require.resolve.paths(name) ?? []) {
    try {
      return (JSON.parse(readFileSync(join(folder, name, "package.json"), "utf8")) as { version: string }).version;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

const starter = (name: string): string[] => [...TSX, join(import.meta.dirname, name)];

export const httpMitmProxy: Peer = {
  name: "http-mitm-proxy",
  install: "npm install",
  scenarios: scenariosBut("h2"),
  version: async () => packageVersion("http-mitm-proxy"),
  prepare: async ({ dir, port, origin, originCa }) => ({
    command: process.execPath,
    args: [...starter("http-mitm-proxy-start.ts"), `${port}`, dir, `${origin.opaque}`],
    env: { NODE_EXTRA_CA_CERTS: originCa },
    caFile: join(dir, "certs", "ca.pem"),
  }),
};

export const mockttp: Peer = {
  name: "mockttp",
  install: "npm install",
  scenarios: scenariosBut(),
  version: async () => packageVersion("mockttp"),
  prepare: async ({ port, originCa, ca }) => ({
    command: process.execPath,
    args: [...starter("mockttp-start.ts"), `${port}`, ca.key, ca.cert, originCa],
    caFile: ca.cert,
  }),
};
