import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { EMPTY_SHA256 } from "../../src/audit/record.ts";
import type { AuditSink } from "../../src/audit/sink.ts";
import { type ConnectionFacts, Exchange } from "../../src/exchange/exchange.ts";
import type { Stage } from "../../src/exchange/stage.ts";
import type { RequestHead } from "../../src/http/messages.ts";
import type { Decision, Plan, Policy, RecordPlan } from "../../src/policy/types.ts";
import { ProxyError, type Reason } from "../../src/shared/errors.ts";
import { KnownSecrets } from "../../src/shared/known-secrets.ts";
import { auditStage } from "../../src/stages/audit.ts";

const sha = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** A sink in memory: the port, implemented. */
class ListSink implements AuditSink {
  unavailable: string | null = null;
  readonly records: AuditRecord[] = [];
  append(record: AuditRecord, released?: (written: boolean) => void): void {
    this.records.push(structuredClone(record));
    released?.(this.unavailable === null);
  }
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

const CONNECTION: ConnectionFacts = {
  clientAddress: "127.0.0.1",
  clientPort: 5,
  assignedClient: null,
  trusted: false,
  clientCertificate: null,
  connect: null,
};

const plan = (record: Partial<RecordPlan>): Plan => ({
  limits: { request: 1, response: 1, headers: 1, url: 1, idle: 1, total: 1 },
  requestEdits: [],
  responseEdits: [],
  content: null,
  to: null,
  via: null,
  redirect: null,
  record: { fields: [], bodies: 0, query: false, ...record },
});

const decision = (changes: Partial<Decision> = {}, record: Partial<RecordPlan> = {}): Decision => ({
  allowed: true,
  outcome: "allow",
  rule: "r",
  reason: null,
  message: "",
  plan: plan(record),
  ...changes,
});

const POLICY: Policy = {
  version: "0",
  defaults: plan({}),
  decide: () => decision(),
  decideConnect: () => ({
    kind: "refuse",
    outcome: "deny",
    rule: null,
    reason: null,
    message: "",
    tunnel: null,
    opaque: null,
    plan: plan({}),
  }),
};

function anExchange(changes: Partial<RequestHead> = {}, length = 0): Exchange {
  const head: RequestHead = {
    method: "POST",
    scheme: "https",
    host: "a.example",
    port: 443,
    path: "/p?k=v",
    version: "1.1",
    fields: ["Host", "a.example"],
    ...changes,
  };
  return new Exchange("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_000, 10, CONNECTION, POLICY, head, length);
}

function aStage(secrets: readonly string[] = []): {
  sink: ListSink;
  stage: Required<Pick<Stage, "onRequest" | "requestTap" | "responseTap" | "onComplete">>;
} {
  const sink = new ListSink();
  const stage = auditStage({ sink, secrets: new KnownSecrets(secrets) });
  return { sink, stage: stage as never };
}

const ok = { status: 200, phrase: "OK", fields: ["Set-Cookie", "id=1", "X-A", "b"] };

test("any split of a body gives the same bytes and digest", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.array(fc.nat(), { maxLength: 6 }), (body, cuts) => {
      const { sink, stage } = aStage();
      const x = anExchange({}, body.length);
      const tap = stage.requestTap(x);
      const edges = [0, ...cuts.map((c) => c % (body.length + 1)).sort((a, b) => a - b), body.length];
      const whole = edges.length === 2;
      for (let i = 1; i < edges.length; i++) {
        const chunk = body.slice(edges[i - 1], edges[i]);
        tap?.push(chunk, whole);
        chunk.fill(0);
      }
      tap?.end();
      stage.onComplete(x);
      expect(sink.records[0]?.sent).toEqual({ bytes: body.length, sha256: sha(body), complete: true });
    }),
  );
});

test("a body that broke has bytes and digest so far, and is not complete", () => {
  const { sink, stage } = aStage();
  const x = anExchange();
  x.decision = decision();
  x.response = ok;
  stage.responseTap(x, ok)?.push(Buffer.from("half"), false);
  x.failure = new ProxyError("origin-incomplete");
  stage.onComplete(x);
  expect(sink.records[0]).toMatchObject({
    decision: "allow",
    reason: "origin-incomplete",
    received: { bytes: 4, sha256: sha("half"), complete: false },
    sent: { bytes: 0, sha256: EMPTY_SHA256, complete: true },
  });
});

test("content that was announced and never read is not complete", () => {
  const { sink, stage } = aStage();
  stage.onComplete(anExchange({}, -1));
  expect(sink.records[0]?.sent).toEqual({ bytes: 0, sha256: EMPTY_SHA256, complete: false });
});

test("whole parts of a form are digested", () => {
  const { sink, stage } = aStage();
  const x = anExchange({ fields: ["Content-Type", "multipart/form-data; boundary=b"] }, 40);
  const tap = stage.requestTap(x);
  tap?.push(Buffer.from("--b\r\n\r\nfile\r\n--b--\r\n"), true);
  tap?.end();
  stage.onComplete(x);
  expect(sink.records[0]?.sent.parts).toEqual([sha("file")]);
});

test("what a rule asks for is recorded, and never a credential, a secret or a query value", () => {
  const { sink, stage } = aStage(["s3cret"]);
  const fields = ["Authorization", "Bearer x", "X-Note", "the s3cret", "X-Other", "1"];
  const x = anExchange({ fields, path: "/s3cret/p?k=v&t=s3cret" }, 6);
  x.decision = decision({}, { fields: ["authorization", "x-note", "set-cookie", "x-a"], bodies: 4 });
  x.response = ok;
  const tap = stage.requestTap(x);
  tap?.push(Buffer.from("abcdef"), true);
  tap?.end();
  stage.onComplete(x);
  const record = sink.records[0] as AuditRecord;
  expect(record.path).toBe("/[redacted]/p?k=[redacted]&t=[redacted]");
  expect(record.requestFields).toEqual(["Authorization", "[redacted]", "X-Note", "the [redacted]"]);
  expect(record.responseFields).toEqual(["Set-Cookie", "[redacted]", "X-A", "b"]);
  expect(record.requestBody).toEqual({ base64: Buffer.from("abcd").toString("base64"), whole: false });
});

test.each<[Reason | null, Partial<Decision> | null, string]>([
  [null, {}, "allow"],
  [null, { outcome: "would-deny" }, "would-deny"],
  ["not-allowed", { allowed: false, outcome: "deny" }, "deny"],
  ["malformed-request", null, "deny"],
  ["content-blocked", {}, "deny"],
  ["request-too-large", {}, "deny"],
  ["address-prohibited", {}, "deny"],
  ["origin-timeout", {}, "allow"],
  ["client-gone", {}, "allow"],
  ["internal", {}, "deny"],
])("a failure of %s under the decision %j is recorded as %s", (reason, made, wanted) => {
  const { sink, stage } = aStage();
  const x = anExchange();
  x.decision = made === null ? null : decision(made);
  x.failure = reason === null ? null : new ProxyError(reason);
  stage.onComplete(x);
  expect(sink.records[0]).toMatchObject({ decision: wanted, reason });
});

test("while the log takes nothing requests are refused, and the refusal itself gets out", () => {
  const { sink, stage } = aStage();
  sink.unavailable = "disk full";
  const x = anExchange();
  expect(() => stage.onRequest(x)).toThrow(ProxyError);
  const told: boolean[] = [];
  x.onRecorded = (written) => told.push(written);
  x.failure = new ProxyError("audit-unavailable");
  stage.onComplete(x);
  expect(told).toEqual([true]);
  x.failure = null;
  stage.onComplete(x);
  expect(told).toEqual([true, false]);
});
