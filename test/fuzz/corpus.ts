// Streams on which readers have differed, or an engine has died, each with what ours must make of it: the number of
// complete messages, and how it ends. A difference that a fuzz finds is added here when it is settled.

export interface KnownStream {
  readonly why: string;
  readonly bytes: string;
  readonly complete: number;
  readonly status: string | RegExp;
}

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const CHUNKED = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const refused = /^error /;

export const KNOWN_REQUESTS: readonly KnownStream[] = [
  {
    why: "a trailer that names a length",
    bytes: `${CHUNKED}0\r\nContent-Length: 5\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "a trailer that names a coding",
    bytes: `${CHUNKED}0\r\nTransfer-Encoding: x\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  { why: "a trailer that names a host", bytes: `${CHUNKED}0\r\nHost: b\r\n\r\n`, complete: 0, status: refused },
  {
    why: "an extension with a line end in it",
    bytes: `${CHUNKED}1;a\nb\r\nd\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "an extension with a quoted line end",
    bytes: `${CHUNKED}1;a="\r\n"\r\nd\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  { why: "an extension without a name", bytes: `${CHUNKED}1;\r\nd\r\n0\r\n\r\n`, complete: 0, status: refused },
  { why: "a good extension", bytes: `${CHUNKED}1;a="b;c"\r\nd\r\n0\r\n\r\n${GET}`, complete: 2, status: "more" },
  { why: "a chunk of 2^64", bytes: `${CHUNKED}10000000000000000\r\nd\r\n`, complete: 0, status: refused },
  { why: "a chunk that ends in LF", bytes: `${CHUNKED}1\nd\r\n0\r\n\r\n`, complete: 0, status: refused },
  { why: "a chunk longer than it says", bytes: `${CHUNKED}1\r\ndd\r\n0\r\n\r\n`, complete: 0, status: refused },
  {
    why: "Proxy-Connection: close ends the connection",
    bytes: `GET / HTTP/1.1\r\nHost: h\r\nProxy-Connection: close\r\n\r\n${GET}`,
    complete: 1,
    status: "closed",
  },
  {
    why: "HTTP/1.0 ends the connection",
    bytes: `GET / HTTP/1.0\r\nHost: h\r\n\r\n${GET}`,
    complete: 1,
    status: "closed",
  },
  {
    why: "a tab after the coding",
    bytes: `POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "an unknown coding",
    bytes: `POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "two codings",
    bytes: `POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "a coding in HTTP/1.0",
    bytes: "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    complete: 0,
    status: refused,
  },
  {
    why: "a coding and a length",
    bytes: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    complete: 0,
    status: refused,
  },
  {
    why: "two lengths that agree",
    bytes: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nb",
    complete: 0,
    status: refused,
  },
  {
    why: "a list of lengths",
    bytes: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nb",
    complete: 0,
    status: refused,
  },
  {
    why: "a length with a sign",
    bytes: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nb",
    complete: 0,
    status: refused,
  },
  { why: "two hosts", bytes: "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", complete: 0, status: refused },
  { why: "no host", bytes: "GET / HTTP/1.1\r\n\r\n", complete: 0, status: refused },
  { why: "a space before the colon", bytes: "GET / HTTP/1.1\r\nHost : h\r\n\r\n", complete: 0, status: refused },
  { why: "a folded line", bytes: "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", complete: 0, status: refused },
  { why: "a bare CR in a value", bytes: "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", complete: 0, status: refused },
  { why: "a bare LF between fields", bytes: "GET / HTTP/1.1\r\nHost: h\nX: a\r\n\r\n", complete: 0, status: refused },
  { why: "a NUL in a value", bytes: "GET / HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n", complete: 0, status: refused },
  {
    why: "an absolute target without a host killed an engine",
    bytes: "GET http:/// HTTP/1.1\r\nHost: h\r\n\r\n",
    complete: 0,
    status: refused,
  },
  { why: "a target that is no form", bytes: "GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n", complete: 0, status: refused },
  { why: "a method that nobody knows", bytes: "get / HTTP/1.1\r\nHost: h\r\n\r\n", complete: 0, status: refused },
  {
    why: "what follows a request to upgrade waits for the answer; llhttp stops there too",
    bytes: `GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: w\r\n\r\n${GET}`,
    complete: 1,
    status: "upgrade",
  },
  { why: "HTTP/2 by prior knowledge", bytes: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", complete: 0, status: refused },
];

const OK = "HTTP/1.1 200 OK\r\n";
export const KNOWN_RESPONSES: readonly KnownStream[] = [
  {
    why: "two lengths that differ",
    bytes: `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`,
    complete: 0,
    status: refused,
  },
  {
    why: "two lengths that agree collapse",
    bytes: `${OK}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`,
    complete: 1,
    status: "more",
  },
  {
    why: "a coding and a length",
    bytes: `${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "a tab after the coding",
    bytes: `${OK}Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "bytes after the response",
    bytes: `${OK}Content-Length: 1\r\n\r\nab`,
    complete: 1,
    status: "error bytes after the response",
  },
  {
    why: "bytes after a 204",
    bytes: "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\na",
    complete: 1,
    status: "error bytes after the response",
  },
  {
    why: "an informational response with content",
    bytes: `HTTP/1.1 103 E\r\nContent-Length: 1\r\n\r\na${OK}\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "a flood of informational responses",
    bytes: `${"HTTP/1.1 103 E\r\n\r\n".repeat(17)}${OK}\r\n`,
    complete: 0,
    status: refused,
  },
  {
    why: "a switch nobody asked for",
    bytes: "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    complete: 0,
    status: refused,
  },
  { why: "a response that never says its length", bytes: `${OK}\r\nabc`, complete: 1, status: "more" },
  { why: "a response that breaks off", bytes: `${OK}Content-Length: 5\r\n\r\nabc`, complete: 0, status: "more" },
];
