import { describe, expect, it } from "vitest";
import { policyOf, problemsOf, request } from "./fixtures.ts";

describe("compilePolicy", () => {
  it("lists every problem of every rule at once", () => {
    const problems = problemsOf([
      { id: "a", allow: ["get x"], who: ["nobody"] },
      { id: "a", deny: ["a.*"], to: { url: "https://x" } },
      { id: "c", allow: ["x"], redirect: { to: "ftp://x" }, until: 3 },
    ]);
    expect(problems.map((p) => p.path.join("."))).toEqual([
      "rules.1.id",
      "rules.0.who.0",
      "rules.0.allow.0",
      "rules.1.to",
      "rules.1.deny.0",
      "rules.2.until",
      "rules.2.redirect.to",
    ]);
  });
  it("lays the limits of a rule over those of the defaults", () => {
    const policy = policyOf([{ id: "r", allow: ["x"], limits: { request: 5, total: Number.POSITIVE_INFINITY } }], {
      defaults: { limits: { request: 10, response: 20, total: 30 } },
    });
    expect(policy.decide(request("GET https://x")).plan.limits).toEqual({
      request: 5,
      response: 20,
      headers: 32_768,
      url: 16_384,
      idle: 60_000,
      total: Number.POSITIVE_INFINITY,
    });
  });
  it("orders edits: remove, set, append; names to remove in lower case", () => {
    const policy = policyOf([
      {
        id: "r",
        allow: ["x"],
        headers: {
          append: { A: ["1", "2"] },
          set: { B: "3" },
          remove: ["Cookie"],
          response: { remove: ["Set-Cookie"] },
        },
      },
    ]);
    const { plan } = policy.decide(request("GET https://x"));
    expect(plan.requestEdits.map((e) => `${e.op} ${e.name} ${e.value}`)).toEqual([
      "remove cookie ",
      "set B 3",
      "append A 1",
      "append A 2",
    ]);
    expect(plan.responseEdits).toEqual([{ op: "remove", name: "set-cookie", value: "" }]);
  });
  it("reads origins, next proxies, redirects and tunnels", () => {
    const policy = policyOf([
      {
        id: "r",
        allow: ["x"],
        to: { url: "https://Y.example:8443", host: "keep" },
        via: { url: "https://[2001:db8::1]:3128" },
      },
      { id: "s", allow: ["http://z"], redirect: { to: "https://z/base/" } },
      { id: "t", allow: ["p"], tunnel: { reason: "pins", "bytes-out": 9 } },
    ]);
    const [r, s, t] = policy.rules;
    expect(r?.plan.to).toEqual({ scheme: "https", host: "y.example", port: 8443, hostField: "keep" });
    expect(r?.plan.via).toEqual({
      scheme: "https",
      host: "2001:db8::1",
      port: 3128,
      authorization: null,
      resolve: "both",
    });
    expect(s?.plan.redirect).toEqual({ status: 308, to: "https://z/base" });
    expect(t?.tunnel).toEqual({
      reason: "pins",
      bytesOut: 9,
      bytesIn: Infinity,
      total: Infinity,
      idle: 60_000,
      withoutSni: "deny",
    });
  });
  it("lets content report while the rule does, and enforces when that is over", () => {
    let time = 0;
    const policy = policyOf(
      [{ id: "r", allow: ["x"], mode: "report", until: 10, content: [{ block: { text: "bad" } }] }],
      { now: () => time },
    );
    const mode = () => policy.decide(request("GET https://x")).plan.content?.mode();
    expect(mode()).toBe("report");
    time = 10;
    expect(mode()).toBe("enforce");
  });
  it("says when a tunnel rule may not tunnel", () => {
    const policy = policyOf([
      { id: "t", allow: ["*.x.example"], tunnel: { reason: "pins" } },
      { id: "d", deny: ["a.x.example/admin"] },
    ]);
    expect(policy.warnings.map((w) => w.message)).toContainEqual(expect.stringMatching(/t may not tunnel: rule d/));
  });
});
