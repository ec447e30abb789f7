// Our own proxy as a participant: audit on, a policy like policies/observe.yaml, with loopback open.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer, Surroundings } from "./peers/peer.ts";
import { SCENARIOS } from "./scenarios.ts";

export interface OwnOptions {
  readonly name: string;
  /** The built main.js. */
  readonly main: string;
  /** Rules beside the one for the tunnel; null: everything is allowed by the default. */
  readonly rules: number | null;
  /** Node's own options, such as --cpu-prof. */
  readonly nodeOptions: readonly string[];
}

export function sallyport({ name, main, rules, nodeOptions }: OwnOptions): Peer {
  return {
    name,
    install: "npm run build",
    scenarios: SCENARIOS.filter((s) => (rules === null ? s.rules === undefined : s.rules === rules)).map((s) => s.id),
    version: async () => versionBeside(main),
    prepare: async (surroundings) => {
      const { dir, port } = surroundings;
      const policy = join(dir, "policy.yaml");
      writeFileSync(policy, policyText(surroundings, rules));
      const places = ["--data", join(dir, "data"), "--ca", join(dir, "ca"), "--log-level", "warn"];
      const listen = ["--listen", `127.0.0.1:${port}`, "--admin", "127.0.0.1:0"];
      const args = [...nodeOptions, main, "start", "-c", policy, ...listen, ...places];
      return { command: process.execPath, args, caFile: join(dir, "ca", "ca.pem") };
    },
  };
}

function versionBeside(main: string): string | null {
  try {
    const manifest = readFileSync(join(main, "..", "..", "package.json"), "utf8");
    readFileSync(main);
    return (JSON.parse(manifest) as { version: string }).version;
  } catch {
    return null;
  }
}

function policyText({ origin, originCa }: Surroundings, rules: number | null): string {
  const action = rules === null ? "defaults: { action: allow, encoded-slashes: allow }" : "defaults: { action: deny }";
  return `version: 1
server: { connections-per-client: 4096 }
tls: { roots: ["${originCa}"] }
network: { allow: [127.0.0.0/8] }
${action}
rules:
  - id: opaque
    allow: "https://127.0.0.1:${origin.opaque}"
    tunnel: { reason: the benchmark of blind tunnels, without-sni: allow }
${rules === null ? "" : ruleTexts(rules, origin.tls)}`;
}

/** Rules of the usual kinds, about many hosts; the last one is the one that matches. */
function ruleTexts(count: number, port: number): string {
  const kinds = [
    (n: number) => `allow: "GET,HEAD https://api-${n}.example.com/v1/**"`,
    (n: number) => `allow: "https://*.team-${n}.example.org"`,
    (n: number) => `deny: "https://host-${n}.example.net"`,
    (n: number) => `allow: ["POST https://queue-${n}.example.com/items", "GET https://queue-${n}.example.com/**"]`,
  ];
  const others = Array.from({ length: count - 1 }, (_, n) => `  - { id: rule-${n}, ${kinds[n % 4]?.(n)} }\n`);
  return `${others.join("")}  - { id: last, allow: "GET,HEAD https://localhost:${port}/**" }\n`;
}
