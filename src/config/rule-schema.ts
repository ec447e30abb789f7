// The part of the schema that becomes the policy: defaults, rules and their tests.
import { z } from "zod";
import { contentRuleSchema } from "../filters/index.ts";
import { DEFAULT_HOLD, DEFAULT_MAX_MATCH, DEFAULT_SCAN_LIMIT } from "../policy/defaults.ts";
import { listOf, name, section } from "./section.ts";
import { size, sizeOrNone, until, wait, waitOrNone } from "./units.ts";

const limits = section(
  {
    request: sizeOrNone()
      .optional()
      .describe(
        "Bytes of request content; more is answered 413. Default: none. Of a WebSocket: of each message of the client; more closes with 1009. Default there: 16MiB, and never more than 64MiB.",
      ),
    response: sizeOrNone()
      .optional()
      .describe(
        "Bytes of response content; more is answered 502. Default: none. Of a WebSocket: of each message of the origin, as for requests.",
      ),
    headers: size().optional().describe("Bytes of a field section; more is answered 431. Default: 32KiB."),
    url: size().optional().describe("Bytes of the request target; more is answered 414. Default: 16KiB."),
    idle: wait().optional().describe("Time without a byte in either direction. Default: 60s."),
    total: waitOrNone().optional().describe("Time for a whole exchange. Default: none."),
  },
  ["rate", "burst", "bytes", "concurrent"],
).describe("Sizes and times; a limit refuses, it never truncates.");

const edits = {
  set: z
    .record(z.string(), z.string("a field value is text"))
    .optional()
    .describe("Fields that get this value, in place of any they had."),
  append: z
    .record(z.string(), listOf(z.string("a field value is text")))
    .optional()
    .describe("Fields that are added to what is there."),
  remove: z.array(z.string("a field name")).optional().describe("Fields that are taken out."),
};

const headers = section({
  ...edits,
  response: section(edits)
    .optional()
    .describe("The same for the response. In informational ones, remove and set see to fields that are there."),
}).describe("Edits of fields, in the order remove, set, append. `${secret:NAME}` stands for a secret.");

const to = z
  .union([
    z.string("an origin is https://host[:port]").transform((url) => ({ url, host: undefined })),
    section({
      url: z.string().describe("scheme://host[:port] of the origin."),
      host: z
        .enum(["set", "keep"])
        .optional()
        .describe("Host names the new origin, or keeps what the client asked for. Default: set."),
    }),
  ])
  .describe("Another origin: the request is sent there, and the client sees no difference.");

const via = z
  .union([
    z.string("a next proxy is http://host:port").transform((url) => ({
      url,
      username: undefined,
      password: undefined,
      resolve: undefined,
    })),
    section({
      url: z.string().describe("http://host:port or https://host:port."),
      username: z.string().optional().describe("For Basic authentication to the next proxy."),
      password: z.string().optional().describe("Usually ${secret:NAME}."),
      resolve: z
        .enum(["both", "here"])
        .optional()
        .describe(
          "both: the name is resolved and checked here and sent as a name; here: a checked address is sent, IPv4 before IPv6; where the next proxy opens no tunnel to it (5xx, or silence), the next one. Default: both.",
        ),
    }),
  ])
  .describe("The next proxy that the request goes through.");

const redirect = section({
  status: z
    .union([z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)])
    .optional()
    .describe("Default: 308."),
  to: z
    .string("scheme://host[:port][/prefix]")
    .describe("Where the client is told to go; its path and query are appended."),
}).describe("The client is told to go elsewhere.");

const tunnel = section({
  reason: z.string("a tunnel wants a reason").min(1).describe("Why this traffic is not opened. Recorded."),
  "bytes-out": sizeOrNone().optional().describe("Bytes from the client; more ends the tunnel. Default: none."),
  "bytes-in": sizeOrNone().optional().describe("Bytes to the client. Default: none."),
  total: waitOrNone().optional().describe("How long it may last. Default: none."),
  idle: wait().optional().describe("Time without a byte. Default: that of the limits."),
  "without-sni": z.enum(["deny", "allow"]).optional().describe("A ClientHello that names no host. Default: deny."),
}).describe("Not opened: only counted and recorded.");

const record = section({
  fields: z
    .array(z.string())
    .optional()
    .describe("Names of fields whose values are recorded; credentials are always redacted."),
  bodies: size()
    .optional()
    .describe(
      "Bytes of each body that are recorded. Default: none. Not of one in a coding that holds a secret or cannot be read.",
    ),
  query: z.boolean().optional().describe("Query values are recorded as sent. Default: false."),
}).describe("What the record holds beside the digests.");

const patterns = (what: string) =>
  listOf(z.string("a pattern is [METHOD[,METHOD]] [scheme://]host[:port][/path]")).describe(what);

const mode = z.enum(["enforce", "report"]);
const slashes = z
  .enum(["deny", "allow"])
  .describe(
    "Paths with an encoded slash (%2f), which servers read in different ways; npm sends them. With allow, a deny matches either reading and an allow must match both.",
  );

export const ruleSchema = section(
  {
    id: name().describe("Its name: in decisions, records and metrics."),
    who: listOf(name()).optional().describe("Clients that it speaks of. Default: everybody."),
    allow: patterns("What it allows.").optional(),
    deny: patterns("What it denies. A matching deny always wins.").optional(),
    broad: z.boolean().optional().describe("Yes, * or *.com is meant."),
    reason: z.string().max(1000).optional().describe("For people: shown in refusals."),
    mode: mode.optional().describe("report: what a deny or content would refuse is recorded as would-deny and passes."),
    until: until().optional().describe("The last day of report mode (UTC)."),
    "encoded-slashes": slashes.optional(),
    limits: limits.optional(),
    headers: headers.optional(),
    content: z.array(contentRuleSchema).optional().describe("What is looked for in content, and what happens then."),
    to: to.optional(),
    via: via.optional(),
    redirect: redirect.optional(),
    tunnel: tunnel.optional(),
    record: record.optional(),
  },
  ["cache", "rate", "retry", "fault", "tools", "prompts", "resources", "transform", "required-scope"],
);

export const defaultsSchema = section(
  {
    action: z.enum(["deny", "allow"]).default("deny").describe("When no rule matches."),
    mode: mode
      .default("enforce")
      .describe(
        "report: denies, this default and content only report. Never addresses, framing, authentication or limits.",
      ),
    until: until().optional().describe("The last day of report mode (UTC)."),
    limits: limits.prefault({}),
    "on-unscannable": z
      .enum(["deny", "allow"])
      .default("deny")
      .describe("Content that cannot be looked into: an unknown coding, over the scan limit."),
    "encoded-slashes": slashes.default("deny"),
    hold: size()
      .default(DEFAULT_HOLD)
      .describe("A body up to this size waits whole until it is decided. Default: 64KiB."),
    "max-match": size()
      .default(DEFAULT_MAX_MATCH)
      .describe("The longest match; a longer body streams behind a tail of this size. Default: 4KiB."),
    "scan-limit": sizeOrNone()
      .default(DEFAULT_SCAN_LIMIT)
      .describe(
        "Bytes of decoded content that are looked at; more is content that cannot be looked into. Default: none.",
      ),
  },
  ["cache", "retry", "rate"],
).describe("What holds where no rule says otherwise.");

export const testSchema = section(
  {
    as: name().optional().describe("The client that asks. Default: an anonymous one."),
    request: z
      .string("METHOD URL")
      .regex(/^\S+ \S+$/, "a request is METHOD URL")
      .describe("METHOD URL."),
    expect: z
      .enum(["allow", "deny", "would-deny", "tunnel", "intercept"])
      .describe("The decision; for CONNECT host:port also tunnel or intercept."),
    rule: z.union([name(), z.null()]).optional().describe("The rule that must have decided; null: the default."),
  },
  ["tool", "content"],
);
