// Generated requests and responses, well formed, through our engine and through the reference.
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { type OriginScript, origins } from "../support/origin.ts";
import {
  type CaseRequest,
  closeComparisons,
  compareWithReference,
  observeBoth,
  type ReferenceCase,
  WAYS,
} from "./compare.ts";

const RUNS = Number(process.env.REFERENCE_RUNS ?? 80);
afterAll(closeComparisons);

const ALLOW = "defaults: { action: allow }\n";
const both = 'allow: ["http://127.0.0.1:PORT", "https://127.0.0.1:PORT"]';
const POLICIES = [
  ALLOW,
  `${ALLOW}rules:\n  - { id: block, ${both}, content: [{ block: { text: forbidden } }] }\n`,
  `${ALLOW}rules:\n  - { id: redact, ${both}, content: [{ redact: { text: secret } }] }\n`,
  `${ALLOW}rules:\n  - { id: edit, ${both}, headers: { set: { x-set: "1" }, append: { x-a: [z] }, remove: [x-c], response: { set: { x-a: r } } } }\n`,
  `${ALLOW}rules:\n  - { id: closed, deny: ["POST,PUT http://127.0.0.1:PORT", "POST,PUT https://127.0.0.1:PORT"] }\n`,
];

const name = fc.constantFrom("X-A", "x-a", "X-C", "X-Request-Id", "Accept", "User-Agent", "Cookie", "Cache-Control");
const value = fc.stringMatching(/^[!-~](?:[ -~]{0,40}[!-~])?$/);
const fields = fc.array(
  fc.tuple(name, value).map(([n, v]) => `${n}: ${v}`),
  { maxLength: 6 },
);
const words = fc.array(fc.constantFrom("word", "secret", "forbidden", " ", "\n", "{}", "é", "0123456789"), {
  maxLength: 40,
});
const path = fc
  .array(
    fc.stringMatching(/^[a-z0-9._~-]{1,8}$/).filter((s) => !/^\.+$/.test(s)),
    { maxLength: 3 },
  )
  .chain((parts) => fc.constantFrom(`/${parts.join("/")}`, `/${parts.join("/")}?a=1&b=%20`));

const latin1 = (text: string): string => Buffer.from(text).toString("latin1");
/** The content in chunks, one for each word. */
const chunked = (parts: readonly string[]): string =>
  `${parts.map((p) => `${p.length.toString(16)}\r\n${p}\r\n`).join("")}0\r\n\r\n`;

const request: fc.Arbitrary<CaseRequest> = fc
  .record({
    method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    path,
    fields,
    words,
    framing: fc.constantFrom("none", "length", "chunked"),
  })
  .map(({ words: parts, framing, ...head }) => {
    const pieces = parts.map(latin1);
    const bodiless = framing === "none" || head.method === "GET" || head.method === "HEAD" || head.method === "OPTIONS";
    if (bodiless) return { ...head, body: "" };
    const body = pieces.join("");
    return framing === "length"
      ? { ...head, fields: [...head.fields, `Content-Length: ${body.length}`], body }
      : { ...head, fields: [...head.fields, "Transfer-Encoding: chunked"], body: chunked(pieces) };
  });

const response: fc.Arbitrary<string> = fc
  .record({
    status: fc.constantFrom(
      "200 OK",
      "201 Created",
      "204 No Content",
      "206 Partial Content",
      "301 Moved",
      "404 Nope",
      "503 ",
    ),
    fields,
    words,
    framing: fc.constantFrom("length", "chunked"),
    type: fc.constantFrom("text/plain; charset=utf-8", "application/json", "image/png"),
  })
  .map(({ status, fields: lines, words: parts, framing, type }) => {
    const pieces = parts.map(latin1);
    const content = pieces.join("");
    const head = [`HTTP/1.1 ${status}`, ...lines, `Content-Type: ${type}`];
    if (status.startsWith("204")) return `${head.join("\r\n")}\r\n\r\n`;
    return framing === "length"
      ? `${[...head, `Content-Length: ${content.length}`].join("\r\n")}\r\n\r\n${content}`
      : `${[...head, "Transfer-Encoding: chunked"].join("\r\n")}\r\n\r\n${chunked(pieces)}`;
  });

/** Answers when the request is whole, so that nothing is answered early. HEAD gets the head alone. */
const whenWhole = (text: string): OriginScript => {
  /** Bytes of a connection that were answered. */
  const answered = new WeakMap<object, number>();
  /** The end of a chunked body runs the script as well: one run at a time. */
  const running = new WeakSet<object>();
  return async (conversation) => {
    const from = answered.get(conversation) ?? 0;
    if (running.has(conversation) || conversation.bytes.length === from) return;
    running.add(conversation);
    const got = () => conversation.bytes.toString("latin1", from);
    while (!isWhole(got())) {
      if (conversation.closed) return;
      await new Promise((done) => setTimeout(done, 1));
    }
    answered.set(conversation, conversation.bytes.length);
    running.delete(conversation);
    const head = text.slice(0, text.indexOf("\r\n\r\n") + 4);
    conversation.socket.write(Buffer.from(got().startsWith("HEAD ") ? head : text, "latin1"));
  };
};

function isWhole(got: string): boolean {
  const end = got.indexOf("\r\n\r\n");
  const head = got.slice(0, end).toLowerCase();
  if (head.includes("\r\ntransfer-encoding: chunked")) return got.endsWith("0\r\n\r\n");
  return got.length >= end + 4 + Number(/\r\ncontent-length: (\d+)/.exec(head)?.[1] ?? 0);
}

const generated: fc.Arbitrary<ReferenceCase> = fc
  .record({
    requests: fc.array(request, { minLength: 1, maxLength: 3 }),
    response,
    policy: fc.constantFrom(...POLICIES),
    way: fc.constantFrom(...WAYS),
  })
  .map(({ requests, response: text, policy, way }) => ({
    name: `${requests.map((r) => r.method).join(", ")} ${way}`,
    requests,
    origin: whenWhole(text),
    policy,
    way,
  }));

test("our engine and the reference agree on generated exchanges", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(generated, async (c) => {
      const seen = await compareWithReference(c);
      expect(seen.records.length).toBe(c.requests.length);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

test("a difference is found", async () => {
  let answers = 0;
  const origin: OriginScript = (...c) => origins.text(`answer ${++answers}`)(...c);
  const c: ReferenceCase = { name: "differs", requests: [{ method: "GET", path: "/" }], origin };
  await expect(compareWithReference(c)).rejects.toThrow(/differs/);
  const { ours, reference } = await observeBoth(c);
  expect(ours.client).not.toEqual(reference.client);
});
