// The named cases that both implementations must agree on.
import { gzipSync } from "node:zlib";
import { type OriginScript, origins } from "../support/origin.ts";
import type { CaseRequest, ReferenceCase } from "./compare.ts";

const get = (path = "/", ...fields: string[]): CaseRequest => ({ method: "GET", path, fields });
const post = (body: string, ...fields: string[]): CaseRequest => ({
  method: "POST",
  path: "/",
  fields: [...fields, `Content-Length: ${body.length}`],
  body,
});
const chunks = (...parts: string[]): string =>
  `${parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join("")}0\r\n`;
const chunked = (body: string, ...fields: string[]): CaseRequest => ({
  method: "POST",
  path: "/",
  fields: [...fields, "Transfer-Encoding: chunked"],
  body,
});
const ok = origins.text("ok");
const raw = (head: string, content = ""): OriginScript => origins.answer(`HTTP/1.1 ${head}\r\n\r\n${content}`);
const sized = (status: string, content: string, ...fields: string[]): OriginScript =>
  raw([status, `Content-Length: ${content.length}`, ...fields].join("\r\n"), content);
const one = (name: string, request: CaseRequest, origin: OriginScript = ok, policy?: string): ReferenceCase => ({
  name,
  requests: [request],
  origin,
  ...(policy === undefined ? {} : { policy }),
});

/** Answers when the content of the request is there: no early responses. */
const whenItEnds =
  (ending: string, answer: OriginScript): OriginScript =>
  async (conversation, request) => {
    while (!conversation.bytes.includes(ending)) await new Promise((done) => setTimeout(done, 2));
    await answer(conversation, request);
  };
const gzipped = gzipSync("a secret word in here").toString("latin1");

const ALLOW = "defaults: { action: allow }\n";
const rule = (text: string): string =>
  `${ALLOW}rules:\n  - { id: r, allow: ["http://127.0.0.1:PORT", "https://127.0.0.1:PORT"], ${text} }\n`;
const BLOCK = rule("content: [{ block: { text: forbidden, status: 451 } }]");
const REDACT = rule("content: [{ redact: { text: secret } }]");
const DENY =
  'defaults: { action: deny }\nrules:\n  - { id: only, allow: ["GET http://127.0.0.1:PORT/open/**", "GET https://127.0.0.1:PORT/open/**"] }\n';

export const CASES: readonly ReferenceCase[] = [
  // methods and fields
  one("GET", get()),
  one("GET with a query", get("/a/b?c=d&e=%20f")),
  one("HEAD with a length", { method: "HEAD", path: "/" }, raw("200 OK\r\nContent-Length: 5")),
  one("HEAD without a length", { method: "HEAD", path: "/" }, raw("200 OK\r\nX-A: b")),
  one("DELETE", { method: "DELETE", path: "/x" }, raw("204 No Content")),
  one("OPTIONS", { method: "OPTIONS", path: "/x" }),
  one("PUT without content", { method: "PUT", path: "/", fields: ["Content-Length: 0"] }),
  one("PATCH", { method: "PATCH", path: "/", fields: ["Content-Length: 1"], body: "x" }),
  one("TRACE is not forwarded", { method: "TRACE", path: "/" }),
  one("duplicates, order and case of request fields", get("/", "X-B: 2", "x-a: 1", "X-B: 3", "Cookie: a=1")),
  one(
    "hop fields of a request go",
    get("/", "Proxy-Connection: keep-alive", "TE: trailers", "Connection: x-hop", "X-Hop: 1"),
  ),
  one("naming an end-to-end field in Connection is refused", get("/", "Connection: authorization", "Authorization: x")),
  one("a Proxy-Authorization goes no further", get("/", "Proxy-Authorization: Basic eDp5"), ok),
  one("an empty field value", get("/", "X-Empty:")),
  one("bytes beyond ASCII in a value", get("/", "X-Latin: caf\xe9"), sized("200 OK", "ok", "X-Latin: caf\xe9")),
  one("a long field", get("/", `X-Long: ${"v".repeat(8000)}`)),
  // bodies of requests
  one("POST by length", post("hello")),
  one("POST by length, in pieces", { ...post("hello".repeat(2000)), pieces: 7 }, whenItEnds("hello".repeat(2000), ok)),
  one("POST in chunks", chunked(`${chunks("hel", "lo")}\r\n`), whenItEnds("0\r\n\r\n", ok)),
  one(
    "POST in chunks, in pieces",
    { ...chunked(`${chunks("hel", "lo", "x".repeat(3000))}\r\n`), pieces: 9 },
    whenItEnds("0\r\n\r\n", ok),
  ),
  one("POST in chunks, empty", chunked(`${chunks()}\r\n`), whenItEnds("0\r\n\r\n", ok)),
  one(
    "trailers of a request",
    chunked(`${chunks("x")}X-Sum: 1\r\n\r\n`, "Trailer: X-Sum"),
    whenItEnds("X-Sum: 1\r\n", ok),
  ),
  one(
    "a multipart form",
    post(
      "--b\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\n",
      "Content-Type: multipart/form-data; boundary=b",
    ),
  ),
  one(
    "Expect: 100-continue, granted by the origin",
    { ...post("hello", "Expect: 100-continue"), awaitContinue: true },
    async (c, n) => {
      c.socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      await whenItEnds("hello", ok)(c, n);
    },
  ),
  one(
    "Expect: 100-continue, refused by the origin",
    { ...post("hello", "Expect: 100-continue"), awaitContinue: true },
    sized("417 Expectation Failed", "no"),
  ),
  // responses
  one(
    "duplicates, order and case of response fields",
    get(),
    sized("200 OK", "x", "Set-Cookie: a=1", "set-cookie: b=2", "X-A: 1", 'ETag: "x"'),
  ),
  one("a phrase of its own", get(), sized("200 Fine By Me", "x")),
  one("no phrase", get(), raw("404 \r\nContent-Length: 0")),
  one("204", get(), raw("204 No Content\r\nX-A: 1")),
  one("304 with a length", get("/", 'If-None-Match: "x"'), raw('304 Not Modified\r\nETag: "x"\r\nContent-Length: 7')),
  one("206", get("/", "Range: bytes=0-1"), sized("206 Partial Content", "ab", "Content-Range: bytes 0-1/9")),
  one("an empty response", get(), sized("200 OK", "")),
  one("a response in chunks", get(), raw("200 OK\r\nTransfer-Encoding: chunked", `${chunks("a", "bc")}\r\n`)),
  one(
    "trailers of a response",
    get("/", "TE: trailers"),
    raw("200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked", `${chunks("a")}X-Sum: 1\r\n\r\n`),
  ),
  one("a response that ends with the connection", get(), origins.answerAndEnd("HTTP/1.1 200 OK\r\n\r\nuntil the end")),
  one("103 before the response", get(), origins.interim(2)),
  one("102 before the response", get(), origins.interim(1, 102)),
  one(
    "hop fields of a response go",
    get(),
    sized("200 OK", "x", "Connection: x-hop", "X-Hop: 1", 'Alt-Svc: h3=":443"', "Keep-Alive: timeout=5"),
  ),
  one("a large response", get(), sized("200 OK", "0123456789".repeat(40_000))),
  one("server-sent events", get(), origins.events(["a", "b", "c"], 15)),
  one(
    "a 401 of the origin",
    get(),
    sized("401 Unauthorized", "who?", "WWW-Authenticate: Basic realm=x", "WWW-Authenticate: Bearer"),
  ),
  one("a redirect of the origin", get(), sized("302 Found", "", "Location: /elsewhere")),
  one("a coding passes as it came", get(), sized("200 OK", gzipped, "Content-Encoding: gzip")),
  // faults of origins
  one("an origin that closes without a word", get(), ({ socket }) => void socket.end()),
  one("a length that is not kept", get(), origins.lyingLength(50, "short")),
  one("an end in the middle of chunks", get(), ({ socket }) => {
    socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", () => {
      setTimeout(() => socket.destroy(), 20);
    });
  }),
  one("what is not HTTP", get(), origins.answer("SSH-2.0-OpenSSH_9.2p1\r\n\r\n")),
  one("two lengths that differ", get(), origins.twoLengths("hello")),
  // keep-alive
  {
    name: "five requests on one connection",
    requests: [get("/1"), post("two"), get("/3"), { method: "HEAD", path: "/4" }, get("/5")],
    origin: (c, n) =>
      c.bytes.includes("HEAD /4") && !c.bytes.includes("/5") ? raw("200 OK\r\nContent-Length: 9")(c, n) : ok(c, n),
  },
  {
    name: "a refusal, and the connection goes on",
    requests: [get("/closed"), get("/open/x"), get("/closed")],
    origin: ok,
    policy: DENY,
  },
  one("Connection: close", get("/", "Connection: close")),
  // decisions
  one("denied by default", get("/closed"), ok, DENY),
  one("denied, with content that nobody reads", post("x".repeat(500)), ok, DENY),
  one("denied, HEAD", { method: "HEAD", path: "/closed" }, ok, DENY),
  one("denied, for a browser", get("/closed", "Accept: text/html"), ok, DENY),
  one(
    "redirected",
    get("/a?b=c"),
    ok,
    `${ALLOW}rules:\n  - { id: moved, allow: ["http://127.0.0.1:PORT", "https://127.0.0.1:PORT"], redirect: { status: 307, to: "https://elsewhere.example" } }\n`,
  ),
  one("report mode", get("/closed"), ok, DENY.replace("action: deny", "action: deny, mode: report, until: 2999-01-01")),
  one(
    "fields set, appended, removed",
    get("/", "Cookie: a=1", "X-Was: here"),
    sized("200 OK", "x", "Server: s"),
    rule(
      "headers: { set: { authorization: 'Bearer t' }, append: { x-more: [a, b] }, remove: [cookie], response: { set: { x-new: '1' }, remove: [server] } }",
    ),
  ),
  // limits
  one("a request over its limit, declared", post("x".repeat(200)), ok, rule("limits: { request: 100B }")),
  one("a request at its limit", post("x".repeat(100)), ok, rule("limits: { request: 100B }")),
  one("a response over its limit, declared", get(), origins.text("x".repeat(200)), rule("limits: { response: 100B }")),
  one(
    "a response over its limit, counted",
    get(),
    raw("200 OK\r\nTransfer-Encoding: chunked", `${chunks("x".repeat(60), "x".repeat(60))}\r\n`),
    rule("limits: { response: 100B }"),
  ),
  one("a URL over its limit", get(`/${"u".repeat(300)}`), ok, rule("limits: { url: 100B }")),
  // content
  one("blocked: a request", post("this is forbidden here"), ok, BLOCK),
  one(
    "blocked: a request in chunks, the match across them",
    { ...chunked(`${chunks("this is for", "bidden here")}\r\n`), pieces: 5 },
    ok,
    BLOCK,
  ),
  one("blocked: a response", get(), origins.text("this is forbidden here"), BLOCK),
  one("blocked: nothing to find", post("all is well"), whenItEnds("all is well", ok), BLOCK),
  one("redacted: a request", post("a secret word"), whenItEnds("word", ok), REDACT),
  one("redacted: a response by length", get(), origins.text("a secret word, and another secret"), REDACT),
  one(
    "redacted: a response in chunks",
    get(),
    raw("200 OK\r\nTransfer-Encoding: chunked", `${chunks("a sec", "ret word")}\r\n`),
    REDACT,
  ),
  one(
    "redacted: a coded response",
    get(),
    sized("200 OK", gzipped, "Content-Encoding: gzip", "Content-Type: text/plain"),
    REDACT,
  ),
  one("redacted: a field and the query", get("/?q=secret", "X-Note: the secret"), ok, REDACT),
  one("content that cannot be decoded", get(), sized("200 OK", "what", "Content-Encoding: martian"), BLOCK),
];
