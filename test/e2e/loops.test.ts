// Proxies that name each other as the next one: a CONNECT that has been here before is refused, recorded, and goes no further.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { startHouse } from "../../src/roles/house.ts";
import { startDns, type TestDns } from "../support/dns.ts";
import { freePort } from "../support/free-port.ts";
import { startTestHouse, TestHouse } from "../support/house.ts";
import { openSocket, startTls } from "./scene.ts";

/** What a house of a ring does with a CONNECT before it asks the next one. */
type Manner = "tunnels" | "intercepts";

const houses: TestHouse[] = [];
let dns: TestDns | null = null;
afterEach(async () => {
  await Promise.all(houses.splice(0).map((house) => house.close()));
  await dns?.close();
  dns = null;
});

/** Houses in a ring, the first first: each asks the next one, and the last one the first. */
async function startRing(manners: readonly Manner[]): Promise<TestHouse[]> {
  const ports = await Promise.all(manners.map(freePort));
  const own = await startDns((_name, type) => ({ addresses: type === "A" ? ["127.0.0.1"] : [] }));
  dns = own;
  let roots = "";
  // The last one first: who intercepts must trust the CA of the next one.
  for (let i = manners.length - 1; i >= 0; i--) {
    const dir = mkdtempSync(join(tmpdir(), "sallyport-ring-"));
    const next = `via: "http://127.0.0.1:${ports[(i + 1) % ports.length]}"`;
    const how = manners[i] === "tunnels" ? "tunnel: { reason: ring, without-sni: allow }, " : "";
    writeFileSync(join(dir, "roots.pem"), roots);
    writeFileSync(
      join(dir, "policy.yaml"),
      `version: 1
${roots === "" ? "" : "tls: { roots: [roots.pem] }\n"}network: { allow: [127.0.0.0/8] }
rules:
  - { id: ring, allow: ["https://round.test"], ${how}${next} }
`,
    );
    const listen = `127.0.0.1:${ports[i]}`;
    const flags = { listen, admin: "127.0.0.1:0", data: join(dir, "data"), ca: join(dir, "ca"), logLevel: "error" };
    const resolver = { servers: [own.server], deadline: 3_000 };
    const house = await startHouse({ configFiles: [join(dir, "policy.yaml")], flags, env: process.env, resolver });
    houses.unshift(new TestHouse(dir, house));
    roots = readFileSync(house.facts.caFile, "utf8");
  }
  return [...houses];
}

/** CONNECT, and behind an interception a request: the status of whichever is refused. */
async function go(port: number, ca: string): Promise<number> {
  const outer = await openSocket(port, "127.0.0.9");
  outer.send("CONNECT round.test:443 HTTP/1.1\r\nHost: round.test:443\r\n\r\n");
  const { status } = await outer.response();
  if (status !== 200) {
    outer.destroy();
    return status;
  }
  outer.socket.removeAllListeners("data");
  const inner = await startTls(outer.socket, { ca, servername: "round.test" });
  inner.send("GET / HTTP/1.1\r\nHost: round.test\r\n\r\n");
  const response = await inner.response();
  inner.destroy();
  return response.status;
}

describe("a ring of", () => {
  test.each<[string, Manner[]]>([
    ["two that tunnel", ["tunnels", "tunnels"]],
    ["three that tunnel: the chain of Via is kept", ["tunnels", "tunnels", "tunnels"]],
    ["one that intercepts and one that tunnels", ["intercepts", "tunnels"]],
    ["one that tunnels and one that intercepts", ["tunnels", "intercepts"]],
    ["two that intercept", ["intercepts", "intercepts"]],
    ["three, the last of which tunnels", ["intercepts", "intercepts", "tunnels"]],
    ["three, the last of which intercepts", ["tunnels", "tunnels", "intercepts"]],
  ])("%s: refused where it comes round, each passed once", async (_name, manners) => {
    const ring = await startRing(manners);
    const [first, ...others] = ring as [TestHouse, ...TestHouse[]];
    // TLS ends at the first that intercepts.
    const opener = ring[manners.indexOf("intercepts")] ?? first;
    expect(await go(first.port, opener.ca)).toBe(502);
    const connects = await first.recordsWhere((r) => r.kind === "connect", 2);
    const loops = connects.filter((r) => r.reason === "loop");
    expect(loops).toHaveLength(1);
    expect(loops[0]).toMatchObject({ decision: "deny", status: 502, host: "round.test", rule: "ring" });
    for (const house of others) {
      const [only] = await house.recordsWhere((r) => r.kind === "connect");
      expect(only?.reason).not.toBe("loop");
    }
  });
});

describe("Via of a CONNECT", () => {
  /** Answers every CONNECT with 502 and keeps its head. */
  async function startNext(): Promise<{ port: number; heads: string[]; close(): void }> {
    const heads: string[] = [];
    const server = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (b) => {
        heads.push(b.toString("latin1"));
        socket.end("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n");
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return { port: (server.address() as net.AddressInfo).port, heads, close: () => server.close() };
  }
  const viaIn = (head: string | undefined): string | undefined => /^Via: (.*)\r$/m.exec(head ?? "")?.[1];

  test("goes on with ourselves at its end; who brings it back is refused; the policy comes first", async () => {
    const next = await startNext();
    const house = await startTestHouse({
      policy: `network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: ["127.0.0.1:8443"], tunnel: { reason: test }, via: "http://127.0.0.1:${next.port}" }
  - { id: opened, allow: ["127.0.0.1:9443"] }
`,
    });
    houses.push(house);
    const ask = async (authority: string, fields: string): Promise<[number, string | undefined]> => {
      const client = await openSocket(house.port, "127.0.0.9");
      client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`);
      const response = await client.response();
      client.destroy();
      return [response.status, /reason=([a-z-]+)/.exec(response.fields["x-sallyport-decision"] ?? "")?.[1]];
    };
    expect(await ask("127.0.0.1:8443", "")).toEqual([502, "next-proxy-refused"]);
    const own = viaIn(next.heads[0]);
    expect(own).toMatch(/^1\.1 sallyport-[0-9a-f]{10}$/);
    const others = "1.0 fred, 1.1 p.example (sallyport-0123456789)";
    expect(await ask("127.0.0.1:8443", `Via: 1.0 fred\r\nvia: 1.1 p.example (sallyport-0123456789)\r\n`)).toEqual([
      502,
      "next-proxy-refused",
    ]);
    expect(viaIn(next.heads[1])).toBe(`${others}, ${own}`);
    const back = `Via: 1.1 other\r\nVIA: ${own}, 1.1 third\r\n`;
    expect(await ask("127.0.0.1:8443", back)).toEqual([502, "loop"]);
    expect(await ask("127.0.0.1:9443", back)).toEqual([502, "loop"]);
    expect(await ask("127.0.0.1:7443", back)).toEqual([403, "not-allowed"]);
    expect(next.heads).toHaveLength(2);
    next.close();
  });
});
