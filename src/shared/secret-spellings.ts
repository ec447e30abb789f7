// The spellings in which a secret turns up. What looks for secrets (content filters, audit records, logs) takes them from here.

/** A shorter secret stands in innocent text as well: it is not taken out of logs and records. The operator is told at load. */
export const SHORTEST_HIDDEN = 6;
/** A content filter refuses what it finds, and looks for secrets of this length and more. */
export const SHORTEST_FILTERED = 8;

/**
 * Every spelling of a secret that is looked for in content, as bytes: as it is, in UTF-16, in base64 (both alphabets, at three
 * alignments), in hexadecimal (also with a sign between the bytes), percent-encoded (once and twice, needed escapes or all), JSON-escaped (needed escapes or all),
 * HTML-escaped.
 */
export function secretForms(secret: string): Buffer[] {
  const forms = [...textSpellings(secret).map((text) => Buffer.from(text, "utf8")), ...utf16Forms(secret)];
  const seen = new Map(forms.map((form) => [form.toString("latin1"), form]));
  return [...seen.values()].filter((form) => form.length >= SHORTEST_HIDDEN);
}

/** The secret, and its encodings of one character after the other, in which escapes and line breaks may stand. */
export function secretTexts(secret: string): Buffer[] {
  const raw = Buffer.from(secret, "utf8");
  return [...new Set([secret, ...base64Forms(raw), ...hexForms(raw)])].map((text) => Buffer.from(text, "utf8"));
}

/** The spellings that survive in a host name, which has no case. */
export function secretHostForms(secret: string): Buffer[] {
  const forms = hostSpellings(secret).filter((text) => text.length >= SHORTEST_HIDDEN);
  return [...new Set(forms)].map((text) => Buffer.from(text, "utf8"));
}

/**
 * Every spelling, of content and of host names, as a text that is compared without the case of ASCII letters. Text may be
 * characters, or bytes that were read as Latin-1: a spelling beyond ASCII is there in both ways. Small letters.
 */
export function foldedSpellings(secret: string): string[] {
  const texts = [...textSpellings(secret), ...hostSpellings(secret)];
  const bytes = texts.map((text) => Buffer.from(text, "utf8").toString("latin1"));
  const wide = utf16Forms(secret).map((form) => form.toString("latin1"));
  const all = [...texts, ...bytes, ...wide].map(foldCase).filter((text) => text.length >= SHORTEST_HIDDEN);
  return [...new Set(all)];
}

/** ASCII letters made small. Every other character stays, and the length too. */
export const foldCase = (text: string): string => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

function textSpellings(secret: string): string[] {
  const raw = Buffer.from(secret, "utf8");
  return [
    secret,
    ...base64Forms(raw),
    ...hexForms(raw),
    ...separateHexForms(raw),
    ...percentForms(secret, raw),
    ...escapedForms(secret),
  ];
}

function hostSpellings(secret: string): string[] {
  const raw = Buffer.from(secret, "utf8");
  const names = [secret, raw.toString("hex"), base32(raw), ...base64Forms(raw)];
  return names.map((name) => name.toLowerCase());
}

function utf16Forms(secret: string): Buffer[] {
  const little = Buffer.from(secret, "utf16le");
  return [little, Buffer.from(little).swap16()];
}

/** The characters of base64 (in either alphabet) that depend on the secret alone, for each place at which it may begin. */
export function base64Forms(raw: Buffer): string[] {
  const forms: string[] = [];
  for (let before = 0; before < 3; before++) {
    const text = Buffer.concat([Buffer.alloc(before), raw]).toString("base64");
    const inner = text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + raw.length) * 8) / 6));
    forms.push(inner, inner.replaceAll("+", "-").replaceAll("/", "_"));
  }
  return forms;
}

const hexForms = (raw: Buffer): string[] => [raw.toString("hex"), raw.toString("hex").toUpperCase()];
/** Bytes that are told apart: `de:ad`, `DE-AD`, `de ad`. */
const separateHexForms = (raw: Buffer): string[] =>
  hexForms(raw).flatMap((hex) => [":", "-", " "].map((sign) => hex.replace(/..(?=.)/g, `$&${sign}`)));

function percentForms(secret: string, raw: Buffer): string[] {
  const needed = percentEncoded(secret);
  const all = [...raw].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const strict = needed.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return [
    needed,
    strict,
    lowerEscapes(needed),
    lowerEscapes(strict),
    strict.replaceAll("%20", "+"),
    encodeURIComponent(needed),
    all,
    all.toUpperCase(),
  ];
}

/** A lone surrogate has no encoding in UTF-8: it is encoded as its replacement. */
const percentEncoded = (text: string): string => encodeURIComponent(Buffer.from(text, "utf8").toString("utf8"));
const lowerEscapes = (text: string): string => text.replace(/%[0-9A-F]{2}/g, (found) => found.toLowerCase());

function escapedForms(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const unit = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const ascii = json.replace(/[^\0-\x7f]/g, unit);
  const all = secret.split("").map(unit).join("");
  const markup = json.replace(/[<>&']/g, unit);
  const html = secret
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
  return [
    json,
    json.replaceAll("/", "\\/"),
    ascii,
    all,
    upperUnits(all),
    markup,
    upperUnits(markup),
    html,
    html.replaceAll("'", "&#39;"),
  ];
}

const upperUnits = (text: string): string => text.replace(/\\u[0-9a-f]{4}/g, (u) => `\\u${u.slice(2).toUpperCase()}`);

function base32(raw: Buffer): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of raw) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(value >> bits) & 31];
    }
  }
  return text;
}
