// The documents that follow from the code, as texts by path.

import { configMarkdown, policyJsonSchema } from "../src/config/describe.ts";
import { type Party, REASONS, type ReasonSpec } from "../src/shared/errors.ts";
import { commandsMarkdown } from "./command-docs.ts";
import { metricsMarkdown } from "./metric-docs.ts";

/** Path in the repository to text. */
export async function generatedDocs(): Promise<Record<string, string>> {
  return {
    "docs/errors.md": errorsMarkdown(),
    "docs/config.md": ending(configMarkdown()),
    "docs/commands.md": ending(await commandsMarkdown()),
    "docs/metrics.md": ending(await metricsMarkdown()),
    "policies/policy.schema.json": ending(JSON.stringify(policyJsonSchema(), null, 2)),
  };
}

const PARTIES: Readonly<Record<Party, string>> = {
  client: "The client",
  policy: "The policy",
  origin: "The origin",
  proxy: "The proxy",
};

function errorsMarkdown(): string {
  const rows = Object.entries(REASONS) as [string, ReasonSpec][];
  const tables = (Object.keys(PARTIES) as Party[]).map((party) => {
    const own = rows.filter(([, spec]) => spec.party === party);
    const lines = own.map(
      ([reason, { status, error, means }]) =>
        `| \`${reason}\` | ${status ?? "–"} | ${error === null ? "–" : `\`${error}\``} | ${means} |`,
    );
    return `## ${PARTIES[party]}\n\n| reason | status | \`Proxy-Status\` error | means |\n|---|--:|---|---|\n${lines.join("\n")}\n`;
  });
  return `# Why a request was refused or failed

The reason stands in \`Proxy-Status\` (RFC 9209), in \`x-sallyport-decision\`, in the JSON body, in the log, in \`sallyport_failures_total\` and in the audit log. \`sallyport audit show ID\` tells the rest. A dash: no response can be sent, and the reason is in the audit log only.

This file is generated from \`src/shared/errors.ts\` by \`npm run docs\`.

${tables.join("\n")}`;
}

const ending = (text: string): string => `${text.trimEnd()}\n`;
