// What is never written is found in every spelling, wherever it stands, and nothing else is.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KnownSecrets, REDACTED } from "../../src/shared/known-secrets.ts";
import { TextSet } from "../../src/shared/text-set.ts";

const SECRET = 'p@ss/w+rd "é&<1>\\=~';
const HOSTABLE = "Hunter2-Label-Secret";
const known = new KnownSecrets([SECRET, HOSTABLE]);
const raw = Buffer.from(SECRET);
const hex = raw.toString("hex");
const padded = (n: number): Buffer => Buffer.concat([Buffer.alloc(n, "x"), raw, Buffer.from("tail")]);
const units = (text: string): string =>
  [...text].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");

describe("a secret is replaced", () => {
  const json = JSON.stringify(SECRET).slice(1, -1);
  test.each<[string, string]>([
    ["as it is", SECRET],
    ["as bytes that were read as Latin-1", raw.toString("latin1")],
    ["in other letters", SECRET.toUpperCase().replace("É", "é")],
    ["in hexadecimal", hex],
    ["in hexadecimal capitals", hex.toUpperCase()],
    ["percent-encoded", encodeURIComponent(SECRET)],
    ["percent-encoded in small letters", encodeURIComponent(SECRET).replace(/%../g, (e) => e.toLowerCase())],
    ["percent-encoded twice", encodeURIComponent(encodeURIComponent(SECRET))],
    ["percent-encoded byte by byte", hex.replace(/../g, "%$&")],
    ["in a form", new URLSearchParams({ a: SECRET }).toString().slice(2).replaceAll("%7E", "~")],
    ["in JSON", json],
    ["in JSON in ASCII", json.replace("é", "\\u00e9")],
    ["in JSON, all in escapes", units(SECRET)],
    ["in HTML", "p@ss/w+rd &quot;é&amp;&lt;1&gt;\\=~"],
    ["in UTF-16", Buffer.from(SECRET, "utf16le").toString("latin1")],
  ])("%s", (_, spelling) => {
    expect(known.redact(`a,${spelling},b`)).toBe(`a,${REDACTED},b`);
  });

  test.each([0, 1, 2])("in base64 and base64url, %i bytes from a multiple of three", (n) => {
    for (const text of [padded(3 + n).toString("base64"), padded(3 + n).toString("base64url")]) {
      const safe = known.redact(text);
      // At most a character at each edge has bits of the secret.
      expect(safe).toMatch(/^.{4,7}\[redacted\].{5,10}$/);
    }
  });

  test.each<[string, string, string]>([
    ["with any of its characters percent-encoded", "/%70@ss%2fw%2Brd%20%22%c3%A9%26%3C1>%5C=~/x", `/${REDACTED}/x`],
    ["so twice", "/%2570%40ss%252fw%2Brd%20%22%25c3%25A9%26%3C1>%5C=~/x", `/${REDACTED}/x`],
    ["with a sign that encodes nothing before it", "/100%/hunter2%2Dlabel-secret", `/100%/${REDACTED}`],
    ["in a query", "/?a=b&c=Hunter2-Label-Secret&d", `/?a=b&c=${REDACTED}&d`],
  ])("in a path, %s", (_, path, wanted) => {
    expect(known.redactPath(path)).toBe(wanted);
  });

  const long = new KnownSecrets([SECRET, "0123456789abcdef0123456789abcdef0123456789"]);
  const longHex = Buffer.from("0123456789abcdef0123456789abcdef0123456789").toString("hex");
  test.each<[string, string, string]>([
    ["in small letters", "hunter2-label-secret.evil.example", `${REDACTED}.evil.example`],
    ["inside a label", "x-hunter2-label-secret-y.example", `x-${REDACTED}-y.example`],
    ["in hexadecimal", `${Buffer.from(HOSTABLE).toString("hex")}.example`, `${REDACTED}.example`],
    ["in base32", `${base32(Buffer.from(HOSTABLE))}.example`, `${REDACTED}.example`],
    ["cut into labels", `${longHex.slice(0, 60)}.${longHex.slice(60)}.evil.example`, `${REDACTED}.evil.example`],
  ])("in a host name, %s", (name, host, wanted) => {
    expect((name === "cut into labels" ? long : known).redactHost(host)).toBe(wanted);
  });

  test("at a cut: its beginning of four characters and more, in any spelling", () => {
    for (const spelling of [SECRET, hex, encodeURIComponent(SECRET), raw.toString("base64")])
      for (let n = 4; n < spelling.length; n++) {
        const safe = known.redactCut(`${"-".repeat(9)}${spelling.slice(0, n)}`);
        expect(safe.startsWith(`${"-".repeat(9)}${REDACTED}`), spelling.slice(0, n)).toBe(true);
        expect(safe.length).toBeLessThan(9 + REDACTED.length + 4);
      }
    expect(known.redactCut("hun")).toBe("hun");
  });
});

/** RFC 4648 section 6, without padding, by bits. */
function base32(bytes: Buffer): string {
  const bits = [...bytes].map((b) => b.toString(2).padStart(8, "0")).join("");
  return (bits.match(/.{5}/g) ?? [])
    .map((five) => "abcdefghijklmnopqrstuvwxyz234567"[Number.parseInt(five, 2)])
    .join("");
}

test("secrets that overlap go whole", () => {
  const both = new KnownSecrets(["abcdefgh", "fghijklm", "def-ghi"]);
  expect(both.redact("-abcdefghijklm-")).toBe(`-${REDACTED}-`);
  expect(both.redact("abcdefgh,fghijklm")).toBe(`${REDACTED},${REDACTED}`);
});

test("a secret of less than six characters does not eat words", () => {
  const short = new KnownSecrets(["token", "a", ""]);
  expect(short.none).toBe(true);
  expect(short.redact("a token of thanks")).toBe("a token of thanks");
});

test("of a long secret that was sent in part, what was sent of it goes", () => {
  const pem = Buffer.alloc(1200, "0123456789abcdefghijklm").toString("base64");
  const long = new KnownSecrets([pem]);
  expect(long.redact(`<${pem}>`)).toBe(`<${REDACTED}>`);
  expect(long.redact(`<${pem.slice(0, 700)}>`)).toBe(`<${REDACTED}>`);
});

test("those that are added later are found, those before them stay, and there is a bound", () => {
  const growing = new KnownSecrets(["first-secret"]);
  expect(growing.redact("first-secret second-secret")).toBe(`${REDACTED} second-secret`);
  growing.add(["second-secret"]);
  expect(growing.redact("first-secret second-secret")).toBe(`${REDACTED} ${REDACTED}`);
  growing.add(Array.from({ length: 1000 }, (_, i) => `filler-secret-${i}`));
  expect(growing.redact("first-secret filler-secret-999")).toBe(`first-secret ${REDACTED}`);
});

test("property: no spelling of a secret is left in any text, and a text without one stays as it is", () => {
  const secret = fc.string({ minLength: 6, maxLength: 40, unit: "grapheme" });
  fc.assert(
    fc.property(secret, fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ maxLength: 20 }), (value, before, after) => {
      fc.pre(value.length >= 6);
      const one = new KnownSecrets([value]);
      const bytes = Buffer.from(value);
      const whole = Buffer.concat([before, bytes, after]);
      expect(one.redact(whole.toString("latin1"))).not.toContain(bytes.toString("latin1"));
      for (const coding of ["base64", "base64url", "hex"] as const)
        expect(one.redact(whole.toString(coding))).toContain(REDACTED);
      const other = "-".repeat(50);
      if (!/-{6}/.test(value)) expect(one.redact(other)).toBe(other);
    }),
    { numRuns: 300 },
  );
});

test("a set of texts finds every place where one begins, the longest there", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 2, maxLength: 5 });
  const text = fc.string({ unit: fc.constantFrom("a", "B", "c"), maxLength: 40 });
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), text, (words, t) => {
      const small = t.toLowerCase();
      const wanted = [...small].flatMap((_, start) => {
        const lengths = words.filter((w) => small.startsWith(w, start)).map((w) => w.length);
        return lengths.length === 0 ? [] : [{ start, end: start + Math.max(...lengths) }];
      });
      expect(new TextSet(words).all(t)).toEqual(wanted);
    }),
    { numRuns: 1000 },
  );
});
