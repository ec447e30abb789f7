// Any record that the types allow.
import fc from "fast-check";
import type { AuditRecord } from "../../src/audit/record.ts";
import { newId } from "../../src/shared/ids.ts";

const sha = fc.stringMatching(/^[0-9a-f]{64}$/);
const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }));
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const bytes = fc.nat(2 ** 40);
const ms = fc.nat(1_000_000).map((n) => n / 100);
const body = fc.record(
  {
    bytes,
    sha256: sha,
    complete: fc.boolean(),
    decoded: fc.record({ bytes, sha256: sha }),
    parts: fc.array(sha, { maxLength: 3 }),
    messages: fc.nat(1_000_000),
  },
  { requiredKeys: ["bytes", "sha256", "complete"] },
);
const captured = fc.record({ base64: fc.base64String(), whole: fc.boolean() });
export const anyRecord = fc.record(
  {
    id: fc.oneof(
      fc.nat(2 ** 45).map((at) => newId(at)),
      text,
    ),
    parent: maybe(fc.nat(2 ** 45).map((at) => newId(at))),
    at: fc.nat(2 ** 45),
    kind: fc.constantFrom("connect", "exchange", "connection", "upgrade"),
    client: maybe(text),
    address: text,
    decision: fc.constantFrom("allow", "deny", "would-deny"),
    rule: maybe(text),
    reason: maybe(fc.constantFrom("not-allowed", "origin-timeout", "busy")),
    method: maybe(text),
    scheme: maybe(fc.constantFrom("http", "https")),
    host: maybe(text),
    port: maybe(fc.nat(65535)),
    path: maybe(text),
    status: maybe(fc.integer({ min: 100, max: 599 })),
    sent: body,
    received: body,
    timings: fc.record({
      wait: maybe(ms),
      dns: maybe(ms),
      connect: maybe(ms),
      tls: maybe(ms),
      firstByte: maybe(ms),
      total: ms,
    }),
    origin: maybe(
      fc.record({
        address: maybe(text),
        port: fc.nat(65535),
        tls: maybe(text),
        fingerprint: maybe(sha),
        resolvedBy: fc.constantFrom("here", "next-proxy"),
        to: maybe(text),
        via: maybe(text),
      }),
    ),
    clientProtocol: maybe(text),
    originProtocol: maybe(text),
    sni: maybe(text),
    uninspected: fc.boolean(),
    notes: fc.array(text, { maxLength: 3 }),
    error: maybe(text),
    requestFields: fc.array(text, { maxLength: 4 }),
    responseFields: fc.array(text, { maxLength: 4 }),
    requestBody: captured,
    responseBody: captured,
  },
  {
    requiredKeys: [
      "id",
      "parent",
      "at",
      "kind",
      "client",
      "address",
      "decision",
      "rule",
      "reason",
      "method",
      "scheme",
      "host",
      "port",
      "path",
      "status",
      "sent",
      "received",
      "timings",
      "origin",
      "clientProtocol",
      "originProtocol",
      "sni",
      "uninspected",
      "notes",
      "error",
    ],
  },
) as fc.Arbitrary<AuditRecord>;
