import { describe, expect, it } from "vitest";
import { compileNetwork } from "../../src/policy/addresses.ts";
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
const CLOSED = compileNetwork([]);
const why = (text: string, client: string | null) =>
  Object.fromEntries(
    explainRequest(POLICY, request(text, client), CLOSED).rules.map((r) => [r.id, `${r.result}: ${r.why}`]),
  );

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
    expect(explainRequest(POLICY, request("GET https://pin.example/"), CLOSED)).toMatchObject({
      allowed: true,
      rule: "pins",
      connect: { kind: "tunnel" },
    });
    expect(explainRequest(POLICY, request("GET https://x.paste.example/"), CLOSED)).toMatchObject({
      allowed: false,
      rule: "no-paste",
      connect: { kind: "refuse" },
    });
  });
  it("never shows a value", () => {
    const explanation = explainRequest(POLICY, request("GET https://api.example/x", "a"), CLOSED);
    expect(explanation.plan).toContain("request: set authorization");
    expect(JSON.stringify(explanation)).not.toContain("hunter2");
  });
});

describe("addresses, as far as nothing has to be resolved (H14, H15)", () => {
  const open = policyOf(
    [
      { id: "moved", allow: ["http://127.0.0.9"], redirect: { to: "https://a.example" } },
      { id: "away", allow: ["http://127.0.0.8"], to: { url: "http://192.0.8.1" } },
      { id: "home", allow: ["http://b.example"], to: { url: "http://10.0.0.1" } },
      { id: "next", allow: ["http://c.example"], via: { url: "http://10.0.0.2:3128" } },
      { id: "broad", allow: ["*"], broad: true },
    ],
    { clients: [] },
  );
  const explained = (url: string, allow: readonly string[] = []) =>
    explainRequest(open, request(`GET ${url}`), compileNetwork(allow));

  it.each([
    ["http://10.0.0.1/", /10\.0\.0\.1 is private; network\.allow: \[10\.0\.0\.1\/32\] would open it/],
    ["http://127.1/", /127\.0\.0\.1 is loopback/],
    ["https://100.64.0.1/", /is shared/],
    ["http://169.254.169.254/latest", /is metadata/],
    ["http://metadata.google.internal/", /metadata\.google\.internal is metadata/],
    ["https://[fd00:ec2::254]/", /is metadata/],
    ["http://[64:ff9b::a00:1]/", /\(10\.0\.0\.1 inside\) is private/],
    ["http://[64:ff9b::808:808]/", /write 8\.8\.8\.8/],
    ["http://0/", /0\.0\.0\.0 is unspecified\.$/],
    ["http://x.localhost/", /127\.0\.0\.1 is loopback.*an address of x\.localhost/],
    ["http://b.example/", /10\.0\.0\.1 is private/],
    ["http://c.example/", /10\.0\.0\.2 is private/],
  ])("%s is refused, with the class and the line that opens it", (url, message) => {
    const explanation = explained(url);
    expect(explanation).toMatchObject({ allowed: false, outcome: "deny", reason: "address-prohibited" });
    expect(explanation.message).toMatch(message);
    expect(explanation.text).toContain(explanation.message);
  });

  it.each([
    ["http://8.8.8.8/", []],
    ["http://10.0.0.1/", ["10.0.0.0/8"]],
    ["http://localhost/", ["::1/128"]],
    ["http://127.0.0.9/", []],
    ["http://127.0.0.8/", []],
    ["http://d.example/", []],
  ])("%s with %j open is allowed", (url, allow) => {
    expect(explained(url, allow)).toMatchObject({ allowed: true, reason: null });
  });
});
