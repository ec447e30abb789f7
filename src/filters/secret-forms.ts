// The forms in which a configured secret is looked for.

/** A shorter secret would be found everywhere. */
export const SHORTEST_SECRET = 8;

/**
 * Every form of a secret that is looked for, as bytes: as it is, in UTF-16, in base64 (both alphabets, at three alignments), in
 * hexadecimal, percent-encoded (once and twice, needed escapes or all), JSON-escaped (needed escapes or all), HTML-escaped.
 */
export function secretForms(secret: string): Buffer[] {
  const raw = Buffer.from(secret, "utf8");
  const texts = [secret, ...base64Forms(raw), ...hexForms(raw), ...percentForms(secret, raw), ...escapedForms(secret)];
  const forms = texts.map((text) => Buffer.from(text, "utf8"));
  const utf16 = Buffer.from(secret, "utf16le");
  forms.push(utf16, Buffer.from(utf16).swap16());
  const seen = new Map(forms.map((form) => [form.toString("latin1"), form]));
  return [...seen.values()].filter((form) => form.length >= SHORTEST_SECRET);
}

/** The forms that survive in a host name, which has no case. */
export function secretHostForms(secret: string): Buffer[] {
  const raw = Buffer.from(secret, "utf8");
  const forms = [secret, raw.toString("hex"), base32(raw), ...base64Forms(raw)].map((f) => f.toLowerCase());
  return [...new Set(forms)].filter((f) => f.length >= SHORTEST_SECRET).map((f) => Buffer.from(f, "utf8"));
}

/** The characters of base64 that depend on the secret alone, for each place at which it may begin. */
function base64Forms(raw: Buffer): string[] {
  const forms: string[] = [];
  for (let before = 0; before < 3; before++) {
    const text = Buffer.concat([Buffer.alloc(before), raw]).toString("base64");
    const inner = text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + raw.length) * 8) / 6));
    forms.push(inner, inner.replaceAll("+", "-").replaceAll("/", "_"));
  }
  return forms;
}

const hexForms = (raw: Buffer): string[] => [raw.toString("hex"), raw.toString("hex").toUpperCase()];

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
