// Names and addresses (pitfalls H1 to H21, B1 to B13): one spelling for the decision and the dial, every answer of the name
// server checked, and the names of CONNECT, SNI and Host agreeing.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { zone } from "../support/dns.ts";
import { type Scene, startScene } from "./scene.ts";

let scene: Scene;
let rebound = 0;
beforeAll(async () => {
  scene = await startScene(({ plain, secure }) => {
    const both = (host: string): string => `"${host}:${plain}", "${host}:${secure}"`;
    return {
      policy: `network: { allow: [127.0.0.1/32] }
rules:
  - { id: no-evil, deny: [${both("evil.test")}, ${both("*.evil.test")}, "evil.test"] }
  - { id: named, allow: [${both("o.test")}, ${both("xn--bcher-kva.test")}, ${both("mixed.test")}, ${both("private.test")}, ${both("rebind.test")}, ${both("dead.test")}, ${both("sub.evil.test")}] }
  - { id: wild, allow: [${both("*.w.test")}] }
  - { id: default-ports, allow: ["p.test"] }
  - { id: metadata, allow: ["metadata.google.internal", "169.254.169.254", ${both("meta.test")}] }
  - { id: literals, allow: [${both("127.0.0.1")}, ${both("10.0.0.1")}, ${both("[::1]")}, ${both("0.0.0.0")}, ${both("[::ffff:7f00:1]")}, ${both("[64:ff9b::7f00:1]")}, ${both("[2002:7f00:1::]")}] }
`,
      dns: (name, type, count) => {
        if (name === "rebind.test")
          return { addresses: type === "A" ? [rebound++ > 0 ? "10.0.0.9" : "127.0.0.1"] : [], ttl: 0 };
        if (name === "dead.test") return null;
        const table = zone({
          "mixed.test": ["127.0.0.1", "10.1.2.3"],
          "private.test": ["192.168.1.1"],
          "meta.test": ["169.254.169.254"],
          "mapped.w.test": ["::ffff:a00:1"],
          "nat64.w.test": ["64:ff9b::a00:1"],
          "loop6.w.test": ["::1"],
          "metadata.google.internal": ["127.0.0.1"],
        })(name, type, count);
        return table?.code === "nxdomain" ? undefined : table;
      },
    };
  });
});
afterAll(() => scene.close());

interface Answer {
  readonly status: number;
  readonly reason: string | null;
  readonly ms: number;
  readonly records: readonly AuditRecord[];
}

/** One CONNECT, or one request in absolute form. */
async function ask(line: string, host = "x.test"): Promise<Answer> {
  const address = scene.newAddress();
  const client = await scene.open(address);
  const began = performance.now();
  const text = line
    .replaceAll("PLAIN", String(scene.plain.port))
    .replaceAll("TLS", String(scene.secure.port))
    .replaceAll("SELF", String(scene.house.port))
    .replaceAll("ADMIN", String(scene.house.adminPort));
  client.send(`${text} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  // The answer to CONNECT has no content, whatever it says.
  const head = await client.until((t) => t.includes("\r\n\r\n"));
  const ms = performance.now() - began;
  const reason = /X-Sallyport-Decision: .*reason=([a-z-]+)/i.exec(head)?.[1] ?? null;
  client.destroy();
  return { status: Number(head.slice(9, 12)), reason, ms, records: await recordsOf(address) };
}

async function recordsOf(address: string): Promise<AuditRecord[]> {
  return (await scene.house.recordsWhere((r) => r.address === address)).filter((r) => r.address === address);
}

describe.concurrent("CONNECT targets", () => {
  test.each([
    // H1, H2, H7
    ["CONNECT O.Test:TLS", 200, null],
    ["CONNECT o.test.:TLS", 200, null],
    ["CONNECT EVIL.test.:TLS", 403, "not-allowed"],
    ["CONNECT o.test..:TLS", 400, "malformed-request"],
    ["CONNECT .o.test:TLS", 400, "malformed-request"],
    ["CONNECT xn--bcher-kva.test:TLS", 200, null],
    ["CONNECT XN--BCHER-KVA.test:TLS", 200, null],
    ["CONNECT xn--a.test:TLS", 400, "malformed-request"],
    // H3, H4, H5, H6
    ["CONNECT [o.test]:TLS", 400, "malformed-request"],
    ["CONNECT [127.0.0.1]:TLS", 400, "malformed-request"],
    ["CONNECT [::1]:TLS", 403, "address-prohibited"],
    ["CONNECT ::1:TLS", 400, "malformed-request"],
    ["CONNECT o.test", 400, "malformed-request"],
    ["CONNECT o.test:", 400, "malformed-request"],
    ["CONNECT o.test:443:80", 400, "malformed-request"],
    ["CONNECT http://o.test/", 400, "malformed-request"],
    ["CONNECT o.test:0", 400, "malformed-request"],
    ["CONNECT o.test:65536", 400, "malformed-request"],
    ["CONNECT o.test:+443", 400, "malformed-request"],
    ["CONNECT o.test:0443", 400, "malformed-request"],
    ["CONNECT *", 400, "malformed-request"],
    ["CONNECT /", 400, "malformed-request"],
    ["CONNECT evil.test%00.o.test:TLS", 400, "malformed-request"],
    ["CONNECT user@o.test:TLS", 400, "malformed-request"],
    ["CONNECT o.test\\@evil.test:TLS", 400, "malformed-request"],
    // H10: every spelling of an address is that address
    ["CONNECT 127.1:TLS", 200, null],
    ["CONNECT 0x7f000001:TLS", 200, null],
    ["CONNECT 2130706433:TLS", 200, null],
    ["CONNECT 017700000001:TLS", 200, null],
    ["CONNECT 0177.0.0.1:TLS", 200, null],
    ["CONNECT 127.0.0.1.:TLS", 200, null],
    ["CONNECT 10.1:TLS", 403, "address-prohibited"],
    ["CONNECT 0xa000001:TLS", 403, "address-prohibited"],
    ["CONNECT 256.0.0.1:TLS", 400, "malformed-request"],
    // H11, H12, H13, H14
    ["CONNECT 0:TLS", 403, "address-prohibited"],
    ["CONNECT 0.0.0.0:TLS", 403, "address-prohibited"],
    ["CONNECT [::ffff:127.0.0.1]:TLS", 403, null],
    ["CONNECT [64:ff9b::7f00:1]:TLS", 403, "address-prohibited"],
    ["CONNECT [2002:7f00:1::]:TLS", 403, "address-prohibited"],
    ["CONNECT [fe80::1%25eth0]:TLS", 400, "malformed-request"],
    ["CONNECT [::1%lo]:TLS", 400, "malformed-request"],
    // H19, H20, H21, O13
    ["CONNECT w.test:TLS", 403, "not-allowed"],
    ["CONNECT a.w.test:TLS", 200, null],
    ["CONNECT a.b.w.test:TLS", 200, null],
    ["CONNECT evilw.test:TLS", 403, "not-allowed"],
    ["CONNECT w.test.evil:TLS", 403, "not-allowed"],
    ["CONNECT sub.evil.test:TLS", 403, "not-allowed"],
    ["CONNECT p.test:443", 200, null],
    ["CONNECT p.test:8443", 403, "not-allowed"],
    ["CONNECT 127.0.0.2:TLS", 403, "not-allowed"],
  ])("%s is answered %i", async (line, status, reason) => {
    const answer = await ask(line);
    expect(answer.status).toBe(status);
    if (status !== 200 && reason !== null) expect(answer.reason).toBe(reason);
    expect(answer.records).toHaveLength(1);
    expect(answer.records[0]).toMatchObject({ decision: status === 200 ? "allow" : "deny", status });
    expect(answer.records[0]?.kind).toBe(reason === "malformed-request" ? "connection" : "connect");
  });
});

test("a denied CONNECT is answered at once (O10)", async () => {
  const times: number[] = [];
  for (let i = 0; i < 10; i++) times.push((await ask("CONNECT evil.test:TLS")).ms);
  expect(Math.min(...times)).toBeLessThan(50);
});

describe.concurrent("absolute targets", () => {
  test.each([
    // H8, H9
    ["GET http://user:pw@o.test:PLAIN/x1", 400, "malformed-request"],
    ["GET http://o.test:PLAIN\\@evil.test/x2", 400, "malformed-request"],
    ["GET http://o.test:PLAIN#@evil.test/x3", 400, "malformed-request"],
    ["GET http://user@o.test:80@evil.test/x4", 400, "malformed-request"],
    ["GET http://o%2etest:PLAIN/x5", 400, "malformed-request"],
    ["GET http:///x6", 400, "malformed-request"],
    ["GET http://:PLAIN/x7", 400, "malformed-request"],
    ["GET ftp://o.test/x8", 400, "malformed-request"],
    ["GET HTTP://O.TEST:PLAIN/y1", 200, null],
    // H15, H16
    ["GET http://metadata.google.internal/y2", 403, "address-prohibited"],
    ["GET http://169.254.169.254/y3", 403, "address-prohibited"],
    ["GET http://meta.test:PLAIN/y4", 403, "address-prohibited"],
    ["GET http://mixed.test:PLAIN/y5", 403, "address-prohibited"],
    ["GET http://private.test:PLAIN/y6", 403, "address-prohibited"],
    ["GET http://mapped.w.test:PLAIN/y7", 403, "address-prohibited"],
    ["GET http://nat64.w.test:PLAIN/y8", 403, "address-prohibited"],
    ["GET http://loop6.w.test:PLAIN/y9", 403, "address-prohibited"],
    ["GET http://dead.test:PLAIN/y10", 504, "origin-dns-timeout"],
  ])("%s is answered %i", async (line, status, reason) => {
    const before = scene.plain.text().length;
    const answer = await ask(line);
    expect(answer.status).toBe(status);
    if (reason !== null) expect(answer.reason).toBe(reason);
    expect(answer.records).toHaveLength(1);
    if (status === 403) expect(answer.records[0]).toMatchObject({ kind: "exchange", decision: "deny", reason });
    if (status === 504) expect(answer.records[0]).toMatchObject({ decision: "allow", reason });
    const path = line.slice(line.lastIndexOf("/"));
    if (status !== 200) expect(scene.plain.text().slice(before)).not.toContain(` ${path} HTTP`);
  });
});

test("a name that is rebound between two requests is checked again, and dialled where it was checked (H16)", async () => {
  const first = await ask("GET http://rebind.test:PLAIN/r1");
  expect(first.status).toBe(200);
  expect(first.records[0]?.origin?.address).toBe("127.0.0.1");
  expect(scene.dns.questions.filter((q) => q === "A rebind.test")).toHaveLength(1);
  const second = await ask("GET http://rebind.test:PLAIN/r2");
  expect([second.status, second.reason]).toEqual([403, "address-prohibited"]);
});

describe("names that must agree", () => {
  const get = (host: string, path: string): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  test.each([
    ["B1 the same", "o.test", "o.test:TLS", 200],
    ["B2 another SNI", "other.test", "o.test:TLS", 421],
    ["B3 another Host", "o.test", "other.test:TLS", 421],
    ["B4 no SNI", "", "o.test:TLS", 200],
    ["B6 a dot and capitals", "o.test", "O.TEST.:TLS", 200],
    ["B6 another port", "o.test", "o.test:8443", 421],
    ["B6 no port, where another is meant", "o.test", "o.test", 421],
    ["C12 SNI in capitals", "O.TEST", "o.test:TLS", 200],
    ["C12 SNI with a dot", "o.test.", "o.test:TLS", 200],
  ])("%s", async (name, servername, host, status) => {
    const address = scene.newAddress();
    const authority = `o.test:${scene.secure.port}`;
    const client = await scene.secured(authority, address, {
      servername,
      host: "o.test",
      checkServerIdentity: () => undefined,
    });
    const path = `/b-${name.replaceAll(/\W/g, "-")}`;
    client.send(get(host.replace("TLS", String(scene.secure.port)), path));
    expect((await client.response()).status).toBe(status);
    // The connection is kept; a wrong SNI stays wrong.
    client.send(get(authority, "/after"));
    expect((await client.response()).status).toBe(name.startsWith("B2") ? 421 : 200);
    expect(scene.secure.text().includes(path)).toBe(status === 200);
    const [record] = await scene.house.recordsWhere((r) => r.path === path);
    expect(record).toMatchObject(
      status === 200 ? { decision: "allow" } : { decision: "deny", reason: "misdirected", status: 421 },
    );
    client.destroy();
  });

  test("B5 CONNECT to an address with a name in SNI: both must be allowed, and the name is verified", async () => {
    const authority = `127.0.0.1:${scene.secure.port}`;
    const good = await scene.secured(authority, undefined, { servername: "o.test" });
    good.send(get(`o.test:${scene.secure.port}`, "/b5"));
    expect((await good.response()).status).toBe(200);
    good.destroy();
    const bad = await scene.secured(authority, undefined, { servername: "evil.test" });
    bad.send(get(`evil.test:${scene.secure.port}`, "/b5-evil"));
    expect((await bad.response()).status).toBe(403);
    expect(scene.secure.text()).not.toContain("/b5-evil");
    bad.destroy();
  });
});

describe("the proxy itself (H18, O12)", () => {
  let open: Scene;
  beforeAll(async () => {
    open = await startScene();
  });
  afterAll(() => open.close());

  test.each([
    ["127.0.0.1", "/z1"],
    ["localhost", "/z2"],
    ["self.test", "/z3"],
    ["2130706433", "/z4"],
    ["127.1", "/z5"],
  ])("%s on its own ports is refused", async (host, path) => {
    for (const port of [open.house.port, open.house.adminPort]) {
      const address = open.newAddress();
      const client = await open.open(address);
      client.send(`GET http://${host}:${port}${path} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
      const response = await client.response();
      expect(response.status).toBe(403);
      expect(response.fields["x-sallyport-decision"]).toMatch(/reason=address-prohibited$/);
      client.destroy();
      const inner = await open.open(address);
      inner.send(`CONNECT ${host}:${port} HTTP/1.1\r\nHost: x\r\n\r\n`);
      const head = await inner.until((text) => text.includes("\r\n\r\n"));
      if (!head.startsWith("HTTP/1.1 403")) {
        // A name is resolved when there is a request to dial for.
        inner.take();
        inner.send(`GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
        expect((await inner.response()).status).toBe(403);
      }
      inner.destroy();
    }
  });
});
