// Where a request goes besides its own origin: `to`, `via`, `redirect`; what is put into it and taken out; who may ask, and
// report mode. Secrets reach the origin and nobody else.
import net from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { origins } from "../support/origin.ts";
import type { RawConnection, RawResponse } from "../support/raw-client.ts";
import { type Scene, startScene, startTls } from "./scene.ts";

const SECRET = "s3cr3t-t0ken-9";
const NEXT = "n3xt-pa55:word";
/** Nothing listens here. */
const GONE = 1;
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

/** A small next proxy: CONNECT and absolute-form, with or without a password; records the heads it gets. */
interface NextProxy {
  readonly port: number;
  readonly heads: string[];
  close(): void;
}
async function startNextProxy(
  password: string | null,
  certificate?: { key: string; cert: string },
  /** What it says instead of forwarding to this target; null: it forwards. */
  refuse: (target: string) => string | null = () => null,
): Promise<NextProxy> {
  const heads: string[] = [];
  const serve = (client: net.Socket): void => {
    client.on("error", () => {});
    client.once("data", (b: Buffer) => {
      const head = b.toString("latin1");
      heads.push(head);
      if (password !== null && !head.includes(`Proxy-Authorization: ${basic("me", password)}\r\n`)) {
        client.end("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n");
        return;
      }
      const target = head.split(" ")[1] as string;
      const refusal = refuse(target);
      if (refusal !== null) return client.write(refusal);
      const port = Number(/:(\d+)(?:\/|$)/.exec(target)?.[1]);
      const origin = net.connect(port, "127.0.0.1", () => {
        if (head.startsWith("CONNECT ")) client.write("HTTP/1.1 200 OK\r\nX-Next: 1\r\n\r\n");
        else origin.write(head.replace(/^(\S+) http:\/\/[^/]+/, "$1 "));
        client.pipe(origin).pipe(client);
      });
      origin.on("error", () => client.destroy());
    });
  };
  const server = certificate === undefined ? net.createServer(serve) : tls.createServer(certificate, serve);
  const sockets = new Set<net.Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    port: (server.address() as net.AddressInfo).port,
    heads,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

let scene: Scene;
let plainNext: NextProxy;
let openNext: NextProxy;
let secureNext: NextProxy;
/** Has IPv6 only, and an opinion of some origins. */
let sixNext: NextProxy;

const NO_ROUTE = "HTTP/1.1 503 No route\r\nContent-Length: 0\r\n\r\n";
/** The names whose first address a next proxy of IPv6 cannot reach, and what it says to it. */
const FOUR: Readonly<Record<string, readonly [address: string, answer: string]>> = {
  "six.test": ["127.0.0.1", NO_ROUTE],
  "mute.test": ["127.0.0.2", ""],
  "firm.test": ["127.0.0.3", NO_ROUTE.replace("503", "403")],
};

beforeAll(async () => {
  plainNext = await startNextProxy(NEXT);
  openNext = await startNextProxy(null, undefined, (target) => (target.includes("[") ? NO_ROUTE : null));
  sixNext = await startNextProxy(null, undefined, (target) => {
    return Object.values(FOUR).find(([address]) => target.startsWith(`${address}:`))?.[1] ?? null;
  });
  secureNext = await startNextProxy(NEXT, new TestCa().leaf("next.test"));
  scene = await startScene(({ plain, secure }) => ({
    env: { TOKEN: SECRET, NEXT },
    policy: `server: { connect-timeout: 4s }
network: { allow: [127.0.0.0/8, "fd00::/8"] }
secrets: { token: { env: TOKEN }, next: { env: NEXT } }
clients:
  alice: { password: "wonder:land@1" }
  bob: { password: other }
rules:
  - { id: to-set, allow: ["http://front.test/set/**"], to: "https://o.test:${secure}" }
  - { id: to-keep, allow: ["http://front.test/keep/**"], to: { url: "http://o.test:${plain}", host: keep } }
  - { id: to-closed, allow: ["http://front.test/closed/**"], to: "http://closed.test:${plain}" }
  - { id: next, allow: ["next-plain.test:${plain}", "next-plain.test:${secure}"], via: { url: "http://next.test:${plainNext.port}", username: me, password: "\${secret:next}" } }
  - { id: next-here, allow: ["here.test:${plain}", "here.test:${secure}"], via: { url: "http://next.test:${openNext.port}", resolve: here } }
  - { id: next-six, allow: ["six.test:${secure}", "mute.test:${secure}", "firm.test:${secure}"], via: { url: "http://next.test:${sixNext.port}", resolve: here } }
  - { id: next-tls, allow: ["next-tls.test:${plain}", "next-tls.test:${secure}"], via: { url: "https://next.test:${secureNext.port}", username: me, password: "\${secret:next}" } }
  - { id: next-wrong, allow: ["wrong.test:${plain}", "wrong.test:${secure}"], via: { url: "http://next.test:${plainNext.port}", username: me, password: nope } }
  - { id: next-pinned, allow: ["pinned.test:${secure}"], tunnel: { reason: pins }, via: { url: "http://next.test:${plainNext.port}", username: me, password: nope } }
  - { id: next-gone, allow: ["http://gone.test"], to: "http://o.test:${plain}", via: "http://next.test:${GONE}" }
  - { id: next-closed, allow: ["closed.test:${plain}"], via: "http://next.test:${openNext.port}" }
  - { id: moved, allow: ["http://old.test"], redirect: { status: 308, to: "https://new.test/docs" } }
  - id: edited
    allow: ["o.test:${plain}/edited/**", "o.test:${secure}/edited/**"]
    headers: { set: { authorization: "Bearer \${secret:token}", x-one: "1" }, append: { x-two: "b" }, remove: [cookie], response: { set: { x-seen: "yes" }, remove: [server] } }
    record: { fields: [authorization, x-one, user-agent] }
  - { id: reported, mode: report, deny: ["o.test:${plain}/reported/**", "o.test:${secure}/reported/**"] }
  - { id: alices, who: alice, allow: ["o.test:${plain}/alice/**", "o.test:${secure}/alice/**"] }
  - { id: all, allow: ["o.test:${plain}/free", "o.test:${plain}/set/*", "o.test:${plain}/path-*", "o.test:${plain}/reported/*"] }
`,
    dns: (name, type) => {
      if (name === "closed.test") return { addresses: ["10.0.0.1"] };
      const four = name === "here.test" ? "127.0.0.1" : FOUR[name]?.[0];
      return four === undefined ? undefined : { addresses: type === "A" ? [four] : type === "AAAA" ? ["fd00::1"] : [] };
    },
  }));
});
afterAll(async () => {
  await scene.close();
  for (const next of [plainNext, openNext, secureNext, sixNext]) next.close();
});

async function plainly(url: string, fields = ""): Promise<{ response: RawResponse; records: AuditRecord[] }> {
  const address = scene.newAddress();
  const client = await scene.open(address);
  client.send(`GET ${url} HTTP/1.1\r\nHost: ${new URL(url).host}\r\n${fields}\r\n`);
  const response = await client.response();
  client.destroy();
  return { response, records: await scene.house.recordsWhere((r) => r.address === address && r.kind === "exchange") };
}
async function inTls(host: string, path: string): Promise<{ response: RawResponse; records: AuditRecord[] }> {
  const address = scene.newAddress();
  const client = await scene.secured(`${host}:${scene.secure.port}`, address, { servername: host });
  client.send(`GET ${path} HTTP/1.1\r\nHost: ${host}:${scene.secure.port}\r\n\r\n`);
  const response = await client.response();
  client.destroy();
  return { response, records: await scene.house.recordsWhere((r) => r.address === address && r.kind === "exchange") };
}
const reasonOf = (r: RawResponse): string | undefined =>
  /reason=([a-z-]+)/.exec(r.fields["x-sallyport-decision"] ?? "")?.[1];

describe("to", () => {
  test("Host is set to the new origin, over TLS; both are recorded", async () => {
    const { response, records } = await plainly("http://front.test/set/a");
    expect(response.content).toBe("hello");
    expect(scene.got("/set/a")).toContain(`Host: o.test:${scene.secure.port}\r\n`);
    expect(records[0]).toMatchObject({
      host: "front.test",
      port: 80,
      scheme: "http",
      rule: "to-set",
      origin: { to: `https://o.test:${scene.secure.port}`, address: "127.0.0.1" },
    });
  });
  test("Host is kept", async () => {
    await plainly("http://front.test/keep/a");
    expect(scene.got("/keep/a")).toContain("Host: front.test\r\n");
  });
  test("the new target's address is checked (H17)", async () => {
    const { response, records } = await plainly("http://front.test/closed/a");
    expect([response.status, reasonOf(response)]).toEqual([403, "address-prohibited"]);
    expect(records[0]).toMatchObject({ decision: "deny", reason: "address-prohibited" });
  });
});

describe("via", () => {
  test.each([
    [
      "http, absolute-form",
      () => plainly(`http://next-plain.test:${scene.plain.port}/v1`),
      () => plainNext,
      `GET http://next-plain.test:PLAIN/v1 HTTP/1.1`,
      "http",
    ],
    [
      "http, CONNECT",
      () => inTls("next-plain.test", "/v2"),
      () => plainNext,
      "CONNECT next-plain.test:TLS HTTP/1.1",
      "http",
    ],
    [
      "https, absolute-form",
      () => plainly(`http://next-tls.test:${scene.plain.port}/v3`),
      () => secureNext,
      `GET http://next-tls.test:PLAIN/v3 HTTP/1.1`,
      "https",
    ],
    [
      "https, CONNECT",
      () => inTls("next-tls.test", "/v4"),
      () => secureNext,
      "CONNECT next-tls.test:TLS HTTP/1.1",
      "https",
    ],
  ])("a next proxy by %s: by name, with credentials", async (_name, ask, next, line, scheme) => {
    const { response, records } = await ask();
    expect([response.status, response.content]).toEqual([200, "hello"]);

    const expected = line.replace("PLAIN", String(scene.plain.port)).replace("TLS", String(scene.secure.port));
    const head = next().heads.find((h) => h.startsWith(expected));
    expect(head).toContain(`Proxy-Authorization: ${basic("me", NEXT)}\r\n`);
    expect(records[0]?.origin).toMatchObject({
      via: `${scheme}://next.test:${next().port}`,
      resolvedBy: "next-proxy",
      address: null,
    });
    expect(JSON.stringify(records)).not.toContain(NEXT);
    expect(JSON.stringify(records)).not.toContain(basic("me", NEXT).slice(6));
  });
  test.each([
    ["absolute-form", () => plainly(`http://here.test:${scene.plain.port}/h1`), "GET http://127.0.0.1:"],
    ["CONNECT", () => inTls("here.test", "/h2"), "CONNECT 127.0.0.1:"],
  ])("`resolve: here` sends the checked address in %s; Host and TLS keep the name", async (_name, ask, line) => {
    const { response, records } = await ask();
    expect(response.status).toBe(200);
    expect(openNext.heads.some((h) => h.startsWith(line))).toBe(true);
    expect(scene.got("/h1") + scene.got("/h2")).toContain("Host: here.test:");
    expect(records[0]?.origin).toMatchObject({ resolvedBy: "here" });
  });
  test.each([
    ["refuses", "six.test", 200, null],
    ["says nothing", "mute.test", 200, null],
    ["forbids", "firm.test", 502, "next-proxy-refused"],
  ])("the next address where a next proxy has another family (it %s)", async (_name, host, status, reason) => {
    const { response, records } = await inTls(host, `/${host}`);
    expect([response.status, records[0]?.reason]).toEqual([status, reason]);
    const asked = sixNext.heads.filter((h) => h.startsWith("CONNECT "));
    sixNext.heads.length = 0;
    const to = (address: string): string => `CONNECT ${address}:${scene.secure.port} HTTP/1.1`;
    const expected = [to(FOUR[host]?.[0] as string), ...(status === 200 ? [to("[fd00::1]")] : [])];
    expect(asked.map((h) => h.split("\r\n")[0])).toEqual(expected);
  });
  test.each([
    ["absolute-form", () => plainly(`http://wrong.test:${scene.plain.port}/w1`)],
    ["CONNECT", () => inTls("wrong.test", "/w2")],
  ])("wrong credentials in %s are 502, never a 407 of somebody else", async (_name, ask) => {
    const { response, records } = await ask();
    expect([response.status, reasonOf(response)]).toEqual([502, "next-proxy-refused"]);
    const error = "the next proxy wants other credentials";
    expect(records[0]).toMatchObject({ decision: "allow", reason: "next-proxy-refused", error });
    expect(records[0]?.origin?.via).toBe(`http://next.test:${plainNext.port}`);
  });
  test("a next proxy that refuses a blind tunnel is named in its record", async () => {
    const address = scene.newAddress();
    const client = await scene.open(address);
    const authority = `pinned.test:${scene.secure.port}`;
    client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    expect((await client.response()).status).toBe(502);
    client.destroy();
    const [record] = await scene.house.recordsWhere((r) => r.address === address);
    expect(record).toMatchObject({ kind: "connect", decision: "allow", reason: "next-proxy-refused" });
    const via = `http://next.test:${plainNext.port}`;
    expect(record?.origin).toMatchObject({ via, address: null, port: scene.secure.port, resolvedBy: "next-proxy" });
    expect(JSON.stringify(record)).not.toContain("nope");
  });
  test("a next proxy that nobody answers for is named in the record, and so is where it was to lead", async () => {
    const { response, records } = await plainly("http://gone.test/g");
    expect([response.status, reasonOf(response)]).toEqual([502, "origin-refused"]);
    const to = `http://o.test:${scene.plain.port}`;
    expect(records[0]?.origin).toMatchObject({ via: `http://next.test:${GONE}`, to, address: null });
  });
  test("the name is checked here, too", async () => {
    const before = openNext.heads.length;
    const { response } = await plainly(`http://closed.test:${scene.plain.port}/c`);
    expect([response.status, reasonOf(response)]).toEqual([403, "address-prohibited"]);
    expect(openNext.heads).toHaveLength(before);
  });
});

test("a redirect tells where to go, with path and query, and asks nobody", async () => {
  const { response, records } = await plainly("http://old.test/a/b?c=d");
  expect(response.status).toBe(308);
  expect(response.fields.location).toBe("https://new.test/docs/a/b?c=d");
  expect(records[0]).toMatchObject({ decision: "allow", rule: "moved", status: 308, origin: null });
});

describe("fields", () => {
  test.each(["plain", "intercepted"])("set, appended and removed in both directions (%s)", async (way) => {
    scene.scripts.set(`/edited/${way}`, origins.text("hello", "Server: x\r\n"));
    const address = scene.newAddress();
    const port = way === "plain" ? scene.plain.port : scene.secure.port;
    const client = way === "plain" ? await scene.open(address) : await scene.secured(`o.test:${port}`, address);
    const target = way === "plain" ? `http://o.test:${port}/edited/${way}` : `/edited/${way}`;
    client.send(
      `GET ${target} HTTP/1.1\r\nHost: o.test:${port}\r\nCookie: a=b\r\nX-One: 9\r\nAuthorization: Basic b2xk\r\nX-One: 8\r\nX-Two: a\r\nUser-Agent: me\r\n\r\n`,
    );
    const response = await client.response();
    client.destroy();
    const got = scene.got(`/edited/${way}`);
    expect(got).toMatch(
      new RegExp(
        `\\r\\nX-One: 1\\r\\nAuthorization: Bearer ${SECRET}\\r\\nX-Two: a\\r\\nUser-Agent: me\\r\\nVia: [^\\r]+\\r\\nx-two: b\\r\\n\\r\\n$`,
      ),
    );
    expect(got).not.toMatch(/cookie|b2xk/i);
    expect(response.fields["x-seen"]).toBe("yes");
    expect(response.fields.server).toBeUndefined();
    const [record] = await scene.house.recordsWhere((r) => r.address === address && r.kind === "exchange");
    const text = JSON.stringify(record);
    expect(text).not.toContain(SECRET);
    expect(text).not.toContain("b2xk");
    expect(record?.requestFields).toContain("me");
  });
  test("Connection cannot name what we put in (F14)", async () => {
    const { response } = await plainly(`http://o.test:${scene.plain.port}/edited/no`, "Connection: x-one\r\n");
    expect([response.status, reasonOf(response)]).toEqual([400, "malformed-request"]);
  });
  test("a secret in a URL is not recorded, and query values are not either", async () => {
    const { records } = await plainly(`http://o.test:${scene.plain.port}/path-${SECRET}?key=value123`);
    expect(JSON.stringify(records)).not.toContain(SECRET);
    expect(JSON.stringify(records)).not.toContain("value123");
  });
});

test.each(["plain", "intercepted"])("report mode lets pass what it would deny (%s)", async (way) => {
  const { response, records } = await (way === "plain"
    ? plainly(`http://o.test:${scene.plain.port}/reported/x`)
    : inTls("o.test", "/reported/y"));
  if (way === "plain") {
    expect(response.status).toBe(200);
    expect(records[0]).toMatchObject({ decision: "would-deny", rule: "reported", status: 200 });
  } else {
    // Nothing else allows it there: a report rule never opens what was closed.
    expect(response.status).toBe(403);
    expect(records[0]).toMatchObject({ decision: "deny" });
  }
});

describe("who may ask (O3, O4, F17)", () => {
  const alice = `Proxy-Authorization: ${basic("alice", "wonder:land@1")}\r\n`;
  const get = (path: string, fields = ""): string =>
    `GET http://o.test:${scene.plain.port}${path} HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n${fields}\r\n`;

  test("407 and then the answer on the same connection; the credential never reaches the origin", async () => {
    const address = scene.newAddress();
    const client = await scene.open(address);
    const first = await client.send(get("/alice/1")).response();
    expect(first.status).toBe(407);
    expect(first.fields["proxy-authenticate"]).toMatch(/^Basic realm=/);
    expect((await client.send(get("/alice/1", alice)).response()).status).toBe(200);
    expect(scene.got("/alice/1")).not.toMatch(/proxy-authorization/i);
    expect((await client.send(get("/alice/2")).response()).status).toBe(407);
    client.destroy();
    const records = await scene.house.recordsWhere((r) => r.address === address, 3);
    expect(records.map((r) => [r.client, r.decision, r.reason])).toEqual([
      [null, "deny", "unauthenticated"],
      ["alice", "allow", null],
      [null, "deny", "unauthenticated"],
    ]);
    expect(JSON.stringify(records)).not.toContain(alice.slice(27, 40));
  });

  test.each([
    ["a wrong password", basic("alice", "nope"), 407],
    ["an unknown client", basic("mallory", "x"), 407],
    ["a scheme that nobody has", "Digest x", 407],
    ["nothing behind Basic", "Basic", 407],
    ["another client's password", basic("bob", "wonder:land@1"), 407],
  ])("%s is 407, also for what is open to everybody", async (_name, credential, status) => {
    const { response, records } = await plainly(
      `http://o.test:${scene.plain.port}/free`,
      `Proxy-Authorization: ${credential}\r\n`,
    );
    expect(response.status).toBe(status);
    expect(records[0]).toMatchObject({ decision: "deny", reason: "wrong-credential", client: null });
  });

  test("somebody else is 403, not 407", async () => {
    const { response } = await plainly(
      `http://o.test:${scene.plain.port}/set/no`,
      `Proxy-Authorization: ${basic("bob", "other")}\r\n`,
    );
    expect(response.status).toBe(200); // the last rule allows it
    const denied = await scene.open();
    denied.send(
      `CONNECT nowhere.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${basic("bob", "other")}\r\n\r\n`,
    );
    expect((await denied.response()).status).toBe(403);
    denied.destroy();
  });

  test("CONNECT again on the connection after a refused one, with another answer each time", async () => {
    const client = await scene.open();
    const ask = async (authority: string, fields = ""): Promise<number> =>
      (await client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`).response()).status;
    expect(await ask("nowhere.test:443")).toBe(403);
    expect(await ask("nowhere.test:443", `Proxy-Authorization: ${basic("alice", "nope")}\r\n`)).toBe(407);
    expect(await ask(`o.test:${scene.secure.port}`, alice)).toBe(200);
    client.socket.removeAllListeners("data");
    const inner: RawConnection = await startTls(client.socket, { ca: scene.house.ca, servername: "o.test" });
    inner.send(`GET /alice/3 HTTP/1.1\r\nHost: o.test:${scene.secure.port}\r\n\r\n`);
    expect((await inner.response()).status).toBe(200);
    inner.destroy();
  });

  test("the port of a child carries its identity, and asks for no password", async () => {
    const child = await scene.house.house.openChildPort("alice");
    const address = scene.newAddress();
    const client = await scene.open(address, child.port);
    expect((await client.send(get("/alice/4")).response()).status).toBe(200);
    client.destroy();
    const [record] = await scene.house.recordsWhere((r) => r.address === address);
    expect(record).toMatchObject({ client: "alice", decision: "allow" });
    await child.close();
    await expect(scene.open(address, child.port)).rejects.toThrow();
  });
});
