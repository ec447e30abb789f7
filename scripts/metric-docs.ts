// docs/metrics.md: what a scrape shows, from the metrics themselves.
import { PrometheusMetrics } from "../src/edge/admin/metrics.ts";

/** A table of every metric of ours, with its labels. */
export async function metricsMarkdown(): Promise<string> {
  const audit = () => ({ lagRecords: 0, dropped: 0, unavailable: false });
  const metrics = new PrometheusMetrics({ version: "0", process: false, audit });
  const { text } = await metrics.scrape();
  const labels = labelsIn(text, metrics);
  const rows = [...text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \1 (\S+)/gm)].map(
    ([, name = "", help, type]) => `| \`${name}\` | ${type} | ${labels(name)} | ${help} |`,
  );
  return `${HEAD}\n| metric | type | labels | says |\n|---|---|---|---|\n${rows.join("\n")}\n`;
}

function labelsIn(text: string, { registry }: PrometheusMetrics): (name: string) => string {
  const declared = registry.getMetricsAsArray() as readonly { name: string; labelNames?: readonly string[] }[];
  return (name) => {
    const bucket = new RegExp(`^${name}_bucket\\{(.*)\\} `, "m").exec(text)?.[1] ?? "";
    const inText = [...bucket.matchAll(/(\w+)="/g)].map((m) => m[1] as string);
    const names = declared.find((m) => m.name === name)?.labelNames ?? inText;
    return names.map((label) => `\`${label}\``).join(", ") || "–";
  };
}

const HEAD = `# The admin port

\`server.admin\` (\`127.0.0.1:9090\` unless said) answers three questions, and nothing else. It says no secret, and wants no credential:
keep it on loopback or on a network of its own.

* \`/healthz\`: 200 while the process runs.
* \`/readyz\`: 200 when traffic may come, 503 when it must not (draining, the audit log cannot be written, the CA has ended). The
  JSON body lists \`problems\`; one with \`blocks: false\` wants somebody's eye, and traffic is served all the same.
* \`/metrics\`: for Prometheus. Beside what is listed here, the usual figures of a Node.js process.

Anonymous clients and the default rule have the label \`-\`. Names have a bound (200 clients, 200 rules); what comes after is counted
as \`other\`. \`status\` is a class such as \`2xx\`, or \`none\` where the client got no status; \`reason\` is one of [errors.md](errors.md).

This file is generated from \`src/edge/admin/metrics.ts\` by \`npm run docs\`.
`;
