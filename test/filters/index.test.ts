import { describe, expect, it } from "vitest";
import { type ContentOptions, ContentRuleError, compileContent, contentRuleSchema } from "../../src/filters/index.ts";

const compile = (rules: unknown[], options: ContentOptions = {}) =>
  compileContent(
    rules.map((rule) => contentRuleSchema.parse(rule)),
    options,
  );

const problems = (rules: unknown[], options: ContentOptions = {}) => {
  try {
    compile(rules, options);
  } catch (error) {
    if (error instanceof ContentRuleError) return error.problems;
    throw error;
  }
  return [];
};

describe("the schema refuses", () => {
  it.each([
    ["an unknown key", { block: { text: "x", where: "body" } }],
    ["an unknown place", { block: { text: "x", in: "cookie" } }],
    ["an empty keyword", { block: { text: "" } }],
    ["a status that is no refusal", { block: { text: "x", status: 200 } }],
    ["`with` on a block", { block: { text: "x", with: "y" } }],
    ["a media type to replace", { redact: { "media-type": "a/b" } }],
    ["a host to replace in", { redact: { text: "x", in: "host" } }],
    ["secrets and another filter's words", { block: { secrets: "yes" } }],
    ["an unknown action", { drop: { text: "x" } }],
  ])("%s", (_, rule) => {
    expect(contentRuleSchema.safeParse(rule).success).toBe(false);
  });
});

describe("the compiler refuses", () => {
  it.each([
    ["nothing", {}, [0], /exactly one of block, redact and report/],
    ["two actions", { block: { text: "x" }, report: { text: "x" } }, [0], /exactly one/],
    ["no filter", { block: { on: "request" } }, [0, "block"], /exactly one of text, pattern/],
    ["two filters", { block: { text: "x", pattern: "y" } }, [0, "block"], /exactly one of text, pattern/],
    ["a pattern without a bound", { block: { pattern: "ab+" } }, [0, "block", "pattern", 0], /\{1,200\}/],
    ["a look-ahead", { block: { pattern: "(?=a)b" } }, [0, "block", "pattern", 0], /RE2/],
    [
      "too long a match",
      { block: { pattern: "a{1000}b{1000}c{1000}d{1000}e{1000}" } },
      [0, "block", "pattern", 0],
      /max-match/,
    ],
    ["too large a pattern", { block: { pattern: "(?:a{1,30}){1,30}b" } }, [0, "block", "pattern", 0], /too large/],
    ["too long a keyword", { block: { text: "x".repeat(5000) } }, [0, "block", "text", 0], /max-match/],
    ["no media type", { block: { "media-type": "png" } }, [0, "block", "media-type", 0], /image\/png/],
    ["no extension", { block: { extension: "a/b" } }, [0, "block", "extension", 0], /extension/],
    ["a place for a head filter", { block: { extension: "exe", in: "body" } }, [0, "block", "in"], /leave/],
    ["a line break in a field", { redact: { text: "x", with: "a\r\nb: c" } }, [0, "redact", "with"], /control/],
  ])("%s", (_, rule, path, message) => {
    const [problem] = problems([rule]);
    expect(problem?.path).toEqual(path);
    expect(problem?.message).toMatch(message);
  });

  it("all at once", () => {
    expect(problems([{}, { block: { pattern: ["a+", "b", "("] } }]).map((p) => p.path)).toEqual([
      [0],
      [1, "block", "pattern", 0],
      [1, "block", "pattern", 2],
    ]);
  });
});

describe("a compiled plan", () => {
  it("takes patterns without a bound where there is no body", () => {
    expect(problems([{ block: { pattern: "a+b", in: ["path", "query", "fields"] } }])).toEqual([]);
  });

  it("says where it looks", () => {
    const plan = compile([{ block: { text: "x", on: "request" } }, { redact: { pattern: "y", in: "body" } }]);
    expect([plan.onRequest, plan.onResponse]).toEqual([true, true]);
    expect(plan.response.fields).toEqual([]);
    expect(plan.request.body).toHaveLength(2);
    expect(plan.describe).toEqual([
      'content[0]: block text "x" in body, fields, query, path on request',
      'content[1]: redact pattern "y" in body on both',
    ]);
  });

  it("never names a secret", () => {
    const plan = compile([{ block: { text: "hunter2secret" } }], { secrets: [{ name: "s", value: "hunter2secret" }] });
    expect(plan.describe.join()).not.toContain("hunter2");
  });

  it("finds many keywords together, and each of them", () => {
    const words = ["alpha", "beta", "gämma", "alphabet", "δ"];
    const [rule, ...others] = compile([{ block: { text: words, in: "body" } }]).request.body;
    expect(others).toEqual([]);
    for (const word of words) {
      const text = Buffer.from(`xx${word}xx`);
      expect(rule?.matcher.find(text, 0, text.length)).toEqual({ start: 2, end: text.length - 2 });
    }
    expect(compile([{ block: { text: ["a", "b", "c"], in: "body" } }]).request.body).toHaveLength(3);
  });

  it("asks for its mode each time", () => {
    let mode: "enforce" | "report" = "report";
    const plan = compile([{ block: { text: "x" } }], { mode: () => mode });
    expect(plan.mode()).toBe("report");
    mode = "enforce";
    expect(plan.mode()).toBe("enforce");
  });
});
