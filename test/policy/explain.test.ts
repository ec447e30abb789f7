import { describe, expect, it } from "vitest";
import { explainRequest } from "../../src/policy/explain.ts";
import { policyOf, request } from "./fixtures.ts";

const POLICY = policyOf([
  { id: "no-paste", deny: ["*.paste.example", "paste.example"] },
  {
    id: "read",
    who: ["a"],
    allow: ["GET https://api.example/**"],
    headers: { set: { authorization: "Bearer hunter2" } },
  },
  { id: "later", allow: ["https://api.example"] },
  { id: "other-port", allow: ["https://api.example:8443"] },
  { id: "pins", allow: ["https://pin.example"], tunnel: { reason: "pins" } },
]);
const why = (text: string, client: string | null) =>
  Object.fromEntries(explainRequest(POLICY, request(text, client)).rules.map((r) => [r.id, `${r.result}: ${r.why}`]));

describe("explainRequest", () => {
  it("says which rule decided and why each other did not", () => {
    expect(why("GET https://api.example/x", "a")).toEqual({
      "no-paste": "does-not-match: is for *.paste.example",
      read: "decides: matches GET https://api.example/**",
      later: "loses: matches https://api.example, but read comes first",
      "other-port": "does-not-match: is for port 8443",
      pins: "does-not-match: is for pin.example",
    });
  });
  it("names the client and the method that would be needed", () => {
    expect(why("GET https://api.example/x", "b").read).toBe("does-not-match: is for a");
    expect(why("POST https://api.example/x", "a").read).toBe("does-not-match: is for GET");
  });
  it("follows CONNECT: a tunnel decides, a deny refuses", () => {
    expect(explainRequest(POLICY, request("GET https://pin.example/"))).toMatchObject({
      allowed: true,
      rule: "pins",
      connect: { kind: "tunnel" },
    });
    expect(explainRequest(POLICY, request("GET https://x.paste.example/"))).toMatchObject({
      allowed: false,
      rule: "no-paste",
      connect: { kind: "refuse" },
    });
  });
  it("never shows a value", () => {
    const explanation = explainRequest(POLICY, request("GET https://api.example/x", "a"));
    expect(explanation.plan).toContain("request: set authorization");
    expect(JSON.stringify(explanation)).not.toContain("hunter2");
  });
});
