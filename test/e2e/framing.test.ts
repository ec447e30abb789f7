// Framing and smuggling (RFC 9112): what two readers could read differently is refused, nothing of it reaches an origin, and
// the connection cannot be misread afterwards.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { judge } from "./judge.ts";
import { type Case, type Played, playAll, request, type Scene, startScene } from "./scene.ts";

const CHUNKS = "4\r\nbody\r\n0\r\n\r\n";
const SMUGGLED = "GET http://o.test/smuggled HTTP/1.1\r\nHost: o.test\r\n\r\n";

/** Refused before anything was decided: 400 (or as said), closed, one record, nothing at the origin. */
const refused = (name: string, head: string, extra: Partial<Case> = {}): Case => ({
  name,
  send: (at) => `${head.replaceAll("TARGET", at.target).replaceAll("HOST", at.host)}`,
  statuses: [400],
  reason: "malformed-request",
  ending: "end",
  got: null,
  records: [{ kind: "connection", decision: "deny", status: 400, reason: "malformed-request" }],
  ...extra,
});
const ambiguous = (name: string, fields: string, body = CHUNKS): Case =>
  refused(name, `POST TARGET HTTP/1.1\r\nHost: HOST\r\n${fields}\r\n\r\n${body}${SMUGGLED}`, {
    reason: "ambiguous-framing",
    records: [{ kind: "connection", decision: "deny", status: 400, reason: "ambiguous-framing" }],
  });
const unknownCoding = (name: string, value: string): Case =>
  refused(name, `POST TARGET HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: ${value}\r\n\r\n${CHUNKS}${SMUGGLED}`, {
    statuses: [501],
    reason: "not-implemented",
    records: [{ kind: "connection", decision: "deny", status: 501, reason: "not-implemented" }],
  });
const badHead = (name: string, head: string): Case => refused(name, head);
/** The head is fine and the chunked coding breaks: the exchange is refused, and no last chunk reaches the origin. */
const badChunks = (name: string, body: string): Case => ({
  name,
  send: (at) => request(at, "Transfer-Encoding: chunked\r\n", "POST", body + SMUGGLED),
  statuses: [400],
  reason: "malformed-request",
  ending: "end",
  records: [{ kind: "exchange", decision: "deny", reason: "malformed-request", sent: { complete: false } }],
  check: ({ got }) => {
    expect(got).not.toMatch(/\r\n0\r\n\r\n$/);
    expect(got).not.toContain("smuggled");
  },
});
const post = (
  name: string,
  fields: string,
  body: string,
  got: RegExp,
  sent: object = { bytes: 4, complete: true },
): Case => ({
  name,
  send: (at) => request(at, fields, "POST", body),
  statuses: [200],
  got,
  records: [{ kind: "exchange", decision: "allow", reason: null, sent }],
});

const cases: Case[] = [
  // F1
  ambiguous("length and chunked", "Content-Length: 4\r\nTransfer-Encoding: chunked"),
  ambiguous("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
  ambiguous("two lengths, equal", "Content-Length: 4\r\nContent-Length: 4"),
  ambiguous("two lengths, different", "Content-Length: 4\r\nContent-Length: 40"),
  ambiguous("a list of lengths", "Content-Length: 4, 4"),
  ambiguous("a length with a sign", "Content-Length: +4"),
  ambiguous("minus zero", "Content-Length: -0"),
  ambiguous("a hexadecimal length", "Content-Length: 0x4"),
  ambiguous("an empty length", "Content-Length: "),
  ambiguous("a length beyond 2^53", "Content-Length: 9007199254740993"),
  ambiguous("a length with a space inside", "Content-Length: 4 4"),
  ambiguous("a tab before the length", "Content-Length:\t4"),
  post("spaces around the length are fine", "Content-Length:  4 \r\n", "body", /\r\n\r\nbody$/),
  // F2
  unknownCoding("xchunked", "xchunked"),
  unknownCoding("chunked, identity", "chunked, identity"),
  unknownCoding("chunked, chunked", "chunked, chunked"),
  unknownCoding("gzip, chunked", "gzip, chunked"),
  unknownCoding("identity", "identity"),
  unknownCoding("a quoted coding", '"chunked"'),
  ambiguous("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
  badHead(
    "a vertical tab before chunked",
    `POST TARGET HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\x0bchunked\r\n\r\n${CHUNKS}`,
  ),
  ambiguous("a tab before chunked", "Transfer-Encoding:\tchunked"),
  // F3
  refused("chunked in HTTP/1.0", `POST TARGET HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, {
    reason: "ambiguous-framing",
    records: [{ kind: "connection", reason: "ambiguous-framing" }],
  }),
  // F4
  badHead("bare LF ends a line", "GET TARGET HTTP/1.1\nHost: HOST\n\n"),
  badHead("bare LF ends a field", "GET TARGET HTTP/1.1\r\nHost: HOST\nX: y\r\n\r\n"),
  badHead("bare CR in a value", "GET TARGET HTTP/1.1\r\nHost: HOST\r\nX: a\rb\r\n\r\n"),
  badHead("obs-fold", "GET TARGET HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n"),
  badHead("a space before the colon", "GET TARGET HTTP/1.1\r\nHost: HOST\r\nX : a\r\n\r\n"),
  badHead("NUL in a value", "GET TARGET HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n"),
  badHead("a high byte in the target", "GET TARGET\xe9 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
  badHead("a control in the target", "GET TARGET\x01 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
  badHead("a fragment in the target", "GET TARGET#x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
  refused("a tab in the request line", "GET\tTARGET HTTP/1.1\r\nHost: HOST\r\n\r\n", {
    ways: ["plain", "intercepted"], // in clear text inside CONNECT this is no HTTP at all
  }),
  badHead("two spaces in the request line", "GET  TARGET HTTP/1.1\r\nHost: HOST\r\n\r\n"),
  badHead("a lower-case version", "GET TARGET http/1.1\r\nHost: HOST\r\n\r\n"),
  badHead("an empty field name", "GET TARGET HTTP/1.1\r\nHost: HOST\r\n: a\r\n\r\n"),
  badHead("no Host in HTTP/1.1", "GET TARGET HTTP/1.1\r\nX: y\r\n\r\n"),
  // B12
  badHead("two Host fields", "GET TARGET HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
  badHead("a Host that is no host", "GET TARGET HTTP/1.1\r\nHost: a b\r\n\r\n"),
  refused("HTTP/2.0 in the request line", "GET TARGET HTTP/2.0\r\nHost: HOST\r\n\r\n", {
    statuses: [505],
    reason: "version-not-supported",
    records: [{ kind: "connection", reason: "version-not-supported", status: 505 }],
  }),
  // F5
  post(
    "chunk extensions are dropped",
    "Transfer-Encoding: chunked\r\n",
    '4;a=b;c="d e"\r\nbody\r\n0;z\r\n\r\n',
    /Transfer-Encoding: chunked\r\nVia: [^\r]*\r\n\r\n4\r\nbody\r\n0\r\n\r\n$/,
  ),
  badChunks("a chunk size that overflows", "ffffffffffffffff1\r\nbody\r\n0\r\n\r\n"),
  badChunks("a chunk size beyond 2^53", "20000000000001\r\nbody\r\n0\r\n\r\n"),
  badChunks("LF ends the chunk size", "4\nbody\r\n0\r\n\r\n"),
  badChunks("LF ends the chunk", "4\r\nbody\n0\r\n\r\n"),
  badChunks("a chunk longer than it says", "3\r\nbody\r\n0\r\n\r\n"),
  badChunks("0x before the size", "0x4\r\nbody\r\n0\r\n\r\n"),
  badChunks("a negative size", "-4\r\nbody\r\n0\r\n\r\n"),
  badChunks("a space after the size", "4 \r\nbody\r\n0\r\n\r\n"),
  badChunks("a bare CR in an extension", "4;a\rb\r\nbody\r\n0\r\n\r\n"),
  badChunks("a length in the trailers", "4\r\nbody\r\n0\r\nContent-Length: 9\r\n\r\n"),
  badChunks("Host in the trailers", "4\r\nbody\r\n0\r\nHost: evil.test\r\n\r\n"),
  {
    ...post(
      "Authorization in the trailers is dropped and noted",
      "Transfer-Encoding: chunked\r\n",
      "4\r\nbody\r\n0\r\nX-Sum: 1\r\nAuthorization: Basic eDp5\r\n\r\n",
      /\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n$/,
    ),
    records: [{ kind: "exchange", notes: ["request-trailers-dropped"], sent: { bytes: 4, complete: true } }],
  },
  // F14
  {
    name: "what Connection lists is for this hop",
    send: (at) =>
      request(
        at,
        "X-Hop: 1\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: x\r\nX-End: 2\r\n",
      ),
    statuses: [200],
    got: /^GET \S+ HTTP\/1\.1\r\nHost: [^\r]*\r\nX-End: 2\r\nVia: 1\.1 sallyport-[0-9a-f]+\r\n\r\n$/,
  },
  ...["Authorization", "Cookie", "Host", "Content-Length", "Transfer-Encoding"].map(
    (name): Case => ({
      name: `Connection names ${name}`,
      send: (at) => request(at, `Connection: ${name}\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\n`),
      statuses: [400],
      reason: "malformed-request",
      got: null,
      records: [{ kind: "exchange", decision: "deny", reason: "malformed-request" }],
    }),
  ),
  // F16
  {
    name: "case, order and duplicates of fields survive",
    send: (at) => request(at, "X-b: 1\r\nx-A: 2\r\nX-B: 3\r\naccept: */*\r\nX-Empty:\r\n"),
    statuses: [200],
    got: /\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\naccept: \*\/\*\r\nX-Empty: \r\nVia: /,
  },
  // F22
  {
    name: "OPTIONS for the server as a whole",
    send: (at) =>
      `OPTIONS ${at.target.startsWith("http") ? `http://${at.host}` : "*"} HTTP/1.1\r\nHost: ${at.host}\r\nX-Way: ${at.path}\r\n\r\n`,
    statuses: [200],
    records: [{ kind: "exchange", method: "OPTIONS", path: "*", decision: "allow" }],
  },
  {
    name: "OPTIONS with Max-Forwards: 0 is answered here",
    send: (at) => request(at, "Max-Forwards: 0\r\n", "OPTIONS"),
    statuses: [204],
    got: null,
    records: [{ kind: "exchange", method: "OPTIONS", decision: "allow", status: 204 }],
  },
  {
    name: "Max-Forwards counts down",
    send: (at) => request(at, "max-forwards: 10\r\n", "OPTIONS"),
    statuses: [200],
    got: /\r\nmax-forwards: 9\r\n/,
  },
  {
    name: "Max-Forwards of another method means nothing here",
    send: (at) => request(at, "Max-Forwards: 0\r\n"),
    statuses: [200],
    got: /\r\nMax-Forwards: 0\r\n/,
  },
  refused("a bare asterisk on the proxy port", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", {
    ways: ["plain"],
    reason: "not-a-proxy-request",
    records: [{ kind: "connection", reason: "not-a-proxy-request" }],
  }),
  refused("GET of an asterisk", "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n", {
    ways: ["intercepted", "clear text inside CONNECT"],
  }),
  // F23
  {
    name: "TRACE is never forwarded",
    send: (at) => request(at, "Authorization: Basic eDp5\r\n", "TRACE"),
    statuses: [405],
    reason: "method-not-allowed",
    got: null,
    records: [{ kind: "exchange", decision: "deny", reason: "method-not-allowed" }],
    check: ({ responses }) => expect(responses[0]?.content).not.toContain("eDp5"),
  },
  // F24
  ...["PROPFIND", "QUERY", "PURGE", "REPORT"].map(
    (method): Case => ({
      name: `${method} passes with policy`,
      send: (at) => request(at, "", method),
      statuses: [200],
      got: new RegExp(`^${method} `),
      records: [{ kind: "exchange", method, decision: "allow" }],
    }),
  ),
  ...["BREW", "get", "G[T"].map(
    (method): Case =>
      refused(`the method ${method}`, `${method} TARGET HTTP/1.1\r\nHost: HOST\r\n\r\n`, {
        ways: ["plain", "intercepted"],
        statuses: [method === "G[T" ? 400 : 501],
        reason: method === "G[T" ? "malformed-request" : "not-implemented",
        records: [{ kind: "connection" }],
      }),
  ),
  // B13
  refused("CONNECT inside CONNECT", "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n", {
    ways: ["intercepted", "clear text inside CONNECT"],
    statuses: [405],
    reason: "method-not-allowed",
    records: [{ kind: "connection", reason: "method-not-allowed", status: 405 }],
  }),
];

describe("framing of requests", () => {
  let scene: Scene;
  const played = new Map<string, Played>();
  beforeAll(async () => {
    scene = await startScene();
    for (const each of await playAll(scene, cases)) played.set(each.title, each);
  });
  afterAll(() => scene.close());

  const titles = cases.flatMap((row) =>
    (row.ways ?? ["plain", "intercepted", "clear text inside CONNECT"]).map((way) => `${row.name} (${way})`),
  );
  test.each(titles)("%s", (title) => judge(played.get(title) as Played));

  test("no smuggled request ever reached an origin", () => {
    expect(scene.got("/smuggled")).toBe("");
    expect(scene.plain.text() + scene.secure.text()).not.toContain("smuggled");
  });
});
