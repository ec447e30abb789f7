// One entry of a rule's `content:`, as it is written in the policy file.
import { z } from "zod";

const oneOrMore = (what: string) => z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).describe(what);

const place = z.enum(["body", "fields", "query", "path", "host"]);
/** A host name cannot be replaced in: it says where the request goes. */
const changeable = z.enum(["body", "fields", "query", "path"]);

const what = {
  text: oneOrMore(
    "A keyword, or a list of them. Found byte for byte in UTF-8; case matters unless `ignore-case`.",
  ).optional(),
  pattern: oneOrMore(
    "A regular expression in RE2 syntax, or a list of them. Its longest match must be bounded (`{1,200}`, not `+`) and at most `max-match`.",
  ).optional(),
  "media-type": oneOrMore(
    "A media type such as image/png or image/*. Content without one is application/octet-stream.",
  ).optional(),
  extension: oneOrMore("A file name extension such as exe, of the path or of Content-Disposition.").optional(),
  secrets: z
    .literal(true)
    .optional()
    .describe(
      "The configured secrets in every usual encoding, providers' tokens by their format and checksum, and private keys. Default: on requests, everywhere.",
    ),
  "ignore-case": z.boolean().optional().describe("Letters match in either case."),
  in: z
    .union([place, z.array(place).min(1)])
    .optional()
    .describe(
      "Where `text` and `pattern` look. Default: body, fields, query and path. `host` is the name that is asked for, in lower case.",
    ),
  on: z.enum(["request", "response", "both"]).optional().describe("Which direction. Default: both."),
};

const block = z.strictObject({
  ...what,
  status: z.int().min(400).max(599).optional().describe("The status of the refusal. Default: 403."),
  message: z.string().min(1).max(1000).optional().describe("What the refusal says."),
});

const redact = z.strictObject({
  text: what.text,
  pattern: what.pattern,
  "ignore-case": what["ignore-case"],
  in: z
    .union([changeable, z.array(changeable).min(1)])
    .optional()
    .describe("Where it looks. Default: body, fields and query."),
  on: what.on,
  with: z.string().max(1000).optional().describe("What stands in for a match. Default: [redacted]."),
});

const report = z.strictObject(what);

/** One entry of a rule's `content:`: exactly one of `block`, `redact` and `report`. */
export const contentRuleSchema = z.strictObject({
  block: z
    .union([z.literal("secrets"), block])
    .optional()
    .describe(
      "Refuses what matches; `secrets` stands for the configured secrets, known token formats and private keys.",
    ),
  redact: redact.optional().describe("Replaces what matches."),
  report: z
    .union([z.literal("secrets"), report])
    .optional()
    .describe("Lets what matches pass and notes it in the record."),
});

export type ContentRuleInput = z.infer<typeof contentRuleSchema>;
export type Place = z.infer<typeof place>;
