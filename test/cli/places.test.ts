// Commands find the house where `start` puts it.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findPlaces, type PlaceOptions } from "../../src/cli/places.ts";
import { loadConfig } from "../../src/config/load.ts";

let folder: string;
const before = process.cwd();

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "sallyport-places-")));
  mkdirSync(join(folder, "sub"));
  const text = (data: string) => `version: 1\nserver: { data: ${data}, ca: ./my-ca }\n`;
  writeFileSync(join(folder, "sub", "named.yaml"), text("./named"));
  process.chdir(folder);
});

afterEach(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

const withOwn = () => writeFileSync(join(folder, "sallyport.yaml"), "version: 1\nserver: { data: ./own }\n");

test.each<[string, PlaceOptions, Record<string, string>, boolean]>([
  ["nothing said", {}, {}, false],
  ["a sallyport.yaml that merely lies there is not read: it could name commands to run", {}, {}, true],
  ["a file in another folder", { config: ["sub/named.yaml"] }, {}, true],
  ["a file in the environment", {}, { SALLYPORT_CONFIG: "sub/named.yaml" }, true],
  ["a variable beats the file", { config: ["sub/named.yaml"] }, { SALLYPORT_DATA: "d", SALLYPORT_CA: "c" }, false],
  ["a flag beats both", { config: ["sub/named.yaml"], data: "flag", ca: "/abs" }, { SALLYPORT_DATA: "d" }, false],
])("%s: the folders that start uses", async (_name, options, env, own) => {
  if (own) withOwn();
  const { config, ...flags } = options;
  const { server } = await loadConfig({ files: config ?? [], env, flags });
  const { data, ca } = findPlaces(options, env);
  expect({ data, ca }).toEqual({ data: server.data, ca: server.ca });
});
