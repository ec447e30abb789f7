// `server.opaque: tunnel` and `without-sni: allow` let pass what is neither TLS nor HTTP. A client that only pretends to
// speak something else must not get past the policy by it.
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sniff } from "../../src/edge/proxy/sniff.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { tunnelThrough } from "../support/raw-client.ts";

/** A ClientHello with this SNI, in one record. */
function hello(name: string): Buffer {
  const u16 = (n: number): number[] => [n >> 8, n & 255];
  const host = [...Buffer.from(name)];
  const sni = [0, 0, ...u16(host.length + 5), ...u16(host.length + 3), 0, ...u16(host.length), ...host];
  const body = [3, 3, ...new Array(32).fill(7), 0, 0, 2, 0x13, 1, 1, 0, ...u16(sni.length), ...sni];
  const handshake = [1, 0, ...u16(body.length), ...body];
  return Buffer.from([22, 3, 1, ...u16(handshake.length), ...handshake]);
}

test.each([
  ["a ClientHello", hello("a.test"), "tls"],
  ["an alert before it", Buffer.from([21, 3, 1, 0, 2, 1, 0]), "tls"],
  ["a change of cipher before it", Buffer.from([20, 3, 3, 0, 1, 1]), "tls"],
  ["a ClientHello in the form of SSLv2", Buffer.from([0x80, 0x2e, 1, 3, 3]), "tls"],
  ["its first byte", Buffer.from([0x80]), "more"],
  ["another record", Buffer.from([0x80, 0x2e, 9]), "opaque"],
  ["a request", Buffer.from("GET / HTTP/1.1\r\n"), "http"],
  ["an empty line before it", Buffer.from("\r\nGET / HTTP/1.1\r\n"), "http"],
  ["bare line feeds before it", Buffer.from("\n\nGET / HTTP/1.1\r\n"), "http"],
  ["a method that nobody knows", Buffer.from("FETCH / HTTP/1.1\r\n"), "http"],
  ["lower case", Buffer.from("get /x http/1.1\n"), "http"],
  ["its beginning", Buffer.from("GE"), "more"],
  ["a greeting of SSH", Buffer.from("SSH-2.0-OpenSSH_9.9\r\n"), "opaque"],
  ["a greeting of SMTP", Buffer.from("EHLO there\r\n"), "opaque"],
  ["bytes", Buffer.from([0, 1, 2]), "opaque"],
])("%s", (_what, bytes, kind) => {
  expect(sniff(bytes)).toBe(kind);
});

describe("in a running house", () => {
  let origin: RawOrigin;
  let house: TestHouse;
  beforeAll(async () => {
    origin = await startRawOrigin(() => {}, {});
    house = await startTestHouse({
      policy: `server: { opaque: tunnel, header-timeout: 1s }
network: { allow: [127.0.0.0/8] }
defaults: { action: allow }
rules:
  - { id: not-there, deny: ["http://127.0.0.1:${origin.port}/secret", "https://127.0.0.1:${origin.port}/secret"] }
  - { id: pinned, allow: ["localhost:${origin.port}"], tunnel: { reason: pins, without-sni: allow } }
`,
    });
  });
  afterAll(async () => {
    await house.close();
    await origin.close();
  });
  const request = (line: string): string => `${line}\r\nHost: a.test\r\nConnection: close\r\n\r\n`;

  test.each([
    ["after silence", "", request("GET /secret HTTP/1.1")],
    ["after silence, TLS", "", hello("127.0.0.1").toString("latin1")],
    ["behind an empty line", "\r\n", request("GET /secret HTTP/1.1")],
    ["by an unknown method", "FETCH /sec", request("ret HTTP/1.1")],
    ["by an unknown method, cut before the version", "FETCH /secret HT", request("TP/1.1")],
  ])("a request gets no further inside CONNECT: %s", async (_what, first, second) => {
    const from = origin.text().length;
    const client = await tunnelThrough(house.port, `127.0.0.1:${origin.port}`);
    if (first !== "") client.send(first);
    await wait(first === "" ? 1_800 : 100); // the header timeout, behind which the server is let speak first
    client.send(second);
    await client.closed();
    expect(origin.text().slice(from)).not.toContain("secret HTTP/1.1");
    expect(origin.text().slice(from)).not.toContain(String.fromCharCode(22, 3));
    client.destroy();
  });

  test("what is opaque passes, also in pieces and without a line end", async () => {
    const client = await tunnelThrough(house.port, `127.0.0.1:${origin.port}`);
    const from = origin.text().length;
    for (const piece of ["ping", " pong", " HT", "\r\nGET / HTTP/1.1 is data now", "\0"]) {
      client.send(piece);
      await origin.until((text) => text.slice(from).endsWith(piece));
    }
    client.destroy();
  });

  test("`without-sni: allow` does not allow another name", async () => {
    const from = origin.text().length;
    const wrong = await tunnelThrough(house.port, `localhost:${origin.port}`);
    await wait(100);
    wrong.send(hello("elsewhere.test"));
    expect(await wrong.closed()).toBe("reset");
    expect(origin.text().length).toBe(from);
    const [record] = await house.recordsWhere((r) => r.rule === "pinned" && r.reason === "misdirected");
    expect(record).toMatchObject({ decision: "deny", sni: "elsewhere.test" });
    const right = await tunnelThrough(house.port, `localhost:${origin.port}`);
    await wait(100);
    right.send(hello("localhost"));
    await origin.until((text) => text.length > from);
    right.destroy();
  });
});

describe("`opaque: tunnel` and what the rule of the host wants", () => {
  let origin: RawOrigin;
  let next: RawOrigin;
  let house: TestHouse;
  beforeAll(async () => {
    origin = await startRawOrigin(() => {});
    next = await startRawOrigin(origins.answer("HTTP/1.1 200 OK\r\n\r\n"));
    const rule = (id: string, more: string, from = "allow"): string =>
      `  - { id: ${id}, ${from}: ["http://${id}.localhost:${origin.port}"], ${more} }\n`;
    house = await startTestHouse({
      policy: `server: { opaque: tunnel, header-timeout: 1s }
network: { allow: [127.0.0.0/8] }
rules:
${rule("through", `via: "http://127.0.0.1:${next.port}"`)}${rule("elsewhere", 'redirect: { to: "https://a.example" }')}${rule("looked-at", "content: [{ block: { text: jewels } }]")}${rule("told", "content: [{ report: { text: jewels } }]")}${rule("small", "limits: { request: 10B }")}  - { id: some, allow: ["GET http://some.localhost:${origin.port}", "http://some.localhost:${origin.port}/x"] }
`,
    });
  });
  afterAll(async () => {
    await house.close();
    await origin.close();
    await next.close();
  });
  const opaque = async (name: string, text = "SSH-2.0-me\r\n jewels") => {
    const client = await tunnelThrough(house.port, `${name}.localhost:${origin.port}`);
    client.send(text);
    return client;
  };
  const recordOf = async (name: string) =>
    (await house.recordsWhere((r) => r.host === `${name}.localhost`, 2)).find((r) => r.parent !== null);

  test("it goes through the next proxy", async () => {
    const client = await opaque("through");
    await next.until((text) => text.startsWith("CONNECT through.localhost:") && text.endsWith("jewels"));
    expect(origin.text()).toBe("");
    client.destroy();
    expect((await recordOf("through"))?.origin?.via).toBe(`http://127.0.0.1:${next.port}`);
  });

  test.each(["elsewhere", "looked-at", "some"])("a rule that cannot be kept without HTTP refuses: %s", async (name) => {
    const client = await opaque(name);
    expect(await client.closed()).not.toBe("open");
    expect(await recordOf(name)).toMatchObject({ decision: "deny", reason: "opaque-protocol" });
    expect(origin.text()).not.toContain("jewels");
  });

  test("a rule that only reports lets it pass", async () => {
    const client = await opaque("told");
    await origin.until((text) => text.includes("jewels"));
    client.destroy();
    expect(await recordOf("told")).toMatchObject({ uninspected: true });
  });

  test("the rule's own limit holds", async () => {
    const client = await opaque("small", "SSH-2.0-123456789");
    expect(await client.closed()).not.toBe("open");
    expect(await recordOf("small")).toMatchObject({ reason: "tunnel-limit" });
  });
});
