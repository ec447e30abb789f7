import { describe, expect, it } from "vitest";
import type { ProxyError } from "../../src/shared/errors.ts";
import { contentMessages, type MessageFilter } from "../../src/stages/content-messages.ts";
import { exchange, type Setup } from "./content-harness.ts";

const KEYWORD = "malicious_pattern";

/** What goes on of the message, after all of its pieces. */
function taken(filter: MessageFilter | null, message: Buffer): Uint8Array | undefined {
  const pieces = filter?.take(message);
  for (let piece = pieces?.next(); piece !== undefined; piece = pieces?.next())
    if (piece.done === true) return piece.value;
  return undefined;
}

/** What went on of each message, until one was blocked. */
function relay(setup: Setup, messages: string[]) {
  const x = exchange(setup);
  const filter = contentMessages(x, "request");
  const out: string[] = [];
  try {
    for (const message of messages) out.push(Buffer.from(taken(filter, Buffer.from(message)) ?? message).toString());
  } catch (error) {
    return { x, out, reason: (error as ProxyError).reason };
  }
  return { x, out, reason: null };
}

const block = { block: { text: KEYWORD } };
const redact = { redact: { pattern: "\\b\\d{3}-\\d{2}-\\d{4}\\b", with: "***" } };

describe("messages", () => {
  it("pass as they are when nothing matches", () => {
    const x = exchange({ rules: [block, redact] });
    const message = Buffer.from("hello");
    expect(taken(contentMessages(x, "request"), message)).toBe(message);
  });

  it("are blocked whole", () => {
    expect(relay({ rules: [block] }, ["a", `b ${KEYWORD} c`, "d"])).toMatchObject({
      out: ["a"],
      reason: "content-blocked",
    });
  });

  it("are blocked at the second when a match goes across two", () => {
    const { out, reason } = relay({ rules: [block] }, ["a malicious", "_pattern b"]);
    expect([out, reason]).toEqual([["a malicious"], "content-blocked"]);
  });

  it("are replaced in, each by itself, and not across", () => {
    const { out } = relay({ rules: [redact] }, [
      "x 123-45-6789",
      "123-45-6789 y",
      "",
      "plain",
      "1 123-45-6789 2 123-45-6789",
    ]);
    expect(out).toEqual(["x ***", "*** y", "", "plain", "1 *** 2 ***"]);
    expect(relay({ rules: [redact] }, ["x 123-45", "-6789 "])).toMatchObject({
      out: ["x 123-45"],
      reason: "content-blocked",
    });
  });

  it("that follow one that was replaced at its end pass", () => {
    const address = "[a-z]{1,20}@[a-z]{1,20}\\.[a-z]{2,10}";
    const rule = { redact: { pattern: address } };
    expect(relay({ rules: [rule] }, ["mail bob@example.com", "thanks"])).toMatchObject({
      out: ["mail [redacted]", "thanks"],
      reason: null,
    });
    const filler = "x ".repeat(500);
    expect(relay({ rules: [rule] }, [`${filler}bob@example.com`, "", "thanks"])).toMatchObject({
      out: [`${filler}[redacted]`, "", "thanks"],
      reason: null,
    });
  });

  it("are blocked all the same when what follows a match goes across", () => {
    const address = "[a-z]{1,20}@[a-z]{1,20}\\.[a-z]{2,10}";
    const rules = [{ redact: { pattern: address } }, { block: { text: "com malicious" } }];
    for (const [messages, out] of [
      [
        ["a bob@example.com eve@exam", "", "ple.com"],
        ["a [redacted] eve@exam", ""],
      ],
      [["bob@example.com", " malicious"], ["[redacted]"]],
      [[`${"x ".repeat(500)}bob@example.com mal`, "icious"], null],
    ] as const) {
      const got = relay({ rules }, [...messages]);
      expect(got.reason).toBe("content-blocked");
      if (out !== null) expect(got.out).toEqual(out);
    }
  });

  it("are noted by report and in report mode", () => {
    for (const setup of [
      { rules: [{ report: { text: KEYWORD } }] },
      { rules: [block, redact], mode: "report" as const },
    ]) {
      const { x, out } = relay(setup, [KEYWORD, KEYWORD, "1 123-45-6789 2"]);
      expect(out).toEqual([KEYWORD, KEYWORD, "1 123-45-6789 2"]);
      expect(x.notes?.[0]).toBe("content-reported:r1:content[0]:request");
    }
  });

  it("count by themselves for the scan limit", () => {
    expect(
      relay(
        { rules: [block], scanLimit: 10 },
        Array.from({ length: 50 }, () => "0123456789"),
      ).reason,
    ).toBe(null);
    expect(relay({ rules: [block], scanLimit: 10 }, ["0123456789", "0123456789a"]).reason).toBe("content-blocked");
    const allowed = relay({ rules: [block], scanLimit: 10, onUnscannable: "allow" }, ["0123456789a", "b"]);
    expect([allowed.out, allowed.reason]).toEqual([["0123456789a", "b"], null]);
  });

  it("have no filter where no rule looks at them", () => {
    expect(contentMessages(exchange({ rules: [{ block: { text: "x", on: "request" } }] }), "response")).toBe(null);
    expect(contentMessages(exchange({ rules: [{ block: { text: "x", in: "query" } }] }), "request")).toBe(null);
  });

  it("are not slipped in pings, pongs and close frames", () => {
    const control = (setup: Setup, text: string) =>
      contentMessages(exchange(setup), "request")?.control(Buffer.from(text));
    expect(() => control({ rules: [block] }, `a ${KEYWORD}`)).toThrow(/control frames/);
    expect(() => control({ rules: [redact] }, "1 123-45-6789 2")).toThrow(/control frames/);
    control({ rules: [block, redact] }, "");
    control({ rules: [block, redact] }, "hello");
    const x = exchange({ rules: [{ report: { text: KEYWORD } }] });
    contentMessages(x, "request")?.control(Buffer.from(KEYWORD));
    expect(x.notes).toEqual(["content-reported:r1:content[0]:request"]);
  });

  it("are taken in pieces, with the same result wherever a match stands", () => {
    const filter = () => contentMessages(exchange({ rules: [block, redact] }), "request");
    for (const size of [33 * 1024, 65 * 1024, 100_000, 300_000])
      for (const at of [0, 32 * 1024 - 5, Math.min(64 * 1024 - 5, size - 20), size - 20]) {
        const message = Buffer.alloc(size, "x ");
        message.write(` ${"123-45-6789"} `, at);
        const expected = message.toString().replace("123-45-6789", "***");
        expect(Buffer.from(taken(filter(), message) ?? "").toString() === expected).toBe(true);
        message.write(KEYWORD, at);
        expect(() => taken(filter(), message)).toThrow(/content/);
      }
    const steps = [...(filter()?.take(Buffer.alloc(1024 * 1024, "x ")) ?? [])];
    expect(steps.length).toBeGreaterThan(20);
  });

  it("with many replacements hold little more than the message", () => {
    const filter = contentMessages(exchange({ rules: [{ redact: { text: "aa", with: "bb" } }] }), "request");
    const before = process.memoryUsage().heapUsed;
    let peak = before;
    const pieces = filter?.take(Buffer.alloc(8 * 1024 * 1024, "a"));
    let out: Uint8Array = Buffer.alloc(0);
    for (let piece = pieces?.next(); piece !== undefined; piece = pieces?.next()) {
      peak = Math.max(peak, process.memoryUsage().heapUsed);
      if (piece.done !== true) continue;
      out = piece.value;
      break;
    }
    expect(Buffer.from(out).equals(Buffer.alloc(8 * 1024 * 1024, "b"))).toBe(true);
    // An object for each of four million matches would have more than 200 MiB.
    expect(peak - before).toBeLessThan(100 * 1024 * 1024);
  });

  it("do not pile up", () => {
    const filter = contentMessages(exchange({ rules: [block, redact] }), "request");
    const message = Buffer.alloc(65536, "x");
    // 4,000 messages are 256 MiB.
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 4000; i++) taken(filter, message);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(128 * 1024 * 1024);
  });
});
