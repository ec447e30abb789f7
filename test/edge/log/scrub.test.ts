// Nothing secret and nothing that moves a terminal gets into the log.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Scrubber } from "../../../src/edge/log/scrub.ts";
import { KnownSecrets } from "../../../src/shared/known-secrets.ts";
import { cpuTime } from "../../support/cpu.ts";

const SECRET = 'p@ss/w+rd "1"';

describe("configured secrets", () => {
  const scrubber = new Scrubber(new KnownSecrets([SECRET, "tok", "longer-p@sses", "p@sses"]));
  test.each([
    ["as it is", `x ${SECRET} y`],
    ["percent-encoded", `x ${encodeURIComponent(SECRET)} y`],
    ["in base64", `x ${Buffer.from(SECRET).toString("base64")} y`],
    ["in base64 without padding", `x ${Buffer.from(SECRET).toString("base64").replace(/=+$/, "")} y`],
    ["in JSON", `x ${JSON.stringify({ a: SECRET })} y`],
  ])("%s", (_name, text) => {
    const out = scrubber.text(text);
    expect(out).toContain("[redacted]");
    expect(out).not.toContain("w+rd");
    expect(out).not.toContain("w%2Brd");
  });

  test("the longer of two that overlap goes whole", () => {
    expect(scrubber.text("a longer-p@sses b")).toBe("a [redacted] b");
  });

  test("one of less than six characters does not eat words", () => {
    expect(scrubber.text("stokers")).toBe("stokers");
  });

  test("those of a reload are added, the old ones stay hidden", () => {
    const secrets = new KnownSecrets(["first-secret"]);
    const both = new Scrubber(secrets);
    secrets.add(["second-secret"]);
    expect(both.text("first-secret second-secret")).toBe("[redacted] [redacted]");
  });

  test("property: wherever it stands, in keys, values, nested or in an error, it does not come out", () => {
    const secret = "s3cr3t-v4lue";
    const own = new Scrubber(new KnownSecrets([secret]));
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.integer({ min: 0, max: 4 }), (before, after, depth) => {
        let event: unknown = { [`${before}${secret}`]: 1, text: `${before}${secret}${after}`, e: new Error(secret) };
        for (let i = 0; i < depth; i++) event = { list: [event] };
        expect(JSON.stringify(own.event(event as object))).not.toContain(secret);
      }),
      { numRuns: 300 },
    );
  });
});

describe("what looks like a credential", () => {
  const scrubber = new Scrubber();
  test.each([
    ["authorization", "Bearer abcdefgh"],
    ["Proxy-Authorization", "Basic YTpi"],
    ["cookie", "sid=1"],
    ["set-cookie", "sid=1"],
    ["password", "x"],
    ["passphrase", "x"],
    ["client_secret", "x"],
    ["apiKey", "x"],
    ["x-api-key", "x"],
    ["access_token", "x"],
    ["sessionToken", "x"],
    ["token", "x"],
    ["privateKey", "x"],
  ])("a value under %s", (key, value) => {
    expect(scrubber.event({ a: { [key]: value } })).toEqual({ a: { [key]: "[redacted]" } });
  });

  test.each([
    ["tokens", 3],
    ["keyType", "ec"],
    ["host", "token.example"],
    ["path", "/authorize"],
  ])("but not under %s", (key, value) => {
    expect(scrubber.event({ [key]: value })).toEqual({ [key]: value });
  });

  test.each([
    ["https://user:pw@host/x", "https://[redacted]@host/x"],
    ["GET /a?x=1&access_token=abc&y=2", "GET /a?x=1&access_token=[redacted]&y=2"],
    ["got Bearer abcdef.ghi-jk", "got Bearer [redacted]"],
    ["-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----", "[redacted]"],
  ])("in a text: %j", (text, expected) => {
    expect(scrubber.text(text)).toBe(expected);
  });
});

describe("bounds and terminals", () => {
  const scrubber = new Scrubber();
  test.each([
    ["an escape sequence", "\u001b[2J", "\\u001b[2J"],
    ["a line feed that would forge a line", "a\nINFO all is well", "a\\u000aINFO all is well"],
    ["C1 control", "\u009b1m", "\\u009b1m"],
    ["a bidi override", "a\u202eb", "a\\u202eb"],
    ["a line separator", "a\u2028b", "a\\u2028b"],
  ])("%s is shown, not sent", (_name, text, expected) => {
    expect(scrubber.text(text)).toBe(expected);
  });

  test("cycles, depth, long lists, long texts, bytes and getters are bounded", () => {
    const cycle: Record<string, unknown> = { list: Array.from({ length: 1_000 }, (_, i) => i) };
    cycle.self = cycle;
    cycle.bytes = Buffer.alloc(100_000, 1);
    cycle.text = "x".repeat(1_000_000);
    const out = JSON.stringify(scrubber.event(cycle));
    expect(out.length).toBeLessThan(20_000);
    expect(out).toContain("[100000 bytes]");
  });

  test.each([
    ["letters", "x".repeat(1_000_000)],
    ["query names without a value", `?${"key".repeat(300_000)}`],
    ["many query marks", "?token".repeat(100_000)],
    ["many schemes", "http://a".repeat(100_000)],
    ["spaces after a scheme word", `bearer${" ".repeat(500_000)}`],
    ["half a key", "-----BEGIN A".repeat(50_000)],
  ])("a long text of %s takes linear time", (_name, text) => {
    expect(cpuTime(() => scrubber.text(text))).toBeLessThan(600);
  });

  test("an error keeps its type, code, message, stack lines and cause", () => {
    const error = Object.assign(new TypeError("bad", { cause: new Error("why") }), { code: "E_X" });
    const { error: out } = scrubber.event({ error }) as { error: Record<string, unknown> };
    expect(out).toMatchObject({ type: "TypeError", message: "bad", code: "E_X", cause: { message: "why" } });
    expect(out.stack).toContain("\n");
  });
});
