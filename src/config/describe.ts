// The schema as documentation: a table of every setting, and the JSON Schema for editors.
import { z } from "zod";
import { configSchema } from "./schema.ts";

type Schema = {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly required?: readonly string[];
};

/** The JSON Schema (draft 7) of a policy file. */
export function policyJsonSchema(): object {
  const schema = z.toJSONSchema(configSchema, { target: "draft-7", io: "input", unrepresentable: "any" });
  return { ...schema, title: "Sallyport policy file" };
}

/** `docs/config.md`: every setting with its values, its default and what it means. */
export function configMarkdown(): string {
  const rows: string[] = [];
  walk(policyJsonSchema() as Schema, "", rows);
  return [
    "# Configuration",
    "",
    "Generated from `src/config/schema.ts` by `npm run docs`. One YAML (or JSON) file, or several by `include`.",
    "Flags beat the environment (`SALLYPORT_CONFIG`, `_LISTEN`, `_ADMIN`, `_DATA`, `_CA`), which beats the file.",
    "`${env:NAME}`, `${file:PATH}` and `${secret:NAME}` stand for values from outside; `$${` stands for `${` itself.",
    "Paths are seen from the folder of the file that holds them; `server.data` and `server.ca` from the working directory.",
    "",
    "| key | value | default | meaning |",
    "|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

function walk(schema: Schema, path: string, rows: string[]): void {
  // The items of a list stand under the list's own row.
  if (path !== "" && !path.endsWith("[]")) rows.push(row(schema, path));
  const parts = [schema, ...(schema.anyOf ?? [])];
  const seen = new Set<string>();
  for (const part of parts) {
    for (const [key, child] of Object.entries(part.properties ?? {})) {
      if (!seen.has(key)) walk(child, path === "" ? key : `${path}.${key}`, rows);
      seen.add(key);
    }
    const { additionalProperties: extra, items } = part;
    if (typeof extra === "object" && hasKeys(extra)) walk(extra, `${path}.NAME`, rows);
    if (items !== undefined && hasKeys(items)) walk(items, `${path}[]`, rows);
  }
}

const hasKeys = (schema: Schema): boolean =>
  schema.properties !== undefined || (schema.anyOf?.some((s) => s.properties !== undefined) ?? false);

function row(schema: Schema, path: string): string {
  const fallback = schema.default;
  const shown = fallback === undefined || typeof fallback === "object" ? "" : `\`${String(fallback)}\``;
  return `| \`${path}\` | ${cell(valueText(schema))} | ${shown} | ${cell(schema.description ?? "")} |`;
}

function valueText(schema: Schema): string {
  if (schema.const !== undefined) return `\`${String(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((v) => `\`${String(v)}\``).join(" ");
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(valueText))].join(" or ");
  if (schema.type === "array") return `list of ${schema.items === undefined ? "values" : valueText(schema.items)}`;
  if (schema.type === "object") return schema.properties === undefined ? "map" : "section";
  return schema.type === "string" ? "text" : String(schema.type ?? "value");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
