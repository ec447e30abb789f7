import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { configMarkdown, policyJsonSchema } from "../../src/config/describe.ts";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

describe("describe", () => {
  it("yields a JSON Schema that fits the policies we ship, and not a misspelt one", () => {
    const validate = new Ajv({ strict: false }).compile(policyJsonSchema());
    for (const file of [
      "observe",
      "strict",
      "examples/company",
      "examples/mcp-server",
      "examples/traffic-redirection",
    ]) {
      validate(parse(read(`policies/${file}.yaml`)));
      expect(validate.errors, file).toBeNull();
    }
    expect(validate({ version: 1, rulez: [] })).toBe(false);
  });
  it("gives every setting a meaning", () => {
    const bare = configMarkdown()
      .split("\n")
      .filter((line) => /^\| `/.test(line) && / \|\s*\|$/.test(line));
    expect(bare).toEqual([]);
  });
  it("agrees with the generated files", () => {
    expect(read("docs/config.md")).toBe(configMarkdown());
    expect(JSON.parse(read("policies/policy.schema.json"))).toEqual(JSON.parse(JSON.stringify(policyJsonSchema())));
  });
});
