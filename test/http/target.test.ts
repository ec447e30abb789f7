import { domainToASCII } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  authorityText,
  canonicalHost,
  originText,
  parseAbsoluteTarget,
  parseAuthority,
  parseConnectTarget,
} from "../../src/http/target.ts";

const LABEL63 = "a".repeat(63);
const NAME253 = `${LABEL63}.${LABEL63}.${LABEL63}.${"b".repeat(61)}`;

describe("the canonical form of a host", () => {
  test.each([
    // H1, H2: case and the trailing dot
    ["example.com", "example.com"],
    ["Example.COM", "example.com"],
    ["example.com.", "example.com"],
    ["EXAMPLE.com.", "example.com"],
    ["localhost", "localhost"],
    ["localhost.", "localhost"],
    ["a", "a"],
    ["a_b.example", "a_b.example"],
    ["_dmarc.example.com", "_dmarc.example.com"],
    ["r3---sn-4g5.googlevideo.com", "r3---sn-4g5.googlevideo.com"],
    ["3com.com", "3com.com"],
    ["example.3com", "example.3com"],
    ["1.2.3.4a", "1.2.3.4a"],
    [NAME253, NAME253],
    [`${NAME253}.`, NAME253],
    // H7: UTS-46, non-transitional
    ["bücher.de", "xn--bcher-kva.de"],
    ["BÜCHER.de", "xn--bcher-kva.de"],
    ["xn--bcher-kva.de", "xn--bcher-kva.de"],
    ["XN--BCHER-KVA.DE", "xn--bcher-kva.de"],
    ["faß.de", "xn--fa-hia.de"],
    ["xn--fa-hia.de", "xn--fa-hia.de"],
    ["ⓔxample.com", "example.com"],
    ["a。com", "a.com"],
    ["a．com．", "a.com"],
    ["ｅｘａｍｐｌｅ.com", "example.com"],
    ["日本語.jp", "xn--wgv71a119e.jp"],
    // H10: the spellings of an IPv4 address
    ["127.0.0.1", "127.0.0.1"],
    ["127.0.0.1.", "127.0.0.1"],
    ["127.1", "127.0.0.1"],
    ["127.0.1", "127.0.0.1"],
    ["127.258", "127.0.1.2"],
    ["0x7f000001", "127.0.0.1"],
    ["0X7F000001", "127.0.0.1"],
    ["0x7f.0x0.0x0.0x1", "127.0.0.1"],
    ["0x7f.1", "127.0.0.1"],
    ["2130706433", "127.0.0.1"],
    ["017700000001", "127.0.0.1"],
    ["0177.0.0.1", "127.0.0.1"],
    ["00000177.0.0.01", "127.0.0.1"],
    ["１２７.0.0.1", "127.0.0.1"],
    ["127。0。0。1", "127.0.0.1"],
    ["①②⑦.0.0.1", "127.0.0.1"],
    ["0", "0.0.0.0"],
    ["0x", "0.0.0.0"],
    ["0.0", "0.0.0.0"],
    ["4294967295", "255.255.255.255"],
    ["169.254.43518", "169.254.169.254"],
    // IPv6, RFC 5952
    ["::", "::"],
    ["::1", "::1"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["2001:DB8::A", "2001:db8::a"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0db8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"],
    ["::ffff:127.0.0.1", "::ffff:7f00:1"],
    ["::FFFF:7f00:1", "::ffff:7f00:1"],
    ["64:ff9b::10.0.0.1", "64:ff9b::a00:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ])("%s is %s", (text, host) => {
    expect(canonicalHost(text)).toBe(host);
    expect(canonicalHost(host)).toBe(host);
  });

  test.each([
    [""],
    ["."],
    [".."],
    [".a"],
    ["a..b"],
    ["example.com.."],
    ["example.com。."],
    // H6, H9: bytes that are no part of a name
    ["a.com%00.allowed.com"],
    ["a.com\u0000.allowed.com"],
    ["a%2ecom"],
    ["a％2ecom"],
    ["a\tb.com"],
    ["a b.com"],
    [" a.com"],
    ["a.com "],
    ["a.com\r\n"],
    ["a.com\n"],
    ["a\u3000b.com"],
    ["a\u00a0b.com"],
    ["a\u2028.com"],
    ["a\u0085b.com"],
    ["a\u007fb.com"],
    ["\ufeffa.com"],
    ["a/b"],
    ["a／b"],
    ["a?b"],
    ["a#b"],
    ["a\\b"],
    ["a＼b"],
    ["u@a.com"],
    ["u＠a.com"],
    ["a,b"],
    ["a;b"],
    ["a*b"],
    ["*.a.com"],
    ["a!b"],
    ["a'b"],
    ['a"b'],
    ["<a>"],
    ["a|b"],
    ["[::1]"],
    ["[a.com]"],
    ["a.com:80"],
    ["a：80"],
    // H7: invalid
    ["xn--a"],
    ["xn--a.com"],
    ["xn--"],
    ["a.xn--"],
    ["xn--example-.com"],
    ["\ud800.com"],
    ["a\u200d.com"],
    [`xn--${"a".repeat(70)}`],
    // labels and length
    ["a".repeat(64)],
    [`${"a".repeat(64)}.com`],
    [`com.${"a".repeat(64)}`],
    [`a${NAME253}`],
    [`${"a.".repeat(127)}aa`],
    ["ü".repeat(2000)],
    // a number that is no address
    ["256.1.1.1"],
    ["1.2.3.4.5"],
    ["a.1"],
    ["a.0x1f"],
    ["1.2.3.08"],
    ["09"],
    ["4294967296"],
    ["127.0.0.256"],
    ["127.0.65536"],
    [`1.2.3.0x${"f".repeat(20)}`],
    ["99999999999999999999999"],
    // H13 and other IPv6
    ["::1%lo"],
    ["fe80::1%25eth0"],
    ["::1%"],
    [":::"],
    [":"],
    ["1::2::3"],
    ["1:2:3:4:5:6:7"],
    ["1:2:3:4:5:6:7:8:9"],
    ["1:2:3:4:5:6:7:8::"],
    ["12345::"],
    ["::g"],
    ["::1."],
    ["::01.2.3.4"],
    ["::256.0.0.1"],
    ["::1.2.3"],
    ["::1.2.3.4:5"],
    ["1.2.3.4::"],
    [":1:2:3:4:5:6:7"],
    ["1:2:3:4:5:6:7:"],
    ["::１"],
  ])("%j is no host", (text) => {
    expect(canonicalHost(text)).toBeNull();
  });

  test("it is total, stable, and made of plain characters", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc.string({ maxLength: 30, unit: "binary" }),
      fc.stringMatching(/^[a-zA-Z0-9._:xX-]{1,20}$/),
      fc.domain(),
      fc.ipV4Extended(),
      fc.ipV6(),
    );
    fc.assert(
      fc.property(text, (input) => {
        const host = canonicalHost(input);
        if (host === null) return;
        expect(host).toMatch(/^[a-z0-9._:-]+$/);
        expect(canonicalHost(host)).toBe(host);
        expect(canonicalHost(host.toUpperCase())).toBe(host);
      }),
      { numRuns: 5000 },
    );
  });

  test("where it gives an answer, the platform's own UTS-46 and IPv4 parser give the same", () => {
    const part = fc.constantFrom(
      "a",
      "B",
      ".",
      "。",
      "ß",
      "ü",
      "é",
      "日",
      "0",
      "1",
      "12",
      "255",
      "256",
      "0x",
      "f",
      "-",
      "_",
      "xn--bcher-kva",
      "ⓔ",
      "①",
    );
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 10 }), (parts) => {
        const input = parts.join("");
        const host = canonicalHost(input);
        if (host !== null) expect(domainToASCII(input).replace(/\.$/, "")).toBe(host);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("an authority", () => {
  test.each([
    ["a.com:443", null, "a.com", 443],
    ["A.com.:443", null, "a.com", 443],
    ["a.com:1", null, "a.com", 1],
    ["a.com:65535", null, "a.com", 65535],
    ["a.com", 80, "a.com", 80],
    ["[::1]:443", null, "::1", 443],
    ["[0:0::1]", 443, "::1", 443],
    ["127.1:80", null, "127.0.0.1", 80],
    ["[::FFFF:1.2.3.4]:80", null, "::ffff:102:304", 80],
    ["faß.de:443", null, "xn--fa-hia.de", 443],
  ])("%s (default %s) is %s %i", (text, port, host, expected) => {
    expect(parseAuthority(text, port)).toEqual({ host, port: expected });
  });

  test.each([
    // H3, H4, H5, H13
    ["[example.com]:443"],
    ["[127.0.0.1]:443"],
    ["[]:443"],
    ["[::1"],
    ["[::1]443"],
    ["[::1]:"],
    ["[[::1]]:443"],
    ["[v1.a]:443"],
    ["[::1%25lo]:443"],
    ["[fe80::1%25eth0]:443"],
    ["[::1]x:443"],
    ["::1]:443"],
    ["::1:443"],
    ["2001:db8::1:443"],
    [""],
    [":443"],
    ["a.com:"],
    ["a.com:443:80"],
    ["http://a.com/"],
    ["a.com/:443"],
    ["a.com:443/"],
    ["a.com:0"],
    ["a.com:65536"],
    ["a.com:99999999999"],
    ["a.com:+443"],
    ["a.com:-443"],
    ["a.com:0443"],
    ["a.com: 443"],
    ["a.com:443 "],
    ["a.com:0x1bb"],
    ["a.com:４４３"],
    ["a.com:4e2"],
    ["user@a.com:443"],
    ["user:pw@a.com:443"],
    ["a.com%00.allowed.com:443"],
    ["*"],
    ["a.com..:443"],
  ])("%s is none, with or without a default port", (text) => {
    expect(parseAuthority(text, 443)).toBeNull();
    expect(parseConnectTarget(text)).toBeNull();
  });

  test("CONNECT wants a port", () => {
    expect(parseConnectTarget("a.com")).toBeNull();
    expect(parseConnectTarget("[::1]")).toBeNull();
    expect(parseConnectTarget("A.com:443")).toEqual({ host: "a.com", port: 443 });
  });

  // B6
  test.each([
    ["a:443", true],
    ["a", true],
    ["A.", true],
    ["a:8443", false],
    ["b", false],
  ])("Host %s inside CONNECT a:443 agrees: %s", (field, equal) => {
    const connect = parseConnectTarget("a:443");
    const inner = parseAuthority(field, 443);
    expect(inner?.host === connect?.host && inner?.port === connect?.port).toBe(equal);
  });
});

describe("an absolute target", () => {
  test.each([
    ["http://a.com", "http", "a.com", 80, "/"],
    ["http://a.com/", "http", "a.com", 80, "/"],
    ["HTTP://A.COM./x?y", "http", "a.com", 80, "/x?y"],
    ["https://a.com", "https", "a.com", 443, "/"],
    ["http://a.com?q=1", "http", "a.com", 80, "/?q=1"],
    ["http://a.com:8080/x", "http", "a.com", 8080, "/x"],
    ["http://[::1]:8080/x", "http", "::1", 8080, "/x"],
    ["http://[::1]/", "http", "::1", 80, "/"],
    ["http://a.com//x/../y?a=http://b.com/", "http", "a.com", 80, "//x/../y?a=http://b.com/"],
    ["http://a.com/u@b.com", "http", "a.com", 80, "/u@b.com"],
    ["http://a.com/a%2fb", "http", "a.com", 80, "/a%2fb"],
    ["http://0x7f000001/", "http", "127.0.0.1", 80, "/"],
  ])("%s", (text, scheme, host, port, path) => {
    expect(parseAbsoluteTarget(text)).toMatchObject({ scheme, host, port, path });
  });

  test.each([
    // H8, H9
    ["http://user:pw@a.com/"],
    ["http://user@a.com/"],
    ["http://@a.com/"],
    ["http://a.com\\@b.com/"],
    ["http://a.com#@b.com/"],
    ["http://a.com/#f"],
    ["http://user@a.com:80@b.com/"],
    ["http://a%2ecom/"],
    ["http://a\tb.com/"],
    ["http://a.com/a b"],
    ["http://a.com/a\u0000"],
    ["http://a.com/\\x"],
    ["http://"],
    ["http:///"],
    ["http:///a.com/"],
    ["http:/a.com/"],
    ["http:a.com"],
    ["//a.com/"],
    ["/"],
    [""],
    ["*"],
    ["ftp://a.com/"],
    ["ws://a.com/"],
    ["file:///etc/passwd"],
    ["javascript:alert(1)"],
    [" http://a.com/"],
    ["http://a.com:/"],
    ["http://a.com:0/"],
    ["http://a.com:80:80/"],
    ["http://::1/"],
    ["http://[a.com]/"],
    ["http://[::1%25lo]/"],
    ["http://?"],
    ["http://a.com..?x"],
  ])("%j is none", (text) => {
    expect(parseAbsoluteTarget(text)).toBeNull();
  });
});

describe("text of authorities", () => {
  test("brackets around IPv6, and the default port left out where a scheme says it", () => {
    expect(authorityText({ host: "a.com", port: 443 })).toBe("a.com:443");
    expect(authorityText({ host: "a.com", port: 443 }, "https")).toBe("a.com");
    expect(authorityText({ host: "a.com", port: 443 }, "http")).toBe("a.com:443");
    expect(authorityText({ host: "::1", port: 80 }, "http")).toBe("[::1]");
    expect(authorityText({ host: "::1", port: 81 }, "http")).toBe("[::1]:81");
    expect(originText({ scheme: "https", host: "::1", port: 8443 })).toBe("https://[::1]:8443");
    expect(originText({ scheme: "http", host: "a.com", port: 80 })).toBe("http://a.com");
  });

  test("what is written is read back", () => {
    fc.assert(
      fc.property(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()), fc.integer({ min: 1, max: 65535 }), (name, port) => {
        const host = canonicalHost(name);
        if (host === null) return;
        expect(parseAuthority(authorityText({ host, port }), null)).toEqual({ host, port });
        expect(parseAbsoluteTarget(originText({ scheme: "http", host, port }))).toMatchObject({ host, port });
      }),
    );
  });
});
