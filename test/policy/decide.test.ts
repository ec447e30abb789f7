import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RuleDocument } from "../../src/policy/document.ts";
import { compilePath, matchesHost } from "../../src/policy/match.ts";
import { parsePattern } from "../../src/policy/patterns.ts";
import type { RequestFacts } from "../../src/policy/types.ts";
import { cpuTime } from "../support/cpu.ts";
import { connect, policyOf, request, type Setup } from "./fixtures.ts";

const OPEN: Setup = { defaults: { action: "allow" } };
const allow = (id: string, pattern: string | string[], more: Partial<RuleDocument> = {}): RuleDocument => ({
  id,
  allow: [pattern].flat(),
  ...more,
});
const deny = (id: string, pattern: string | string[], more: Partial<RuleDocument> = {}): RuleDocument => ({
  id,
  deny: [pattern].flat(),
  ...more,
});
const tunnel = { reason: "pins" };

type Row = [what: string, rules: RuleDocument[], facts: RequestFacts, expected: string, setup?: Setup];
/** expected: outcome, rule ("-": the default) and, for a refusal, its reason. */
const REQUESTS: Row[] = [
  ["nothing matches: the default", [], request("GET https://a.example"), "deny - not-allowed"],
  ["the default may allow", [], request("GET https://a.example"), "allow -", OPEN],
  [
    "a rule without a path covers every path",
    [allow("r", "a.example")],
    request("GET https://a.example/x/y?z"),
    "allow r",
  ],
  [
    "the first allow decides",
    [allow("r", "a.example"), allow("s", "a.example")],
    request("GET http://a.example"),
    "allow r",
  ],
  [
    "the first in the file, whichever index finds it",
    [allow("r", "*.example", { broad: true }), allow("s", "a.example")],
    request("GET http://a.example"),
    "allow r",
  ],
  [
    "a deny wins, wherever it stands (H20)",
    [allow("r", "a.example"), deny("d", "*", { broad: true })],
    request("GET https://a.example"),
    "deny d not-allowed",
  ],
  [
    "a deny wins over the default",
    [deny("d", "*.a.example")],
    request("GET https://x.a.example"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "a wildcard never covers the name itself (H19)",
    [allow("r", "*.x.com")],
    request("GET https://x.com"),
    "deny - not-allowed",
  ],
  ["a wildcard covers several labels", [allow("r", "*.x.com")], request("GET https://a.b.x.com"), "allow r"],
  ["not a name that ends alike", [allow("r", "*.x.com")], request("GET https://evilx.com"), "deny - not-allowed"],
  ["not a name that begins alike", [allow("r", "x.com")], request("GET https://x.com.evil.com"), "deny - not-allowed"],
  [
    "case does not matter in hosts (H1)",
    [deny("d", "example.com")],
    request("GET https://EXAMPLE.com"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "nor does the trailing dot (H2)",
    [deny("d", "example.com")],
    request("GET https://example.com."),
    "deny d not-allowed",
    OPEN,
  ],
  ["IDN (H7)", [deny("d", "bücher.de")], request("GET https://xn--bcher-kva.de"), "deny d not-allowed", OPEN],
  ["odd IPv4 (H10)", [deny("d", "127.0.0.1")], request("GET http://0x7f000001"), "deny d not-allowed", OPEN],
  ["what is no host is refused", [], request("GET https://a..b"), "deny - not-allowed", OPEN],
  [
    "no port is the scheme's own (H21)",
    [allow("r", "a.example")],
    request("GET https://a.example:8443"),
    "deny - not-allowed",
  ],
  [
    "no port is not the other scheme's",
    [allow("r", "a.example")],
    request("GET http://a.example:443"),
    "deny - not-allowed",
  ],
  ["a port", [allow("r", "a.example:8443")], request("GET http://a.example:8443"), "allow r"],
  ["a scheme", [allow("r", "https://a.example")], request("GET http://a.example"), "deny - not-allowed"],
  ["a method", [allow("r", "GET,HEAD a.example")], request("POST https://a.example"), "deny - not-allowed"],
  ["methods know case", [allow("r", "GET a.example")], request("get https://a.example"), "deny - not-allowed"],
  ["a path", [allow("r", "a.example/repos/*/issues")], request("GET https://a.example/repos/x/issues?y=1"), "allow r"],
  ["paths know case", [allow("r", "a.example/a")], request("GET https://a.example/A"), "deny - not-allowed"],
  [
    "paths are compared in canonical form",
    [deny("d", "a.example/admin/**")],
    request("GET https://a.example/x/../%61dmin/y"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "an encoded slash is refused even by default allow",
    [],
    request("GET https://a.example/a%2fb"),
    "deny - not-allowed",
    OPEN,
  ],
  ["so are encoded dots", [], request("GET https://a.example/a/%2e%2e/b"), "deny - not-allowed", OPEN],
  [
    "a parameter of a segment does not lead around a deny",
    [deny("d", "a.example/admin/**")],
    request("GET https://a.example/admin;x=1/users"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "nor one behind the last segment, encoded",
    [deny("d", "a.example/admin")],
    request("GET https://a.example/admin%3Bx"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "nor in front of a merged slash",
    [deny("d", "a.example/a/b")],
    request("GET https://a.example/a;x//b"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "an allow does not match by a parameter alone",
    [allow("r", "a.example/*.txt")],
    request("GET https://a.example/secret.key;.txt"),
    "deny - not-allowed",
  ],
  [
    "an allow matches with parameters where it matches without",
    [allow("r", "a.example/app/*")],
    request("GET https://a.example/app/x;jsessionid=1?y"),
    "allow r",
  ],
  [
    "an allow that speaks of parameters is taken at its word",
    [allow("r", "a.example/x;v=1")],
    request("GET https://a.example/x;v=1"),
    "allow r",
  ],
  [
    "a parameter in the query is none",
    [deny("d", "a.example/a")],
    request("GET https://a.example/b?/a;x"),
    "allow -",
    OPEN,
  ],
  ["so is ..;", [], request("GET https://a.example/a/..;/b"), "deny - not-allowed", OPEN],
  [
    "a deny names itself before the path does",
    [deny("d", "a.example")],
    request("GET https://a.example/a%2fb"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "encoded slashes on purpose",
    [allow("r", "a.example", { "encoded-slashes": "allow" })],
    request("GET https://a.example/@x%2fy"),
    "allow r",
  ],
  [
    "but not what hides dots",
    [allow("r", "a.example", { "encoded-slashes": "allow" })],
    request("GET https://a.example/a/..%2fb"),
    "deny - not-allowed",
  ],
  [
    "a deny matches either reading",
    [deny("d", "a.example/x/y"), allow("r", "a.example", { "encoded-slashes": "allow" })],
    request("GET https://a.example/x%2fy"),
    "deny d not-allowed",
  ],
  [
    "an allow must match both readings",
    [allow("r", "a.example/*", { "encoded-slashes": "allow" })],
    request("GET https://a.example/x%2fy"),
    "deny - not-allowed",
  ],
  [
    "empty segments: a deny matches either reading",
    [deny("d", "a.example/admin/**")],
    request("GET https://a.example//admin/x"),
    "deny d not-allowed",
    OPEN,
  ],
  ["who", [allow("r", "a.example", { who: ["a"] })], request("GET https://a.example", "a"), "allow r"],
  ["who else", [allow("r", "a.example", { who: ["a"] })], request("GET https://a.example", "b"), "deny - not-allowed"],
  [
    "an anonymous one whom a name would help: 407",
    [allow("r", "a.example", { who: ["a"] })],
    request("GET https://a.example"),
    "deny - unauthenticated",
  ],
  [
    "an anonymous one whom no name would help: 403",
    [allow("r", "a.example", { who: ["a"] })],
    request("GET https://b.example"),
    "deny - not-allowed",
  ],
  [
    "a denied anonymous one: 403",
    [allow("r", "a.example", { who: ["a"] }), deny("d", "a.example")],
    request("GET https://a.example"),
    "deny d not-allowed",
  ],
  [
    "a deny for somebody else",
    [deny("d", "a.example", { who: ["a"] })],
    request("GET https://a.example", "b"),
    "allow -",
    OPEN,
  ],
  [
    "a tunnel rule outside: it is for CONNECT, a request in absolute-form could not keep its limits",
    [allow("r", "a.example", { tunnel })],
    request("GET https://a.example"),
    "deny - not-allowed",
  ],
  [
    "a tunnel rule does not match inside",
    [allow("r", "a.example", { tunnel })],
    request("GET https://a.example", null, true),
    "deny - not-allowed",
  ],
  [
    "report mode: would deny, by the rule's name",
    [deny("d", "a.example", { mode: "report" }), allow("r", "a.example")],
    request("GET https://a.example"),
    "would-deny d",
  ],
  [
    "report mode of a rule does not open the default",
    [deny("d", "a.example", { mode: "report" })],
    request("GET https://a.example"),
    "deny - not-allowed",
  ],
  [
    "report mode until a time to come",
    [deny("d", "a.example", { mode: "report", until: 1001 })],
    request("GET https://a.example"),
    "would-deny d",
    OPEN,
  ],
  [
    "report mode that is over enforces",
    [deny("d", "a.example", { mode: "report", until: 1000 })],
    request("GET https://a.example"),
    "deny d not-allowed",
    OPEN,
  ],
  [
    "an enforced deny beats a reporting one",
    [deny("d", "a.example", { mode: "report" }), deny("e", "a.example")],
    request("GET https://a.example"),
    "deny e not-allowed",
    OPEN,
  ],
  [
    "the default in report mode",
    [],
    request("GET https://a.example"),
    "would-deny -",
    { defaults: { mode: "report" } },
  ],
  [
    "every deny in report mode",
    [deny("d", "a.example")],
    request("GET https://a.example"),
    "would-deny d",
    { defaults: { mode: "report" } },
  ],
  [
    "but a rule that enforces",
    [deny("d", "a.example", { mode: "enforce" })],
    request("GET https://a.example"),
    "deny d not-allowed",
    { defaults: { mode: "report" } },
  ],
  [
    "a dangerous path is refused in report mode too",
    [],
    request("GET https://a.example/%2e%2e/x"),
    "deny - not-allowed",
    { defaults: { mode: "report" } },
  ],
];

type ConnectRow = [
  what: string,
  rules: RuleDocument[],
  expected: string,
  setup?: Setup,
  port?: number,
  client?: string,
];
const CONNECTS: ConnectRow[] = [
  ["no allow could match", [allow("r", "b.example")], "refuse -"],
  ["an allow with a method and a path could", [allow("r", "POST https://a.example/x")], "intercept r"],
  ["not at another port", [allow("r", "a.example")], "refuse -", {}, 8443],
  ["clear text at port 80 could", [allow("r", "http://a.example")], "intercept r", {}, 80],
  ["a deny without method and path refuses", [allow("r", "a.example"), deny("d", "a.example")], "refuse d"],
  ["a deny with a path does not", [allow("r", "a.example"), deny("d", "a.example/x")], "intercept r"],
  ["a deny with a method does not", [allow("r", "a.example"), deny("d", "POST a.example")], "intercept r"],
  ["a deny of the scheme that lives there refuses", [deny("d", "https://a.example")], "refuse d", OPEN],
  [
    "a deny of a scheme at another port leaves it to the request",
    [deny("d", "http://a.example:8443")],
    "intercept -",
    OPEN,
    8443,
  ],
  ["the first allow is a tunnel", [allow("t", "a.example", { tunnel }), allow("r", "a.example")], "tunnel t"],
  ["the first allow is not", [allow("r", "a.example"), allow("t", "a.example", { tunnel })], "intercept r"],
  ["a tunnel under default allow", [allow("t", "a.example", { tunnel })], "tunnel t", OPEN],
  [
    "a deny with a path is kept by looking inside",
    [allow("t", "a.example", { tunnel }), deny("d", "a.example/x")],
    "intercept -",
    OPEN,
  ],
  ["or by refusing", [allow("t", "a.example", { tunnel }), deny("d", "a.example/x")], "refuse -"],
  ["default allow", [], "intercept -", OPEN],
  ["the default in report mode", [], "intercept -", { defaults: { mode: "report" } }],
  ["a deny in report mode", [deny("d", "a.example", { mode: "report" })], "intercept d", OPEN],
  ["who", [allow("r", "a.example", { who: ["a"] })], "intercept r", {}, 443, "a"],
  [
    "a tunnel of somebody else's",
    [allow("t", "a.example", { tunnel, who: ["b"] }), allow("r", "a.example")],
    "intercept r",
    {},
    443,
    "a",
  ],
];

const brief = (d: { outcome: string; rule: string | null; reason: string | null }) =>
  [d.outcome, d.rule ?? "-", d.reason ?? ""].join(" ").trim();

describe("decide", () => {
  it.each(REQUESTS)("%s", (_, rules, facts, expected, setup) => {
    const policy = policyOf(rules, setup);
    const decision = policy.decide(facts);
    expect(brief(decision)).toBe(expected);
    expect(decision.allowed).toBe(decision.outcome !== "deny");
    expect(decision.message === "").toBe(decision.allowed);
    expect(Object.isFrozen(decision) && Object.isFrozen(decision.plan)).toBe(true);
  });

  it("says who, what and why, without the query", () => {
    const policy = policyOf([deny("d", "*.a.example", { reason: "because" })]);
    expect(policy.decide(request("DELETE https://b.example/x?token=1", "a")).message).toBe(
      "no rule allows DELETE https://b.example/x for a.",
    );
    expect(policy.decide(request("GET https://x.a.example")).message).toMatch(/rule d denies it \(because\)/);
    expect(policyOf([], OPEN).decide(request("GET https://x/a%2fb")).message).toMatch(/encoded slash/);
  });

  it("is total, pure, and the same whatever was asked before", () => {
    const policy = policyOf([allow("r", "GET *.a.example/x/*", { who: ["a"] }), deny("d", "b.example")]);
    const facts: fc.Arbitrary<RequestFacts> = fc.record({
      client: fc.option(fc.constantFrom("a", "b", "c")),
      address: fc.string(),
      method: fc.oneof(fc.constant("GET"), fc.string({ unit: "binary" })),
      scheme: fc.constantFrom("http" as const, "https" as const),
      host: fc.oneof(fc.constantFrom("x.a.example", "b.example"), fc.domain(), fc.string({ unit: "binary" })),
      port: fc.integer({ min: 0, max: 70_000 }),
      path: fc.oneof(fc.webPath(), fc.string({ unit: "binary" })),
      insideConnect: fc.boolean(),
    });
    fc.assert(
      fc.property(facts, (f) => {
        const before = JSON.stringify(f);
        const decision = policy.decide(f);
        expect(decision).toEqual(policy.decide(f));
        expect(policy.decideConnect(f)).toEqual(policy.decideConnect(f));
        expect(["allow", "deny"]).toContain(decision.outcome);
        expect(JSON.stringify(f)).toBe(before);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("what is neither TLS nor HTTP inside CONNECT", () => {
  const opaqueOf = (rules: RuleDocument[], setup: Setup = {}) => {
    const policy = policyOf(rules, setup);
    const { opaque } = policy.decideConnect(connect("a.example"));
    const at = policy.rules.findIndex((rule) => rule.plan === opaque);
    return at >= 0 ? (policy.rules[at]?.id ?? null) : opaque === policy.defaults ? "defaults" : opaque;
  };
  it.each<[string, RuleDocument[], Setup, string | null]>([
    ["goes by the first rule that allows everything", [allow("g", "GET a.example"), allow("r", "a.example")], {}, "r"],
    ["not by one that allows some methods", [allow("g", "GET a.example")], {}, null],
    ["not by one that allows some paths", [allow("g", "a.example/x")], {}, null],
    [
      "not by a tunnel rule, which would have tunnelled",
      [allow("g", "GET a.example"), allow("t", "a.example", { tunnel })],
      {},
      null,
    ],
    ["by the default where that allows", [allow("g", "GET a.example")], OPEN, "defaults"],
    ["by the default in report mode", [], { defaults: { mode: "report" } }, "defaults"],
    ["not where CONNECT is refused", [deny("d", "a.example")], OPEN, null],
  ])("%s", (_what, rules, setup, expected) => {
    expect(opaqueOf(rules, setup)).toBe(expected);
  });
});

describe("decideConnect", () => {
  it.each(CONNECTS)("%s", (_, rules, expected, setup, port, client) => {
    const decision = policyOf(rules, setup).decideConnect(connect("a.example", port, client ?? null));
    expect(`${decision.kind} ${decision.rule ?? "-"}`).toBe(expected);
    expect(decision.tunnel !== null).toBe(decision.kind === "tunnel");
    expect(decision.reason !== null).toBe(decision.kind === "refuse");
  });
  it("asks for a credential where one would help", () => {
    const policy = policyOf([allow("r", "a.example", { who: ["a"] })]);
    expect(policy.decideConnect(connect("a.example")).reason).toBe("unauthenticated");
    expect(policy.decideConnect(connect("b.example")).reason).toBe("not-allowed");
    expect(policy.decideConnect(connect("a.example", 443, "b")).reason).toBe("not-allowed");
  });
  it("says would-deny in report mode", () => {
    const policy = policyOf([deny("d", "a.example", { mode: "report" })], OPEN);
    expect(policy.decideConnect(connect("a.example")).outcome).toBe("would-deny");
  });
});

describe("a thousand rules", () => {
  const label = fc.constantFrom("a", "b", "c");
  const host = fc.array(label, { minLength: 2, maxLength: 4 }).map((l) => l.join("."));
  const rule = fc.record({
    kind: fc.constantFrom("allow", "deny"),
    wild: fc.boolean(),
    host,
    method: fc.constantFrom("", "GET ", "POST "),
    path: fc.constantFrom("", "/x", "/*", "/x/**"),
    who: fc.option(fc.constantFrom("a", "b")),
  });

  /** The semantics, read off the sentence in the documentation. */
  function naive(rules: readonly RuleDocument[], facts: RequestFacts): string {
    const matches = (r: RuleDocument) =>
      (r.who === undefined || (facts.client !== null && r.who.includes(facts.client))) &&
      [...(r.allow ?? []), ...(r.deny ?? [])].some((text) => {
        const p = parsePattern(text);
        if (p.methods !== null && !p.methods.includes(facts.method)) return false;
        return matchesHost(p.host, facts.host) && (p.path === null || compilePath(p.path)(facts.path));
      });
    const first =
      rules.find((r) => r.deny !== undefined && matches(r)) ?? rules.find((r) => r.allow !== undefined && matches(r));
    return first === undefined ? "deny -" : `${first.deny === undefined ? "allow" : "deny"} ${first.id}`;
  }

  it("decides by index as it would one after the other", () => {
    const request = fc.record({
      host,
      method: fc.constantFrom("GET", "POST"),
      path: fc.constantFrom("/", "/x", "/x/y", "/z"),
      client: fc.option(fc.constantFrom("a", "b")),
    });
    fc.assert(
      fc.property(
        fc.array(rule, { maxLength: 60 }),
        fc.array(request, { minLength: 1, maxLength: 20 }),
        (specs, asked) => {
          const rules = specs.map((s, i): RuleDocument => {
            const pattern = `${s.method}${s.wild ? "*." : ""}${s.host}${s.path}`;
            return { id: `r${i}`, [s.kind]: [pattern], broad: true, ...(s.who === null ? {} : { who: [s.who] }) };
          });
          const policy = policyOf(rules);
          for (const q of asked) {
            const facts = { ...q, address: "", scheme: "https" as const, port: 443, insideConnect: false };
            const decision = policy.decide(facts);
            expect(`${decision.outcome} ${decision.rule ?? "-"}`).toBe(naive(rules, facts));
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("takes microseconds", () => {
    const rules = Array.from({ length: 1000 }, (_, i) => allow(`r${i}`, `GET https://*.h${i}.example/repos/*/x`));
    const policy = policyOf(rules);
    const facts = request("GET https://a.h999.example/repos/b/x");
    expect(policy.decide(facts).rule).toBe("r999");
    const spent = cpuTime(() => {
      for (let i = 0; i < 20_000; i++) policy.decide(facts);
    });
    expect((spent / 20_000) * 1000).toBeLessThan(25);
  });
});
