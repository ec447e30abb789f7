// Streams of HTTP/1.1 as nobody should send them: a grammar with rare bad alternatives, and then mutations of bytes.
// All text is latin1: one character, one byte.
import type { Random } from "./random.ts";

const BAD_BYTES = [
  "\0",
  "\x01",
  "\x08",
  "\t",
  "\n",
  "\v",
  "\f",
  "\r",
  " ",
  "\x7f",
  "\x80",
  "\xa0",
  "\xff",
  ":",
  ",",
  ";",
  '"',
  "\\",
  "/",
  "-",
  "+",
  "_",
  "0",
  "1",
  "a",
  "f",
  "x",
  "\r\n",
  "\r\n ",
  "\r\n\r\n",
  "\n\n",
];
const NAMES = [
  "Host",
  "X-A",
  "Accept",
  "Content-Length",
  "Transfer-Encoding",
  "Connection",
  "Expect",
  "Upgrade",
  "TE",
  "Trailer",
  "content-length",
  "TRANSFER-ENCODING",
  "Content_Length",
  "Content-Length ",
  " X",
  "X\t",
  "X A",
  "",
  "X(",
  "X@",
  "X\xe9",
  "Proxy-Connection",
  "Keep-Alive",
  "Cookie",
];
const PLAIN_NAMES = ["X-A", "Accept", "Cookie", "Connection"];
const LENGTHS = [
  "0",
  "5",
  "5",
  "10",
  "05",
  "00",
  "+5",
  "-5",
  "0x5",
  "5 ",
  " 5",
  "5,5",
  "5, 6",
  "5;",
  "5.0",
  "1e1",
  "",
  "999999999999999999999",
  "9007199254740993",
  "18446744073709551621",
  "4294967301",
  "1 0",
  "a",
  "\xb5",
  "5\0",
  "\t5",
  "5\t",
];
const CODINGS = [
  "chunked",
  "chunked",
  "chunked",
  "Chunked",
  "CHUNKED ",
  "chunked,",
  ",chunked",
  "chunked, chunked",
  "gzip, chunked",
  "chunked, gzip",
  "identity",
  "xchunked",
  "chunkedx",
  '"chunked"',
  "chunked;q=1",
  "\x0bchunked",
  "chun\rked",
  "chunked\0",
  "",
  "chunked\t",
  "\tchunked",
];
const VALUES = [
  "x",
  "a b",
  "",
  " ",
  "x",
  "y",
  "keep-alive",
  "a,b",
  '"q"',
  "\xff\xfe",
  "z",
  "w",
  "long long long long",
  "close",
  "a\0b",
  "a\rb",
  "a\nb",
  "a\tb",
  "a\x7fb",
  "close, x-a",
  "upgrade",
  " x ",
  "\tx\t",
];

export class Streams {
  private readonly random: Random;
  /** How often line ends are bad; half of the streams have good ones, so that what comes later is reached. */
  private noise = 0;

  /** What requests name: "" for origin-form and a host called h, or the authority of absolute-form. */
  private readonly authority: string;

  constructor(random: Random, authority = "") {
    this.random = random;
    this.authority = authority;
  }

  /** One to a few requests on one connection. */
  requests(): string {
    this.noise = this.random.chance(0.5) ? 0 : 0.03;
    let text = this.request();
    while (this.random.chance(0.3)) text += this.request();
    return this.mutated(text);
  }

  /** One response, perhaps with informational ones before it. */
  response(): string {
    this.noise = this.random.chance(0.5) ? 0 : 0.03;
    let text = "";
    while (this.random.chance(0.05))
      text += `HTTP/1.1 103 Early${this.lineEnd()}${this.field(this.name())}${this.lineEnd()}`;
    return this.mutated(text + this.finalResponse());
  }

  private request(): string {
    const r = this.random;
    const empty = r.chance(0.05) ? r.pick(["\r\n", "\n", "\r\n\r\n"]) : "";
    const method = r.mostly(
      ["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"],
      ["get", "G(T", "XYZ", "", "GET ", " GET", "CONNECT", "PRI", "M-SEARCH"],
      0.05,
    );
    const target = r.mostly(this.targets(), ["", "/a b", "/\0", "/\xff", "/a#f", "h:1", "/\t"], 0.05);
    const version = r.mostly(
      ["HTTP/1.1"],
      [
        "HTTP/1.0",
        "HTTP/1.0",
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1,1",
        "HTP/1.1",
        "",
        "HTTP/1.1 ",
      ],
      0.05,
    );
    return empty + method + this.space() + target + this.space() + version + this.lineEnd() + this.message(true);
  }

  private targets(): string[] {
    if (this.authority === "") return ["/", "/a?b=c", "http://h/x", "*"];
    return [`http://${this.authority}/`, `http://${this.authority}/a?b=c`, `http://${this.authority}`];
  }

  private finalResponse(): string {
    const r = this.random;
    const version = r.mostly(["HTTP/1.1"], ["HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.", "ICY", "HTTP/1.1 "], 0.03);
    const status = r.mostly(
      ["200", "404", "200", "500", "204", "304"],
      ["99", "2000", "20", "+20", "2x0", "600", "000", "100", "103", "101"],
      0.07,
    );
    const phrase = r.mostly([" OK"], ["", " ", "  OK", " a\tb", " a\0b", " \xff", "OK"], 0.05);
    return version + this.space() + status + phrase + this.lineEnd() + this.message(false);
  }

  private message(request: boolean): string {
    const r = this.random;
    let text = request && r.chance(0.96) ? `Host: ${this.authority || "h"}${this.lineEnd()}` : "";
    for (let n = r.below(4); n > 0; n--) text += this.field(r.chance(0.85) ? r.pick(PLAIN_NAMES) : this.name());
    const kind = r.next();
    let body = "";
    if (kind < 0.3) {
      const length = r.below(12);
      text += `Content-Length: ${length}${this.lineEnd()}`;
      body = "b".repeat(length);
    } else if (kind < 0.65) {
      text += r.chance(0.9) ? `Transfer-Encoding: chunked${this.lineEnd()}` : this.field("Transfer-Encoding");
      body = this.chunks();
    }
    return text + this.lineEnd() + body;
  }

  private field(name: string): string {
    const r = this.random;
    const separator = r.mostly([": "], [":", ":\t", ":  ", " :", "\t: ", "::", ": \t ", "", ":\r\n ", "="], 0.03);
    return name + separator + this.value(name) + this.lineEnd();
  }

  private value(name: string): string {
    const r = this.random;
    if (/^content.length/i.test(name) && !name.includes("_")) return r.pick(LENGTHS);
    if (/^transfer/i.test(name)) return r.pick(CODINGS);
    if (/^host/i.test(name)) return r.pick(["h", "h", "h:80", "a b", ""]);
    if (/^expect/i.test(name)) return r.pick(["100-continue", "100-Continue", "x"]);
    return r.chance(0.05) ? "x".repeat(r.below(300)) : r.pick(VALUES);
  }

  private chunks(): string {
    const r = this.random;
    let text = "";
    for (let n = r.below(4); n > 0; n--) {
      const size = 1 + r.below(20);
      text +=
        this.chunkSize(size) +
        this.lineEnd() +
        "d".repeat(r.chance(0.95) ? size : size + r.below(3) - 1) +
        this.lineEnd();
    }
    text += r.mostly(["0"], ["", "00", "0;x", "0 ", "g"], 0.05) + this.lineEnd();
    while (r.chance(0.15)) text += this.field(this.name());
    return text + this.lineEnd();
  }

  private chunkSize(n: number): string {
    const r = this.random;
    const bad = [
      `0x${n}`,
      `${n} `,
      ` ${n}`,
      `+${n}`,
      `-${n}`,
      `0${n}`,
      "",
      `${n}g`,
      "ffffffffffffffff",
      "10000000000000000",
      `00000000000000000${n}`,
      `${n};a=b`,
      `${n};`,
      `${n} ;a`,
      `${n};a="\r\n"`,
      `${n};\0`,
      `${n};a\nb`,
      `${n};a\rb`,
      `${n}\t`,
      `_${n}`,
      `${n};a="b;c"`,
      `${n};a="`,
      `${n};=`,
      `${n};\xff`,
    ];
    return r.mostly([n.toString(16)], bad, 0.1);
  }

  private name(): string {
    return this.random.chance(0.04) ? "a".repeat(1 + this.random.below(40)) : this.random.pick(NAMES);
  }

  private space(): string {
    return this.random.mostly([" "], ["  ", "\t", "", "\v"], 0.03);
  }

  private lineEnd(): string {
    return this.random.mostly(["\r\n"], ["\n", "\r", "\r\r\n", "\r\n\r\n", "\n\r", ""], this.noise);
  }

  private mutated(text: string): string {
    const r = this.random;
    for (let n = r.chance(0.6) ? 0 : 1 + r.below(2); n > 0; n--)
      text = this.mutatedOnce(text, r.below(text.length + 1));
    return text;
  }

  private mutatedOnce(text: string, at: number): string {
    const r = this.random;
    const kind = r.next();
    if (kind < 0.35) return text.slice(0, at) + r.pick(BAD_BYTES) + text.slice(at);
    if (kind < 0.6) return text.slice(0, at) + text.slice(at + 1 + r.below(3));
    if (kind < 0.85)
      return (
        text.slice(0, at) + (r.chance(0.5) ? String.fromCharCode(r.below(256)) : r.pick(BAD_BYTES)) + text.slice(at + 1)
      );
    const to = at + r.below(20);
    return text.slice(0, to) + text.slice(at, to) + text.slice(to);
  }
}
