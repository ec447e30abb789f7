// The stage settles the principal and keeps the credential on this hop.
import { describe, expect, test } from "vitest";
import { type ConnectionFacts, Exchange } from "../../src/exchange/exchange.ts";
import type { Policy } from "../../src/policy/types.ts";
import { ProxyError } from "../../src/shared/errors.ts";
import { type Authenticator, authenticateStage, expiryOf, identify } from "../../src/stages/authenticate.ts";

const anybody: ConnectionFacts = {
  clientAddress: "127.0.0.1",
  clientPort: 1,
  assignedClient: null,
  trusted: false,
  clientCertificate: null,
  connect: null,
};
const inside = (client: string | null): ConnectionFacts => ({
  ...anybody,
  connect: {
    record: "r",
    authority: { host: "a.example", port: 443 },
    client,
    intercepted: true,
    sni: null,
    sniMismatch: false,
    alias: null,
  },
});
/** Knows the one credential `good`. */
const checker: Authenticator = {
  authenticate(fields) {
    if (fields.length === 0) return null;
    if (fields.includes("good")) return "known";
    throw new ProxyError("wrong-credential");
  },
};
const slow: Authenticator = { authenticate: async (fields, c) => checker.authenticate(fields, c) };

function exchange(connection: ConnectionFacts, fields: string[]): Exchange {
  const head = {
    method: "GET",
    scheme: "http" as const,
    host: "a.example",
    port: 80,
    path: "/",
    version: "1.1" as const,
  };
  return new Exchange("id", 0, 0, connection, {} as Policy, { ...head, fields }, 0);
}

describe("who is speaking", () => {
  const cases: [string, ConnectionFacts, string[], string | null | "refused"][] = [
    ["nobody", anybody, [], null],
    ["a good credential", anybody, ["Proxy-Authorization", "good"], "known"],
    ["a bad credential", anybody, ["Proxy-Authorization", "bad"], "refused"],
    ["a child's port settles it", { ...anybody, trusted: true, assignedClient: "kid" }, [], "kid"],
    [
      "a child's port does not look at credentials",
      { ...anybody, trusted: true, assignedClient: "kid" },
      ["Proxy-Authorization", "bad"],
      "kid",
    ],
    ["a child's port without a name", { ...anybody, trusted: true }, ["Proxy-Authorization", "good"], null],
    ["inside CONNECT its identity counts", inside("tunnel"), [], "tunnel"],
    ["inside CONNECT a credential is not for us", inside(null), ["Proxy-Authorization", "good"], null],
  ];
  test.each(cases)("%s", (_name, connection, fields, wanted) => {
    const ask = () => identify(checker, fields, connection, 0);
    if (wanted === "refused") expect(ask).toThrow(ProxyError);
    else expect(ask()).toBe(wanted);
  });
});

describe("inside CONNECT, once the credential of the CONNECT has ended", () => {
  const until = (expiresAt: number): ConnectionFacts => {
    const { connect } = inside("tunnel");
    return { ...anybody, connect: connect === null ? null : { ...connect, expiresAt } };
  };
  test.each<[string, number, number, boolean]>([
    ["a moment before", 1_000, 999, true],
    ["at its end", 1_000, 1_000, false],
    ["after it", 1_000, 5_000, false],
    ["no end", Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER, true],
    ["nothing is known of it", 0, 1, false],
  ])("%s", (_name, expiresAt, at, good) => {
    const ask = () => identify(checker, [], until(expiresAt), at);
    if (good) expect(ask()).toBe("tunnel");
    else expect(ask).toThrow(expect.objectContaining({ reason: "wrong-credential" }));
  });
  test("a child's own port has nothing that ends", () => {
    const child = { ...anybody, trusted: true, assignedClient: "kid" };
    const ends: Authenticator = { ...checker, expiresAt: () => 1 };
    expect(expiryOf(ends, ["Proxy-Authorization", "good"], child)).toBe(Number.POSITIVE_INFINITY);
    expect(expiryOf(ends, ["Proxy-Authorization", "good"], anybody)).toBe(1);
  });
});

describe("the stage", () => {
  test("sets the principal without a promise where it can", () => {
    const x = exchange(anybody, ["Proxy-Authorization", "good"]);
    expect(authenticateStage(() => checker).onRequest?.(x)).toBeNull();
    expect(x.principal).toBe("known");
  });
  test("sets the principal when the answer takes time", async () => {
    const x = exchange(anybody, ["Proxy-Authorization", "good"]);
    await expect(authenticateStage(() => slow).onRequest?.(x)).resolves.toBeNull();
    expect(x.principal).toBe("known");
  });
  test.each([
    ["settled by the port", { ...anybody, trusted: true }],
    ["inside CONNECT", inside("x")],
    ["checked", anybody],
  ])("the credential never goes on: %s", (_name, connection) => {
    const x = exchange(connection, ["a", "1", "PROXY-authorization", "good", "b", "2"]);
    void authenticateStage(() => checker).onRequest?.(x);
    expect(x.forward.fields).toEqual(["a", "1", "b", "2"]);
  });
  test("a wrong credential refuses, and is gone from what would be forwarded", () => {
    const x = exchange(anybody, ["Proxy-Authorization", "bad"]);
    expect(() => authenticateStage(() => checker).onRequest?.(x)).toThrow(ProxyError);
    expect(x.forward.fields).toEqual([]);
    expect(x.principal).toBeNull();
  });
  test("asks the authenticator that is in force now", () => {
    let current: Authenticator = { authenticate: () => "old" };
    const stage = authenticateStage(() => current);
    current = { authenticate: () => "new" };
    const x = exchange(anybody, []);
    void stage.onRequest?.(x);
    expect(x.principal).toBe("new");
  });
});
