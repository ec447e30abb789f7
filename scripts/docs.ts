// npm run docs: writes the documents that follow from the code. test/docs.test.ts fails when they differ.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { generatedDocs } from "./generated-docs.ts";

const root = join(import.meta.dirname, "..");
for (const [path, text] of Object.entries(await generatedDocs())) {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
  console.error(`docs: wrote ${path}`);
}
