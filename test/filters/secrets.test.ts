import { createCipheriv, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { base62, crc32 } from "../../src/filters/crc32.ts";
import { LiteralSet } from "../../src/filters/literal-set.ts";
import { secretMatchers } from "../../src/filters/secrets.ts";
import { TOKEN_FORMATS } from "../../src/filters/token-formats.ts";
import { cpuTime } from "../support/cpu.ts";
import { positives } from "./corpus/positives.ts";

const SECRET = 'p@ss/w+rd "é&<1>\\=~';
const MATCHERS = secretMatchers([{ value: SECRET }, { value: "short" }], 4096);

const found = (text: string | Buffer): string[] => {
  const bytes = Buffer.from(text as string);
  const kinds = MATCHERS.filter((m) => m.matcher.find(bytes, 0, bytes.length) !== null).map((m) => m.kind);
  return [...new Set(kinds)];
};
const foundInHost = (host: string): boolean =>
  MATCHERS.some((m) => m.host?.find(Buffer.from(host), 0, host.length) != null);

describe("a configured secret is found", () => {
  const raw = Buffer.from(SECRET);
  const hex = raw.toString("hex");
  const padded = (n: number) => Buffer.concat([Buffer.alloc(n, "x"), raw, Buffer.from("tail")]);
  const json = JSON.stringify({ a: SECRET });
  const cases: [string, string | Buffer][] = [
    ["as it is", `x${SECRET}y`],
    ["base64", raw.toString("base64")],
    ["base64 at the first alignment", padded(3).toString("base64")],
    ["base64 at the second alignment", padded(4).toString("base64")],
    ["base64 at the third alignment", padded(5).toString("base64")],
    ["base64url at each alignment", [3, 4, 5].map((n) => padded(n).toString("base64url")).join(" ")],
    ["Basic authentication", `Basic ${Buffer.from(`user:${SECRET}`).toString("base64")}`],
    ["hexadecimal", hex],
    ["hexadecimal in capitals", hex.toUpperCase()],
    ["percent-encoded", encodeURIComponent(SECRET)],
    ["percent-encoded in small letters", encodeURIComponent(SECRET).replace(/%../g, (e) => e.toLowerCase())],
    ["percent-encoded twice", encodeURIComponent(encodeURIComponent(SECRET))],
    ["percent-encoded byte by byte", hex.replace(/../g, "%$&")],
    ["in a form", new URLSearchParams({ a: SECRET }).toString().replaceAll("%7E", "~")],
    ["in JSON", json],
    ["in JSON in ASCII", json.replace("é", "\\u00e9")],
    ["in JSON with escaped slashes", json.replace("/", "\\/")],
    ["in JSON all in escapes", [...SECRET].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")],
    ["in JSON with escaped markup", json.replace(/[<>&]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)],
    ["in HTML", "<p>p@ss/w+rd &quot;é&amp;&lt;1&gt;\\=~</p>"],
    ["in UTF-16", Buffer.from(SECRET, "utf16le")],
    ["in UTF-16, big-endian", Buffer.from(SECRET, "utf16le").swap16()],
  ];
  it.each(cases)("%s", (_, text) => {
    expect(found(text)).toEqual(["known-secret"]);
  });

  const wrapped = (text: string, width: number, eol: string) =>
    text.replace(new RegExp(`.{${width}}`, "g"), (line) => `${line}${eol}`);
  const escapedFrom = (text: string, first: number, write: (c: string) => string) =>
    [...text].map((c, i) => (i % 3 === first ? write(c) : c)).join("");
  const unit = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const percent = (c: string) => Buffer.from(c).toString("hex").replace(/../g, "%$&");
  const jsonFrom = (first: number) =>
    [...SECRET].map((c, i) => (i % 3 === first ? unit(c) : JSON.stringify(c).slice(1, -1))).join("");
  const long = padded(200).toString("base64");
  const spelled: [string, string][] = [
    ...[0, 1, 2].flatMap((first): [string, string][] => [
      [`with some characters percent-encoded ${first}`, escapedFrom(SECRET, first, percent)],
      [`with some percent-encoded twice ${first}`, escapedFrom(SECRET, first, percent).replaceAll("%", "%25")],
      [`with some in JSON escapes ${first}`, jsonFrom(first)],
      [`with some in quoted-printable ${first}`, escapedFrom(SECRET, first, (c) => percent(c).replaceAll("%", "="))],
      [`with some in HTML ${first}`, escapedFrom(SECRET, first, (c) => `&#${c.charCodeAt(0)};`)],
      [
        `with some in hexadecimal HTML ${first}`,
        escapedFrom(SECRET, first, (c) => `&#x${c.charCodeAt(0).toString(16)};`),
      ],
    ]),
    ["in a form, where a space is a plus", SECRET.replace(" ", "+").replace("é", "%c3%A9")],
    ["in JSON in JSON", JSON.stringify(JSON.stringify({ a: SECRET }))],
    ["in JSON in JSON in ASCII", JSON.stringify(JSON.stringify({ a: SECRET }).replace("é", "\\u00e9"))],
    ["in a program", SECRET.replace("\\", "\\\\").replace("/", "\\x2f")],
    ["cut by a line of quoted-printable", `${SECRET.slice(0, 6)}=\r\n${SECRET.slice(6)}`],
    ...["\n", "\r\n", "\\n", "\\r\\n", "%0D%0A", "\n    ", "=\n"].flatMap((eol): [string, string][] => [
      [`in base64 wrapped with ${JSON.stringify(eol)}`, wrapped(long, 76, eol)],
      [`in base64 wrapped early with ${JSON.stringify(eol)}`, wrapped(raw.toString("base64"), 4, eol)],
      [`in hexadecimal wrapped with ${JSON.stringify(eol)}`, wrapped(hex, 10, eol)],
    ]),
    ["cut by many line breaks", `${SECRET.slice(0, 6)}${"\r\n".repeat(12)}${SECRET.slice(6)}`],
    ["cut everywhere, and indented", [...raw.toString("base64")].join(`\n${" ".repeat(16)}`)],
    ["in octal escapes", [...Buffer.from(SECRET)].map((byte) => `\\${byte.toString(8)}`).join("")],
    ["in escapes with braces", [...SECRET].map((c) => `\\u{${c.charCodeAt(0).toString(16)}}`).join("")],
    ["in escapes of Python", [...SECRET].map((c) => `\\U${c.charCodeAt(0).toString(16).padStart(8, "0")}`).join("")],
    ["in HTML with zeros", [...SECRET].map((c) => `&#00${c.charCodeAt(0)};`).join("")],
    ["in HTML without semicolons", [...SECRET].map((c) => `&#${c.charCodeAt(0)}`).join("")],
    ["in HTML by names", SECRET.replace("@", "&commat;").replace("/", "&sol;").replace("+", "&plus;")],
    ["in HTML in HTML", escapedFrom(SECRET, 0, (c) => `&amp;#${c.charCodeAt(0)};`)],
    ["percent-encoded three times", encodeURIComponent(encodeURIComponent(encodeURIComponent(SECRET)))],
    ["in JSON in a form", encodeURIComponent(jsonFrom(0))],
    ["in hexadecimal behind =, wrapped", `k=${wrapped(hex, 10, "\n")}`],
    ["in hexadecimal with colons", hex.replace(/..(?=.)/g, "$&:")],
    ["in hexadecimal with blanks, in capitals", hex.toUpperCase().replace(/..(?=.)/g, "$& ")],
    ["in base64 in a form", `a=${encodeURIComponent(`${long}`)}`],
    ["in base64 in a form, in part", `a=${raw.toString("base64").replace(/[A-M]/g, percent)}`],
    ["in base64 in JSON with escaped slashes", raw.toString("base64").replace(/[/]/g, "\\/").replace("c", "\\u0063")],
  ];
  it.each(spelled)("%s", (_, text) => {
    expect(found(`"x":"${text}"`)).toContain("known-secret");
    const bytes = Buffer.from(`"x":"${text}"`);
    for (const { kind, matcher } of MATCHERS.filter((m) => m.kind === "known-secret")) {
      const match = matcher.find(bytes, 0, bytes.length);
      if (match === null) continue;
      expect([kind, match.start >= 5, match.end <= bytes.length - 1]).toEqual([kind, true, true]);
      expect(matcher.find(bytes, 0, match.end)).toEqual(match);
      expect(matcher.find(bytes, 0, match.end - 1)?.end ?? 0).toBeLessThan(match.end);
    }
  });

  it("of several lines, with other ends of the lines", () => {
    const value = "the first line\n  the second line\nthe third";
    const matchers = secretMatchers([{ value }], 4096);
    for (const text of [
      value,
      value.replaceAll("\n", "\r\n"),
      JSON.stringify(value.replaceAll("\n", "\r\n")),
      encodeURIComponent(value.replaceAll("\n", "\r")),
      value.replaceAll("\n", "\n\t\t"),
    ]) {
      const bytes = Buffer.from(text);
      expect([text, matchers.some((m) => m.matcher.find(bytes, 0, bytes.length) !== null)]).toEqual([text, true]);
    }
  });

  it("in no match that is longer than the matcher says, so that the cut of a body makes no difference", () => {
    const wide = Buffer.from([...SECRET].join(`\n${" ".repeat(400)}`));
    expect(found(wide)).toEqual([]);
    for (const { matcher } of MATCHERS) expect(matcher.longest).toBeLessThan(wide.length);
  });

  it("also where it is of characters beyond the first plane", () => {
    const value = "key-\u{1f511}-of-\u{1f3e0}";
    const matchers = secretMatchers([{ value }], 4096);
    for (const text of [
      "key-\\ud83d\\udd11-of-\u{1f3e0}",
      "key-\u{1f511}-of-&#x1f3e0;",
      "key-%f0%9f%94%91-of-\u{1f3e0}",
    ]) {
      const bytes = Buffer.from(text);
      expect([text, matchers.some((m) => m.matcher.find(bytes, 0, bytes.length) !== null)]).toEqual([text, true]);
    }
  });

  it.each([
    ["nothing", ""],
    ["another, escaped", escapedFrom(`${SECRET.slice(0, -1)}x`, 0, percent)],
    ["the beginning, escaped", escapedFrom(SECRET.slice(0, -1), 0, percent)],
    ["the end, escaped", escapedFrom(SECRET.slice(1), 0, percent)],
    ["a secret of less than eight characters", "short"],
    ["a part", SECRET.slice(0, -1)],
    ["another", "p@ss/w-rd"],
  ])("but not in %s", (_, text) => {
    expect(found(text)).toEqual([]);
  });

  it("in any text at any place, in any form", () => {
    const secret = fc.string({ minLength: 8, maxLength: 40, unit: "grapheme-ascii" });
    fc.assert(
      fc.property(
        secret,
        fc.uint8Array({ maxLength: 20 }),
        fc.uint8Array({ maxLength: 20 }),
        (value, before, after) => {
          const [known] = secretMatchers([{ value }], 4096);
          const whole = Buffer.concat([before, Buffer.from(value), after]);
          for (const text of [whole, whole.toString("base64"), whole.toString("base64url"), whole.toString("hex")]) {
            const bytes = Buffer.from(text as string);
            expect(known?.matcher.find(bytes, 0, bytes.length)).not.toBe(null);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it("in a host name", () => {
    const [known] = secretMatchers([{ value: "Hunter2-Secret" }], 4096);
    const inHost = (host: string) => known?.host?.find(Buffer.from(host), 0, host.length) != null;
    const hex = Buffer.from("Hunter2-Secret").toString("hex");
    expect(inHost("hunter2-secret.evil.example")).toBe(true);
    expect(inHost(`${hex}.evil.example`)).toBe(true);
    expect(inHost(`${Buffer.from("Hunter2-Secret").toString("base64url").toLowerCase()}.x`)).toBe(true);
    expect(inHost("jb2w45dfoizc2u3fmnzgk5a.evil.example")).toBe(true);
    expect(inHost("hunter.evil.example")).toBe(false);
  });

  it("never with more than max-match, and with a small one by its beginning", () => {
    for (const { matcher } of secretMatchers([{ value: "é".repeat(5000) }], 4096))
      expect(matcher.longest).toBeLessThanOrEqual(4096);
    const value = "a-secret-of-some-length";
    for (const form of [value, Buffer.from(value).toString("hex"), Buffer.from(value).toString("base64")]) {
      const [known] = secretMatchers([{ value }], 20);
      expect(known?.matcher.longest).toBeLessThanOrEqual(20);
      expect([form, known?.matcher.find(Buffer.from(form), 0, form.length) != null]).toEqual([form, true]);
    }
  });

  it("in a time that grows with the text alone", () => {
    const secrets = Array.from({ length: 20 }, (_, i) => ({ value: `ab+a\nb/secret/${i * 7919}/of/the/house` }));
    const matchers = secretMatchers(secrets, 4096).filter((m) => m.kind === "known-secret");
    for (const piece of [
      "\n",
      "+",
      "\\u0061",
      "%250a",
      "%61",
      "\na",
      "ab%2ba%0ab/s",
      "ab\n+",
      "\\\\\\n",
      "=\n",
      "&#97;",
    ]) {
      const text = Buffer.alloc(50_000, piece);
      const cost = cpuTime(() => {
        for (const { matcher } of matchers) matcher.find(text, 0, text.length);
      });
      expect([piece, cost < 5_000]).toEqual([piece, true]);
    }
  });
});

it("text that is nothing but escapes is searched at a few megabytes a second at least", () => {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 3), Buffer.alloc(16));
  const noise = (length: number) => cipher.update(Buffer.alloc(length));
  const values = Array.from({ length: 20 }, () => ({ value: noise(30).toString("base64") }));
  const matchers = secretMatchers(values, 4096);
  const escapes = [...noise(175_000).toString("hex")].map((c) => `%${c.charCodeAt(0).toString(16)}`).join("");
  for (const text of [escapes, "sk-proj-".repeat(130_000), "&".repeat(1_050_000)]) {
    const bytes = Buffer.from(text);
    const cost = cpuTime(() => {
      for (const { matcher } of matchers) expect(matcher.find(bytes, 0, bytes.length)).toBe(null);
    });
    expect([text.slice(0, 9), cost < 1_000]).toEqual([text.slice(0, 9), true]);
  }
});

describe("tokens", () => {
  it("have checksums as published", () => {
    // From a description of GitHub's format; the token was never valid.
    expect(base62(crc32(Buffer.from("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")), 6)).toBe("0mLq17");
    expect(crc32(Buffer.from("123456789"))).toBe(0xcbf43926);
  });

  it.each(positives(3))("%s", (_, token) => {
    expect(found(token)).toEqual(["token"]);
    expect(found(`{"x":"\\n${token}"}`)).toEqual(["token"]);
    expect(found(`a=%22${token}%22&b=1`)).toEqual(["token"]);
    expect(found(`x ${token.slice(0, -1)}`).length).toBeLessThanOrEqual(1);
  });

  const units = (text: string, from: number, to: number): string =>
    [...text.slice(from, to)].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
  it.each(positives(2))("%s, in escapes", (name, token) => {
    const html = [...token].map((c) => `&#${c.charCodeAt(0)};`).join("");
    for (const text of [
      `{"x":"${token.replaceAll("/", "\\/")}"}`,
      `a=${encodeURIComponent(token)}&b=1`,
      `a=${encodeURIComponent(encodeURIComponent(token))}&b=1`,
      `{"x":"${units(token, 0, 3)}${token.slice(3)}"}`,
      `{"x":"${token.slice(0, 5)}${units(token, 5, 9)}${token.slice(9)}"}`,
      `<p>${html}</p>`,
      `${token.slice(0, 12)}=\r\n${token.slice(12)}`,
    ])
      expect([name, text, found(text)]).toEqual([name, text, ["token"]]);
  });

  it("with a wrong checksum are none", () => {
    for (const [name, token] of positives(3).filter(([n]) =>
      /^(npm|github-(personal|oauth|user|server|refresh)) /.test(n),
    ))
      expect([name, found(`${token.slice(0, -1)}${token.endsWith("a") ? "b" : "a"}`)]).toEqual([name, []]);
  });

  it("in a host name are found without their case", () => {
    for (const [name, token] of positives(3).filter(([n]) => /^(aws-access|github-personal|gitlab-job)/.test(n)))
      if (/\d.*$/.test(token.slice(5)))
        expect([name, foundInHost(`${token.toLowerCase()}.evil.example`)]).toEqual([name, true]);
    expect(foundInHost("api.github.com")).toBe(false);
    expect(foundInHost("npm_package.example")).toBe(false);
  });

  it("have names", () => {
    for (const [name, token] of positives(3).filter(([n]) => !n.startsWith("telegram"))) {
      const bytes = Buffer.from(token);
      const matcher = MATCHERS.find((m) => m.kind === "token")?.matcher;
      const match = matcher?.find(bytes, 0, bytes.length);
      const found = matcher?.nameOf?.(bytes.subarray(match?.start, match?.end));
      expect([name, found]).toEqual([name, name.replace(/ \d+$/, "")]);
    }
  });

  it("are looked for by three bytes and more", () => {
    for (const { id, anchor } of TOKEN_FORMATS) expect([id, anchor.length >= 3]).toEqual([id, true]);
  });

  it("are not saved by what stands behind them", () => {
    for (const [name, token] of positives(2).filter(([n]) => /^(stripe-secret|openai-project|vault|slack-bot)/.test(n)))
      expect([name, found(`${token}EXAMPLE`)]).toEqual([name, ["token"]]);
  });

  it("of GitHub's Apps are found in both forms", () => {
    const jwt = `eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.${"eyJpc3MiOiIxMjM0NTY3Iiw".repeat(8)}.${"Zm9vYmFyX2Jhe-".repeat(20)}`;
    expect(found(`Authorization: token ghs_1234567_${jwt}`)).toEqual(["token"]);
    expect(found(`ghs_server_settings_${"are_words_with_underscores_".repeat(6)}`)).toEqual([]);
  });

  it("whose letters are all of encoded data are found only by themselves", () => {
    const [, key = ""] = positives(1).find(([name]) => name.startsWith("aws-access-key")) ?? [];
    expect(found(`id=${key};`)).toEqual(["token"]);
    expect(found(`MZXW6YTB${key}`)).toEqual([]);
    expect(found(`${key}MZXW6YTB`)).toEqual([]);
    const [, bot = ""] = positives(1).find(([name]) => name.startsWith("slack-bot")) ?? [];
    expect(found(`MZXW6YTB${bot}`)).toEqual([]);
    expect(found(`"${bot}${"MZXW6YTB".repeat(60)}`)).toEqual(["token"]);
    expect(foundInHost("asiapacific.example2hosting.net".replaceAll(".", ""))).toBe(false);
  });
});

describe("private keys", () => {
  const pem = (type: "rsa" | "ec" | "ed25519") => {
    const key =
      type === "rsa"
        ? generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey.export({ type: "pkcs1", format: "pem" })
        : type === "ec"
          ? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "sec1", format: "pem" })
          : generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
    return String(key);
  };
  it.each(["rsa", "ec", "ed25519"] as const)("%s", (type) => {
    const text = pem(type);
    expect(found(text)).toEqual(["private-key"]);
    expect(found(text.replaceAll("\n", "\r\n"))).toEqual(["private-key"]);
    expect(found(JSON.stringify({ key: text }))).toEqual(["private-key"]);
  });

  it.each(["-----BEGIN OPENSSH", "-----BEGIN ENCRYPTED", "-----BEGIN"])("%s PRIVATE KEY", (begin) => {
    expect(found(`${begin} PRIVATE KEY-----\n${"A".repeat(64)}\n`)).toEqual(["private-key"]);
  });

  it.each(["rsa", "ec", "ed25519"] as const)("%s, as it is sent in other texts", (type) => {
    const text = pem(type);
    const lines = text.trimEnd().split("\n");
    for (const [name, other] of [
      ["a form", new URLSearchParams({ key: text }).toString()],
      ["a form with CRLF", new URLSearchParams({ key: text.replaceAll("\n", "\r\n") }).toString()],
      ["percent-encoded", encodeURIComponent(text)],
      ["JSON in JSON", JSON.stringify(JSON.stringify({ key: text }))],
      ["YAML", `key: |\n${lines.map((line) => `            ${line}`).join("\n")}`],
      ["a program", lines.map((line) => `"${line}\\n"`).join(" +\n    ")],
      ["a letter", lines.map((line) => `> ${line}`).join("\r\n")],
      ["base64", Buffer.from(text).toString("base64")],
      ["base64, behind something", Buffer.from(`x ${text}`).toString("base64")],
      ["base64, behind something else", Buffer.from(`xy ${text}`).toString("base64url")],
      ["JSON with escaped signs", JSON.stringify({ key: text }).replaceAll("-", "\\u002d")],
      ["JSON in a form", `a=${encodeURIComponent(JSON.stringify({ key: text }))}`],
      ["a form in a form", encodeURIComponent(encodeURIComponent(text))],
      ["quoted-printable", text.replace("PRIVATE", "PRIV=\r\nATE")],
      [
        "base64 in lines",
        Buffer.from(`${"x".repeat(45)}${text}`)
          .toString("base64")
          .replace(/.{76}/g, "$&\r\n"),
      ],
      [
        "UTF-16, behind something",
        Buffer.concat([Buffer.from("--b\r\n\r\n"), Buffer.from(`\ufeff${text}`, "utf16le")]),
      ],
      ["UTF-16, big-endian", Buffer.from(text.replaceAll("\n", "\r\n"), "utf16le").swap16()],
      ["base64 with CRLF", Buffer.from(text.replaceAll("\n", "\r\n")).toString("base64")],
    ] as const)
      if (type !== "ed25519" || !/program|letter/.test(name))
        expect([name, found(other)]).toEqual([name, ["private-key"]]);
  });

  it("with fields before the key", () => {
    expect(found("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n")).toEqual(["private-key"]);
    expect(found("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQdGBF8AAAABEADJ7fN0000000000000000000000000000")).toEqual([
      "private-key",
    ]);
  });
});

it("nothing is found in the negatives of the corpus", () => {
  const lines = readFileSync(join(import.meta.dirname, "corpus/negatives.txt"), "utf8").split("\n");
  expect(lines.length).toBeGreaterThan(30);
  expect(lines.filter((line) => found(line).length > 0)).toEqual([]);
});

it.each(["base64", "base64url", "hex", "latin1"] as const)("nothing is found in noise in %s", (encoding) => {
  // AES of zeros: the same on every run.
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 1), Buffer.alloc(16));
  const noise = cipher.update(Buffer.alloc(4_000_000)).toString(encoding);
  const bytes = Buffer.from(noise, "latin1");
  expect(MATCHERS.filter(({ matcher }) => matcher.find(bytes, 0, bytes.length) !== null)).toEqual([]);
  const wrapped = Buffer.from(noise.slice(0, 1_000_000).replace(/.{76}/g, "$&\r\n"), "latin1");
  expect(MATCHERS.filter(({ matcher }) => matcher.find(wrapped, 0, wrapped.length) !== null)).toEqual([]);
});

describe("a set of texts", () => {
  it("finds the first of any, the longest of those that begin together", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 2, maxLength: 5 });
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 40 });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), text, fc.nat(10), (words, t, from) => {
        const set = new LiteralSet(words.map((w) => Buffer.from(w)));
        const expected = words
          .map((w) => ({ start: t.indexOf(w, from), length: w.length }))
          .filter((m) => m.start >= 0)
          .sort((a, b) => a.start - b.start || b.length - a.length)[0];
        const match = set.find(Buffer.from(t), from, t.length);
        expect(match).toEqual(
          expected === undefined ? null : { start: expected.start, end: expected.start + expected.length },
        );
      }),
      { numRuns: 1000 },
    );
  });

  it("needs texts", () => {
    expect(() => new LiteralSet([])).toThrow();
    expect(() => new LiteralSet([Buffer.from("a")])).toThrow();
  });
});
