// The `tests:` of policy files: requests with the decision that they must get.
import { parseAbsoluteTarget, parseConnectTarget } from "../http/target.ts";
import { compileNetwork, type NetworkPolicy } from "../policy/addresses.ts";
import { explainRequest, withAddresses } from "../policy/explain.ts";
import type { RequestFacts } from "../policy/types.ts";
import type { LoadedConfig, PolicyTest } from "./loaded.ts";

export interface TestResult {
  readonly test: PolicyTest;
  readonly passed: boolean;
  /** What came instead; "" when it passed. */
  readonly message: string;
}

/** The source address of tests and of `policy explain`: one that no `addresses` of clients can be expected to hold. */
const NOBODY = "192.0.2.1";

/** The facts of `METHOD URL` (also `CONNECT host:port`, as https); null when it is not one. */
export function factsOf(method: string, url: string, client: string | null): RequestFacts | null {
  if (method === "CONNECT") {
    const authority = parseConnectTarget(url);
    if (authority === null) return null;
    return { client, address: NOBODY, method, scheme: "https", ...authority, path: "/", insideConnect: false };
  }
  const target = parseAbsoluteTarget(url);
  if (target === null || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(method)) return null;
  return { client, address: NOBODY, method, ...target, insideConnect: false };
}

type Tested = Pick<LoadedConfig, "policy" | "clients" | "network">;

/** Runs every test of a configuration. */
export function runTests(config: Tested & Pick<LoadedConfig, "tests">): TestResult[] {
  const network = compileNetwork(config.network.allow);
  return config.tests.map((test) => {
    const message = outcomeOf(config, network, test);
    return { test, passed: message === "", message };
  });
}

function outcomeOf(config: Tested, network: NetworkPolicy, test: PolicyTest): string {
  if (test.as !== null && !config.clients.some((c) => c.name === test.as)) return `no client is called ${test.as}`;
  const [method = "", url = ""] = test.request.split(" ");
  const facts = factsOf(method, url, test.as);
  if (facts === null) return `${test.request} is not METHOD URL`;
  const got = decisionOf(config, network, facts, method);
  const kinds = got.kind === "refuse" ? "deny" : got.kind;
  const fits = test.expect === got.outcome || test.expect === kinds;
  if (!fits)
    return `expected ${test.expect}, got ${got.outcome} by ${got.rule ?? "the default"}. ${got.message}`.trim();
  if (test.rule === undefined || test.rule === got.rule) return "";
  return `expected rule ${test.rule ?? "null (the default)"}, but ${got.rule ?? "the default"} decided`;
}

function decisionOf(config: Tested, network: NetworkPolicy, facts: RequestFacts, method: string) {
  if (method === "CONNECT") return withAddresses(config.policy.decideConnect(facts), facts.host, network);
  const explained = explainRequest(config.policy, facts, network);
  const kind = explained.allowed ? (explained.connect?.kind ?? null) : "refuse";
  return { kind, outcome: explained.outcome, rule: explained.rule, message: explained.message };
}
