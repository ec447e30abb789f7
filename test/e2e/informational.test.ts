// Informational responses (RFC 9110 section 15.2) go down the line like final ones: nothing of a hop, nothing that the rule takes
// away or replaces, nothing that its filters block. On every pair of versions.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Fields } from "../../src/http/fields.ts";
import { type H2Origin, startH2Origin } from "../edge/proxy/h2/origins.ts";
import { sessionThrough } from "../edge/proxy/h2/support.ts";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { tlsThrough } from "../support/raw-client.ts";

interface Case {
  readonly what: string;
  /** What the origin's 103 has, and what the client's must have beside Via; null: none may come. */
  readonly sent: Fields;
  readonly gets: Fields | null;
  readonly notes: readonly string[];
  /** HTTP/2 has no Connection: of an origin of HTTP/1.1 only. */
  readonly onlyHttp1?: boolean;
}

const LINK = ["link", "</a>; rel=preload"];
const PASSED = "informational:103";
const CASES: Record<string, Case> = {
  "/plain": {
    what: "passes",
    sent: [...LINK, "x-a", "1", "x-a", "2"],
    gets: [...LINK, "x-a", "1, 2"],
    notes: [PASSED],
  },
  "/alt-svc": {
    what: "loses Alt-Svc, which leads around the proxy",
    sent: ["Alt-Svc", 'h3=":443"', ...LINK],
    gets: LINK,
    notes: ["alt-svc-dropped", PASSED],
  },
  "/hop": {
    what: "loses what its own Connection names, and what is for one hop",
    sent: ["Connection", "x-hop, close", "X-Hop", "1", "Keep-Alive", "timeout=5", "Proxy-Authenticate", "x", ...LINK],
    gets: LINK,
    notes: [PASSED],
    onlyHttp1: true,
  },
  "/edited": {
    what: "loses what the rule removes, gets what it sets, and nothing that was not there",
    sent: ["X-Gone", "1", "X-Set", "theirs", ...LINK],
    gets: ["x-set", "ours", ...LINK],
    notes: [PASSED],
  },
  "/blocked": {
    what: "is dropped when a filter blocks it",
    sent: ["x-say", "a forbidden word", ...LINK],
    gets: null,
    notes: ["informational-dropped:103:content-blocked"],
  },
  "/redacted": {
    what: "is redacted by a filter",
    sent: ["x-say", "a hidden word", ...LINK],
    gets: ["x-say", "a [redacted] word", ...LINK],
    notes: ["content-redacted:redacted:content[0]:response", PASSED],
  },
  "/reported": {
    what: "passes where the filter only reports",
    sent: ["x-say", "a known word", ...LINK],
    gets: ["x-say", "a known word", ...LINK],
    notes: ["content-reported:reported:content[0]:response", PASSED],
  },
};

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
let h1: RawOrigin;
let h2: H2Origin;
let house: TestHouse;

beforeAll(async () => {
  h1 = await startRawOrigin(
    ({ socket, bytes }) => {
      const path = /.*GET (\S+) /s.exec(bytes.toString("latin1"))?.[1] ?? "";
      const fields = CASES[path]?.sent ?? [];
      const lines = fields.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join("");
      socket.write(`HTTP/1.1 103 Early Hints\r\n${lines}\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`);
    },
    { tls: leaf },
  );
  h2 = await startH2Origin((stream, seen) => {
    const fields = CASES[String(seen.headers[":path"])]?.sent ?? [];
    const headers: Record<string, string | string[]> = {};
    for (let i = 0; i < fields.length; i += 2) {
      const name = (fields[i] as string).toLowerCase();
      headers[name] = [...(headers[name] ?? []), fields[i + 1] as string];
    }
    stream.additionalHeaders({ ":status": 103, ...headers });
    stream.respond({ ":status": 200, "content-length": 2 });
    stream.end("ok");
  }, leaf);
  const to = (path: string): string =>
    `allow: ["https://127.0.0.1:${h1.port}/${path}", "https://127.0.0.1:${h2.port}/${path}"]`;
  house = await startTestHouse({
    roots: testCa.cert,
    policy: `network: { allow: [127.0.0.0/8] }
rules:
  - { id: edited, ${to("edited")}, headers: { response: { remove: [x-gone], set: { x-set: ours, x-new: n }, append: { x-more: m } } } }
  - { id: blocked, ${to("blocked")}, content: [ { block: { text: forbidden, in: fields, on: response } } ] }
  - { id: redacted, ${to("redacted")}, content: [ { redact: { text: hidden, in: fields, on: response } } ] }
  - { id: reported, ${to("reported")}, content: [ { report: { text: known, in: fields, on: response } } ] }
  - { id: rest, ${to("**")} }
`,
  });
});
afterAll(async () => {
  await house.close();
  await h1.close();
  await h2.close();
});

/** Names in lower case, several values of one name in one line, in order; without Via, which is returned beside. */
function told(flat: readonly string[]): { fields: Fields; via: string | undefined } {
  const byName = new Map<string, string>();
  for (let i = 0; i < flat.length; i += 2) {
    const name = (flat[i] as string).toLowerCase();
    if (name.startsWith(":")) continue;
    const before = byName.get(name);
    byName.set(name, before === undefined ? (flat[i + 1] as string) : `${before}, ${flat[i + 1] as string}`);
  }
  const via = byName.get("via");
  byName.delete("via");
  return { fields: [...byName].flat(), via };
}

/** The fields of the informational responses that came before the 200. */
const CLIENTS = {
  "1.1": async (authority: string, path: string): Promise<string[][]> => {
    const client = await tlsThrough(house.port, authority, { ca: house.ca, alpn: ["http/1.1"] });
    client.send(`GET ${path} HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
    await client.closed();
    const heads = client.text.split("\r\n\r\n");
    expect(heads.at(-2)).toContain("HTTP/1.1 200 OK");
    client.destroy();
    return heads.slice(0, -2).map((head) => {
      const [status, ...lines] = head.split("\r\n");
      expect(status).toBe("HTTP/1.1 103 Early Hints");
      return lines.flatMap((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]);
    });
  },
  "2": async (authority: string, path: string): Promise<string[][]> => {
    const session = await sessionThrough(house.port, authority, house.ca);
    const stream = session.request({ ":path": path });
    const seen: string[][] = [];
    let status = 0;
    stream.on("headers", (headers, _flags, raw?: string[]) => {
      expect(headers[":status"]).toBe(103);
      seen.push(raw ?? []);
    });
    stream.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    stream.resume();
    await new Promise((done) => stream.once("close", done));
    session.close();
    expect(status).toBe(200);
    return seen;
  },
};

describe.each(["1.1", "2"] as const)("a client of HTTP/%s", (version) => {
  describe.each([
    ["1.1", () => h1.port],
    ["2", () => h2.port],
  ] as const)("and an origin of HTTP/%s: a 103", (origin, port) => {
    test.each(
      Object.entries(CASES)
        .filter(([, { onlyHttp1 }]) => origin === "1.1" || onlyHttp1 !== true)
        .map(([path, c]) => [c.what, path, c] as const),
    )("%s", async (_what, path, { gets, notes }) => {
      const seen = await CLIENTS[version](`127.0.0.1:${port()}`, path);
      expect(seen.map((flat) => told(flat).fields)).toEqual(gets === null ? [] : [gets]);
      for (const flat of seen) expect(told(flat).via).toMatch(new RegExp(`^${origin.replace(".", "\\.")} `));
      const [record] = await house.recordsWhere(
        (r) => r.kind === "exchange" && r.path === path && r.port === port() && r.clientProtocol === version,
      );
      expect(record).toMatchObject({ status: 200, reason: null, originProtocol: origin });
      expect(record?.notes).toEqual(notes);
    });
  });
});
