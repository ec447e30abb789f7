// Real credentials, real keys, a real key set server.
import { createHmac, generateKeyPairSync, type KeyObject, scryptSync } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo, LookupFunction } from "node:net";
import { SignJWT } from "jose";
import { afterEach, describe, expect, test } from "vitest";
import {
  type AuthenticatorOptions,
  type OpenAuthenticator,
  openAuthenticator,
} from "../../../src/edge/auth/authenticator.ts";
import type { KeyFetchPort } from "../../../src/edge/auth/key-set.ts";
import type { ConnectionFacts } from "../../../src/exchange/exchange.ts";
import type { BearerCheck, ClientConfig } from "../../../src/policy/clients.ts";
import { ProxyError } from "../../../src/shared/errors.ts";

const lookup: LookupFunction = (_host, options, done) =>
  options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
const OPEN: KeyFetchPort = { lookupFor: () => lookup, refusal: () => null, roots: null };
const NOW = 1_800_000_000_000;
const client = (name: string, more: Partial<ClientConfig>): ClientConfig => ({
  name,
  password: null,
  bearer: null,
  addresses: [],
  certificate: null,
  ...more,
});
const bearer = (more: Partial<BearerCheck>): BearerCheck => ({
  secret: null,
  publicKey: null,
  jwks: null,
  issuer: null,
  audience: null,
  algorithms: [],
  subject: null,
  ...more,
});
const from = (clientAddress: string, more: Partial<ConnectionFacts> = {}): ConnectionFacts => ({
  clientAddress,
  clientPort: 1,
  assignedClient: null,
  trusted: false,
  clientCertificate: null,
  connect: null,
  ...more,
});
const basic = (text: string) => ["Proxy-Authorization", `Basic ${Buffer.from(text).toString("base64")}`];
const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const o of opened.splice(0)) o.close();
});
function open(clients: ClientConfig[], more: Partial<AuthenticatorOptions> = {}): OpenAuthenticator {
  const options = { clients, required: false, keys: OPEN, now: () => NOW, brake: { free: 1000 }, ...more };
  const authenticator = openAuthenticator(options);
  opened.push(authenticator);
  return authenticator;
}
/** The client's name, null, or the reason of the refusal. */
async function ask(a: OpenAuthenticator, fields: string[], connection = from("192.0.2.1")): Promise<string | null> {
  try {
    return await a.authenticate(fields, connection);
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error;
    return `refused: ${error.reason}`;
  }
}
const WRONG = "refused: wrong-credential";

describe("Basic", () => {
  const salt = Buffer.from("0123456789abcdef");
  const hash = scryptSync("scrypt-ä", salt, 32, { N: 1024, r: 8, p: 1 });
  const clients = [
    client("plain", { password: { kind: "plain", password: "p@:/%41 ü" } }),
    client("hashed", { password: { kind: "scrypt", N: 1024, r: 8, p: 1, salt, hash } }),
    client("near", { password: { kind: "plain", password: "x" }, addresses: [{ address: "10.0.0.0", bits: 8 }] }),
    client("lan", { addresses: [{ address: "192.0.2.0", bits: 24 }] }),
  ];
  const cases: [string, string[], string | null][] = [
    ["a right one, with every troublesome character (O3)", basic("plain:p@:/%41 ü"), "plain"],
    ["percent signs are not decoded a second time (O3)", basic("plain:p@:/A ü"), WRONG],
    ["a scrypt one", basic("hashed:scrypt-ä"), "hashed"],
    ["a wrong scrypt one", basic("hashed:scrypt-a"), WRONG],
    ["a wrong password does not fall through to the address", basic("plain:no"), WRONG],
    ["an unknown user", basic("nobody:p"), WRONG],
    ["an unknown user with an empty password", basic("nobody:"), WRONG],
    ["a client that has no password", basic("lan:"), WRONG],
    ["an address beside the password must fit", basic("near:x"), WRONG],
    ["no colon", basic("plain"), WRONG],
    ["not base64", ["Proxy-Authorization", "Basic ***"], WRONG],
    ["not UTF-8", ["Proxy-Authorization", `Basic ${Buffer.from([0xff, 0x3a, 0xff]).toString("base64")}`], WRONG],
    ["an unknown scheme (O4)", ["Proxy-Authorization", "Negotiate abc"], WRONG],
    ["an empty value", ["Proxy-Authorization", ""], WRONG],
    [
      "the scheme in any case",
      ["proxy-authorization", `bAsIc ${Buffer.from("plain:p@:/%41 ü").toString("base64")}`],
      "plain",
    ],
    ["two credentials", [...basic("plain:p@:/%41 ü"), ...basic("plain:p@:/%41 ü")], WRONG],
    ["one that is far too long", ["Proxy-Authorization", `Basic ${"A".repeat(20_000)}`], WRONG],
    ["none: the address says it", [], "lan"],
    ["Authorization is not for the proxy", ["Authorization", "Basic eA=="], "lan"],
  ];
  test.each(cases)("%s", async (_name, fields, wanted) => {
    expect(await ask(open(clients), fields)).toBe(wanted);
  });
  test("the address beside a password is looked at again when the credential is cached", async () => {
    const a = open(clients);
    expect(await ask(a, basic("near:x"), from("10.1.1.1"))).toBe("near");
    expect(await ask(a, basic("near:x"), from("192.0.2.7"))).toBe(WRONG);
  });
  test("a verified credential is answered without a promise, on this connection and on others", async () => {
    const a = open(clients);
    const connection = from("192.0.2.1");
    expect(a.authenticate(basic("hashed:scrypt-ä"), connection)).toBeInstanceOf(Promise);
    expect(await ask(a, basic("hashed:scrypt-ä"), connection)).toBe("hashed");
    expect(a.authenticate(basic("hashed:scrypt-ä"), connection)).toBe("hashed");
    expect(a.authenticate(basic("hashed:scrypt-ä"), from("192.0.2.9"))).toBe("hashed");
  });
  test("an anonymous request is answered without a promise", () => {
    expect(open([]).authenticate([], from("192.0.2.1"))).toBeNull();
  });
  test("required: an anonymous one is refused, a known address is not", async () => {
    const a = open(clients, { required: true });
    expect(await ask(a, [], from("203.0.113.1"))).toBe("refused: unauthenticated");
    expect(await ask(a, [], from("192.0.2.1"))).toBe("lan");
  });
});

describe("addresses and certificates", () => {
  const given = { fingerprint: "ab".repeat(32), subject: "CN=agent", names: ["agent.internal"] };
  const clients = [
    client("cert", { certificate: { fingerprint: "AB:".repeat(31).concat("AB"), name: null } }),
    client("named", { certificate: { fingerprint: null, name: "other.internal" } }),
    client("six", { addresses: [{ address: "2001:db8::", bits: 32 }] }),
    client("four", { addresses: [{ address: "10.0.0.0", bits: 8 }] }),
    client("four-again", { addresses: [{ address: "10.0.0.0", bits: 8 }] }),
  ];
  const cases: [string, ConnectionFacts, string | null][] = [
    ["by fingerprint, whatever its spelling", from("10.0.0.1", { clientCertificate: given }), "cert"],
    [
      "by name",
      from("203.0.113.1", { clientCertificate: { ...given, fingerprint: "00", names: ["other.internal"] } }),
      "named",
    ],
    [
      "a certificate that nobody has falls to the address",
      from("10.0.0.1", { clientCertificate: { ...given, fingerprint: "00" } }),
      "four",
    ],
    ["the first address range", from("10.255.0.1"), "four"],
    ["IPv6", from("2001:db8::1"), "six"],
    ["IPv4 as IPv6 is IPv4", from("::ffff:10.0.0.1"), "four"],
    ["outside", from("11.0.0.1"), null],
  ];
  test.each(cases)("%s", async (_name, connection, wanted) => {
    expect(await ask(open(clients), [], connection)).toBe(wanted);
  });
});

describe("several ways to be recognised (the words of clients.NAME in docs/config.md)", () => {
  const given = { fingerprint: "ab".repeat(32), subject: "CN=agent", names: [] };
  const near = [{ address: "10.0.0.0", bits: 8 }];
  const certificate = { fingerprint: given.fingerprint, name: null };
  const password = { kind: "plain", password: "x" } as const;
  test("an address and a certificate must both hold", async () => {
    const a = open([client("both", { addresses: near, certificate })]);
    expect(await ask(a, [], from("10.0.0.1", { clientCertificate: given }))).toBe("both");
    expect(await ask(a, [], from("10.0.0.1"))).toBeNull();
    expect(await ask(a, [], from("192.0.2.1", { clientCertificate: given }))).toBeNull();
  });
  test("a password, an address and a certificate must all hold", async () => {
    const a = open([client("all", { password, addresses: near, certificate })]);
    expect(await ask(a, basic("all:x"), from("10.0.0.1", { clientCertificate: given }))).toBe("all");
    expect(await ask(a, [], from("10.0.0.1", { clientCertificate: given }))).toBeNull();
    expect(await ask(a, basic("all:x"), from("192.0.2.1", { clientCertificate: given }))).toBe(WRONG);
    expect(await ask(a, basic("all:x"), from("10.0.0.1"))).toBe(WRONG);
  });
  test("of a password and a bearer token one is enough", async () => {
    const a = open([client("either", { password, bearer: bearer({ secret: "s".repeat(32), algorithms: ["HS256"] }) })]);
    expect(await ask(a, basic("either:x"))).toBe("either");
    const token = new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setExpirationTime(NOW / 1000 + 60);
    const signed = await token.sign(Buffer.from("s".repeat(32)));
    expect(await ask(a, ["Proxy-Authorization", `Bearer ${signed}`])).toBe("either");
  });
});

describe("bearer", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const other = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ed = generateKeyPairSync("ed25519");
  const SECRET = "a secret of more than thirty-two bytes";
  const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }) as string;
  const sign = (
    key: KeyObject | Uint8Array,
    alg: string,
    claims: object = {},
    header: object = {},
    exp = NOW / 1000 + 60,
  ) =>
    new SignJWT({ ...claims })
      .setProtectedHeader({ alg, ...header })
      .setExpirationTime(exp)
      .sign(key);
  const secret = Buffer.from(SECRET);
  const clients = [
    client("hs", { bearer: bearer({ secret: SECRET, issuer: "me", audience: ["proxy"] }) }),
    client("rs", { bearer: bearer({ publicKey: pem(rsa.publicKey), algorithms: ["RS256"] }) }),
    client("es", { bearer: bearer({ publicKey: pem(ec.publicKey) }) }),
    client("ed", {
      bearer: bearer({ publicKey: JSON.stringify(ed.publicKey.export({ format: "jwk" })), subject: "bot" }),
    }),
    client("lan", { addresses: [{ address: "192.0.2.0", bits: 24 }] }),
  ];
  const raw = (header: object, claims: object, key: string) => {
    const part = (o: object) => Buffer.from(JSON.stringify(o)).toString("base64url");
    const body = `${part(header)}.${part(claims)}`;
    return `${body}.${key === "" ? "" : createHmac("sha256", key).update(body).digest("base64url")}`;
  };
  const right = { iss: "me", aud: "proxy" };
  const soon = NOW / 1000 + 60;
  const cases: [string, () => Promise<string> | string, string][] = [
    ["HS256", () => sign(secret, "HS256", right), "hs"],
    ["RS256", () => sign(rsa.privateKey, "RS256"), "rs"],
    ["ES256", () => sign(ec.privateKey, "ES256"), "es"],
    ["EdDSA, from a JWK, with the subject", () => sign(ed.privateKey, "EdDSA", { sub: "bot" }), "ed"],
    ["another subject", () => sign(ed.privateKey, "EdDSA", { sub: "eve" }), WRONG],
    ["wrong audience", () => sign(secret, "HS256", { ...right, aud: "other" }), WRONG],
    ["wrong issuer", () => sign(secret, "HS256", { ...right, iss: "eve" }), WRONG],
    ["no audience", () => sign(secret, "HS256", { iss: "me" }), WRONG],
    ["expired", () => sign(secret, "HS256", right, {}, NOW / 1000 - 60), WRONG],
    ["not yet valid", () => sign(secret, "HS256", { ...right, nbf: soon }), WRONG],
    ["never expires", () => raw({ alg: "HS256" }, right, SECRET), WRONG],
    ["another key", () => sign(other.privateKey, "RS256"), WRONG],
    ["an algorithm that is not listed", () => sign(rsa.privateKey, "RS512"), WRONG],
    ["alg none", () => raw({ alg: "none" }, { exp: soon }, ""), WRONG],
    ["alg None", () => raw({ alg: "None" }, { exp: soon }, ""), WRONG],
    ["the public key as an HMAC secret", () => raw({ alg: "HS256" }, { exp: soon }, pem(rsa.publicKey)), WRONG],
    ["a kid that is a path", () => sign(other.privateKey, "RS256", {}, { kid: "../../dev/null" }), WRONG],
    [
      "a key inside the token",
      () => sign(other.privateKey, "RS256", {}, { jwk: other.publicKey.export({ format: "jwk" }) }),
      WRONG,
    ],
    [
      "a jku that names our issuer's enemy",
      () => sign(other.privateKey, "RS256", {}, { jku: "http://evil.example" }),
      WRONG,
    ],
    ["not a token", () => "abc", WRONG],
  ];
  test.each(cases)("%s", async (_name, token, wanted) => {
    expect(await ask(open(clients), ["Proxy-Authorization", `Bearer ${await token()}`])).toBe(wanted);
  });
  test("a token that expires is not believed any longer, cached or not", async () => {
    let now = NOW;
    const a = open(clients, { now: () => now });
    const fields = ["Proxy-Authorization", `Bearer ${await sign(rsa.privateKey, "RS256")}`];
    const connection = from("192.0.2.1");
    expect(await ask(a, fields, connection)).toBe("rs");
    now += 70_000;
    expect(await ask(a, fields, connection)).toBe(WRONG);
  });

  test("says until when a token is good, with the tolerance, for the connection that showed it", async () => {
    const a = open(clients);
    const token = await sign(rsa.privateKey, "RS256");
    const fields = ["Proxy-Authorization", `Bearer ${token}`];
    const [first, second, third] = [from("192.0.2.1"), from("192.0.2.1"), from("203.0.113.1")];
    expect(await ask(a, fields, first)).toBe("rs");
    expect(a.expiresAt?.(fields, first)).toBe(NOW + 65_000);
    // From the cache, on another connection.
    expect(a.authenticate(fields, second)).toBe("rs");
    expect(a.expiresAt?.(fields, second)).toBe(NOW + 65_000);
    // Nothing was shown here, and something else than what is asked about.
    expect(a.expiresAt?.(fields, third)).toBe(0);
    expect(a.expiresAt?.(basic("x:y"), first)).toBe(0);
    expect(a.expiresAt?.([], first)).toBe(Number.POSITIVE_INFINITY);
  });
  test("a password has no end", async () => {
    const a = open([client("p", { password: { kind: "plain", password: "x" } })]);
    const connection = from("192.0.2.1");
    expect(await ask(a, basic("p:x"), connection)).toBe("p");
    expect(a.expiresAt?.(basic("p:x"), connection)).toBe(Number.POSITIVE_INFINITY);
  });

  describe("key sets", () => {
    async function keySet(
      answer: () => { status?: number; body: string },
    ): Promise<{ url: string; asked: () => number }> {
      let asked = 0;
      const server = createServer((_request, response) => {
        asked++;
        const { status = 200, body } = answer();
        response.writeHead(status).end(body);
      });
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
      opened.push({ close: () => server.close() });
      return { url: `http://keys.example:${(server.address() as AddressInfo).port}/jwks`, asked: () => asked };
    }
    const jwk = (key: KeyObject, kid: string) => ({ ...key.export({ format: "jwk" }), kid, use: "sig" });
    const withKeys = (url: string, more: Partial<AuthenticatorOptions> = {}) =>
      open([client("idp", { bearer: bearer({ jwks: url }) })], more);
    const fieldsOf = async (key: KeyObject, kid: string) => [
      "Proxy-Authorization",
      `Bearer ${await sign(key, "RS256", { n: Math.random() }, { kid })}`,
    ];

    test("are fetched once for many tokens", async () => {
      const set = await keySet(() => ({ body: JSON.stringify({ keys: [jwk(rsa.publicKey, "a")] }) }));
      const a = withKeys(set.url);
      const tokens = await Promise.all(Array.from({ length: 5 }, () => fieldsOf(rsa.privateKey, "a")));
      expect(await Promise.all(tokens.map((t) => ask(a, t)))).toEqual(Array(5).fill("idp"));
      expect(set.asked()).toBe(1);
    });
    test("are fetched again for an unknown key, but not each time", async () => {
      let keys = [jwk(rsa.publicKey, "a")];
      let now = NOW;
      const set = await keySet(() => ({ body: JSON.stringify({ keys }) }));
      const a = withKeys(set.url, { now: () => now });
      expect(await ask(a, await fieldsOf(rsa.privateKey, "a"))).toBe("idp");
      keys = [jwk(other.publicKey, "b")];
      now += 31_000;
      expect(await ask(a, await fieldsOf(other.privateKey, "b"))).toBe("idp");
      for (let i = 0; i < 5; i++) expect(await ask(a, await fieldsOf(other.privateKey, `kid${i}`))).toBe(WRONG);
      expect(set.asked()).toBe(2);
    });
    test.each([
      ["too large", { body: `{"keys":[],"x":"${"x".repeat(1 << 20)}"}` }],
      ["an error of the server", { status: 500, body: "{}" }],
      ["a redirect is not followed", { status: 302, body: "" }],
      ["not JSON", { body: "<html>" }],
    ])("%s: refused", async (_name, answer) => {
      const set = await keySet(() => answer);
      expect(await ask(withKeys(set.url), await fieldsOf(rsa.privateKey, "a"))).toBe(WRONG);
      expect(set.asked()).toBe(1);
    });
    test("a prohibited address is not asked, by literal or by name", async () => {
      const set = await keySet(() => ({ body: JSON.stringify({ keys: [jwk(rsa.publicKey, "a")] }) }));
      const asked: string[] = [];
      const shut: KeyFetchPort = {
        lookupFor: (port) => (host, _options, done) => {
          asked.push(`${host} ${port}`);
          done(new Error("prohibited"), "", 0);
        },
        refusal: (address, port) => {
          asked.push(`${address} ${port}`);
          return "prohibited";
        },
        roots: null,
      };
      for (const url of [set.url, set.url.replace("keys.example", "127.0.0.1")]) {
        expect(await ask(withKeys(url, { keys: shut }), await fieldsOf(rsa.privateKey, "a"))).toBe(WRONG);
      }
      const { port } = new URL(set.url);
      expect(asked).toEqual([`keys.example ${port}`, `127.0.0.1 ${port}`]);
      expect(set.asked()).toBe(0);
    });
  });
});

describe("guessing is slowed down (O4)", () => {
  const clients = [client("c", { password: { kind: "plain", password: "right" } })];
  const brake = { free: 2, first: 60, longest: 240, waitingEach: 2, waitingAll: 3 };
  const took = async (work: () => Promise<unknown>) => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };
  test("after a few wrong ones each takes longer, for that address only, and the good one stays quick", async () => {
    const a = open(clients, { brake });
    expect(await ask(a, basic("c:right"))).toBe("c");
    for (let i = 0; i < 2; i++) await ask(a, basic(`c:wrong${i}`));
    expect(await took(() => ask(a, basic("c:wrong")))).toBeGreaterThan(50);
    expect(await took(() => ask(a, basic("c:wrong")))).toBeGreaterThan(110);
    const order: string[] = [];
    await Promise.all([
      ask(a, basic("c:wrong")).then(() => order.push("that address")),
      ask(a, basic("c:wrong"), from("203.0.113.9")).then(() => order.push("another")),
    ]);
    expect(order).toEqual(["another", "that address"]);
    expect(a.authenticate(basic("c:right"), from("192.0.2.1"))).toBe("c");
  });
  test("an IPv6 network has no more guesses than an address, and its other addresses are not locked out", async () => {
    const a = open(clients, { brake: { ...brake, first: 1_000, longest: 1_000, waitingEach: 1, waitingAll: 10 } });
    const guess = (address: string) => took(() => ask(a, basic("c:wrong"), from(address)));
    for (const host of ["1", "2"]) expect(await guess(`2001:db8:1:2::${host}`)).toBeLessThan(900);
    for (const address of ["2001:db8:1:2:ffff::3", "2001:db8:1:2::4%eth0"])
      expect(await guess(address)).toBeGreaterThan(950);
    expect(await guess("2001:db8:1:3::1")).toBeLessThan(900);
    const waiting = guess("2001:db8:1:2::5");
    await new Promise((done) => setImmediate(done));
    expect(await ask(a, basic("c:right"), from("2001:db8:1:2::5"))).toBe("refused: rate-limited");
    expect(await ask(a, basic("c:right"), from("2001:db8:1:2::6"))).toBe("c");
    await waiting;
  });
  test("answers that wait are bounded; beyond that even the right one is not looked at", async () => {
    const a = open(clients, { brake: { ...brake, first: 700, longest: 700 } });
    for (let i = 0; i < 2; i++) await ask(a, basic(`c:wrong${i}`));
    const waiting = [ask(a, basic("c:w1")), ask(a, basic("c:w2"))];
    await new Promise((done) => setImmediate(done));
    expect(await ask(a, basic("c:right"))).toBe("refused: rate-limited");
    expect(await Promise.all(waiting)).toEqual([WRONG, WRONG]);
    expect(await ask(a, basic("c:right"))).toBe("c");
  });
});
