// A target in absolute form with a Host that differs (RFC 9112 section 3.2.2). On the proxy port the target wins, unless
// `server.strict-host` wants the difference refused; inside CONNECT both must be what CONNECT named.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { judge } from "./judge.ts";
import { type At, type Case, type Played, playAll, type Scene, startScene, WAYS } from "./scene.ts";

const absolute = (at: At): string => `${at.scheme}://${at.host}${at.path}`;
const asked = (target: string, host: string): string => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const same: Case[] = [
  { name: "the same name", send: (at) => asked(absolute(at), at.host), statuses: [200] },
  {
    name: "the same name in another spelling",
    send: (at) => asked(absolute(at), at.host.replace("o.test", "O.TEST.")),
    statuses: [200],
  },
];
/** Never does the other name reach the origin. */
const other = (name: string, host: (at: At) => string, strict: boolean): Case[] => {
  const row = { name, send: (at: At) => asked(absolute(at), host(at)) };
  const refused = { ...row, statuses: [400], reason: "malformed-request", got: null };
  const replaced = {
    ...row,
    statuses: [200],
    reason: null,
    got: /\r\nHost: o\.test:\d+\r\n/,
    records: [{ kind: "exchange", notes: ["host-replaced"] }],
  };
  return [
    { ...(strict ? refused : replaced), ways: ["plain"] },
    { ...row, ways: WAYS.slice(1), statuses: [421], reason: "misdirected", got: null },
  ];
};
const OTHERS: readonly [string, (at: At) => string][] = [
  ["another name", () => "other.test"],
  ["another port", (at) => `o.test:${at.port + 1}`],
  ["no port", () => "o.test"],
];

describe.each([true, false])("strict-host: %s", (strict) => {
  let scene: Scene;
  let played: Played[] = [];
  const cases = [...same, ...OTHERS.flatMap(([name, host]) => other(name, host, strict))];
  beforeAll(async () => {
    scene = await startScene({
      policy: `server: { strict-host: ${strict} }\ndefaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n`,
    });
    played = await playAll(scene, cases);
  });
  afterAll(() => scene.close());
  test.each([...same, ...OTHERS.map(([name]) => ({ name }))].flatMap((c) => WAYS.map((way) => [c.name, way] as const)))(
    "%s (%s)",
    (name, way) => {
      const found = played.find((p) => p.row.name === name && p.way === way);
      expect(found).toBeDefined();
      judge(found as Played);
    },
  );
});
