// Every setting, once: type, default, help. Validation, documentation and the JSON Schema follow from here.
import { z } from "zod";
import type { PolicyDocument } from "../policy/document.ts";
import { defaultsSchema, ruleSchema, testSchema } from "./rule-schema.ts";
import { name, section } from "./section.ts";
import { auditSchema, clientSchema, networkSchema, secretSchema, serverSchema, tlsSchema } from "./server-schema.ts";

export const configSchema = section(
  {
    version: z.literal(1, "the version of this format is 1").describe("The version of this format."),
    include: z
      .array(z.string("the path of a file").min(1))
      .default([])
      .describe(
        "Further files, in order, after this one; seen from the folder of this file. One namespace: a repeated name is an error.",
      ),
    server: serverSchema.prefault({}),
    defaults: defaultsSchema.prefault({}),
    audit: auditSchema.prefault({}),
    tls: tlsSchema.prefault({}),
    network: networkSchema.prefault({}),
    clients: z.record(name(), clientSchema).default({}).describe("Who is speaking: the first that matches."),
    secrets: z
      .record(name(), secretSchema)
      .default({})
      .describe("Values that ${secret:NAME} stands for. Never printed, logged or recorded."),
    rules: z
      .array(ruleSchema)
      .max(10_000)
      .default([])
      .describe(
        "What is allowed and denied. A matching deny always wins; otherwise the first matching allow; otherwise the default.",
      ),
    tests: z
      .array(testSchema)
      .max(10_000)
      .default([])
      .describe("Requests with the decision they must get: run by `policy test` and before every reload."),
  },
  ["origins", "mcp", "cache", "tunnels"],
);

/** The whole document after validation. */
export type ConfigDocument = z.output<typeof configSchema>;

/** The part of the document that becomes the policy. */
export const policyPart = (document: ConfigDocument): PolicyDocument => ({
  defaults: document.defaults,
  rules: document.rules,
  clients: Object.keys(document.clients),
});
