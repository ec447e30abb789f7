// THE LIST of commands. Each one's code is loaded only when it is asked for: `--help` must not wait for the rest.
import type { Command } from "commander";

/** Name, what it does, and how to load it. */
export type CommandEntry = readonly [name: string, summary: string, load: () => Promise<Command>];

/** All commands, in the order of `--help`. `version`: of the program, asked for only when it is needed. */
export const commandList = (version: () => string): readonly CommandEntry[] => [
  ["start", "run the proxy", async () => (await import("./start.ts")).startCommand(version())],
  ["run", "run a command whose traffic comes through the proxy", async () => (await import("./run.ts")).runCommand()],
  ["env", "print the variables that `run` sets", async () => (await import("./env.ts")).envCommand()],
  [
    "wrap-config",
    "let an MCP client start its servers under `run`",
    async () => (await import("./wrap-config.ts")).wrapConfigCommand(),
  ],
  ["ca", "the local CA: init, show, export, rotate", async () => (await import("./ca.ts")).caCommand()],
  ["policy", "check, explain and test policy files", async () => (await import("./policy.ts")).policyCommand()],
  ["audit", "query, follow and verify the audit log", async () => (await import("./audit.ts")).auditCommand()],
  ["token", "sign and read JSON Web Tokens", async () => (await import("./token.ts")).tokenCommand()],
  [
    "doctor",
    "check from inside a child what works and what does not",
    async () => (await import("./doctor.ts")).doctorCommand(),
  ],
];
