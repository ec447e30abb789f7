import { expect, it } from "vitest";
import type { Decision, Policy } from "../../src/policy/types.ts";
import { decisionFor } from "../../src/stages/decision.ts";
import { exchange } from "./content-harness.ts";

it("asks about the path for the address of a CONNECT and for the name that stands for it", () => {
  const x = exchange({ rules: [], host: "192.0.2.1", connectVia: "" });
  const asked: string[] = [];
  const policy: Policy = {
    ...x.policy,
    decide({ host, path }): Decision {
      asked.push(`${host}${path}`);
      return { ...(x.decision as Decision), rule: host, allowed: path !== "/admin" || host !== "named.example" };
    },
  };
  const connect = { ...x.connection.connect, alias: "named.example" };
  const named = Object.assign(Object.create(x), { policy, connection: { ...x.connection, connect } });
  expect(decisionFor(named, "/fine")).toMatchObject({ allowed: true, rule: "named.example" });
  expect(decisionFor(named, "/admin")).toMatchObject({ allowed: false, rule: "named.example" });
  expect(asked).toEqual(["192.0.2.1/fine", "named.example/fine", "192.0.2.1/admin", "named.example/admin"]);
});
