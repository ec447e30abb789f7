// Configuration files of peers: `@NAME@` stands for a value.
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Fills in a template of this folder and writes it; gives its path. Throws when a value is missing. */
export function writeFromTemplate(template: string, path: string, values: Readonly<Record<string, string>>): string {
  const text = readFileSync(join(import.meta.dirname, template), "utf8");
  const filled = text.replace(/@([A-Z_]+)@/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${template} wants ${name}`);
    return value;
  });
  writeFileSync(path, filled);
  chmodSync(path, 0o644);
  return path;
}
