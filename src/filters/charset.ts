// Text in another charset than UTF-8, as UTF-8 beside the bytes it came from.
import { ByteWindow } from "./byte-window.ts";

/** What a TextDecoder does, for the charsets that it does not know as well. */
interface Decoder {
  decode(bytes?: Uint8Array, options?: { stream: boolean }): string;
}

/** So many bytes tell how characters are written, where nothing says it. */
export const TELLING = 8;

/**
 * The charset of Content-Type values in lower case, or null where they name none (RFC 9110 section 8.3.2). Where they name several,
 * or one in a quoted text, nobody knows which one a reader takes: the names together, which no decoder knows.
 */
export function charsetOf(contentTypes: readonly string[]): string | null {
  const found = contentTypes.flatMap((type) => [...type.matchAll(/;\s*charset\s*=\s*(?:"([^"]*)"|([^;,\s]+))/gi)]);
  const names = new Set(found.map((one) => (one[1] ?? one[2] ?? "").trim().toLowerCase()));
  names.delete("");
  return names.size === 0 ? null : [...names].join(" and ");
}

/** True when text in it can be searched as it is. */
export const isUtf8 = (charset: string): boolean => /^(utf-?8|us-ascii|ascii|utf8mb4)$/.test(charset);

/** The charsets that a byte order mark may name (WHATWG Encoding, section 6, and RFC 4627); none: there is none but of UTF-8. */
function charsetsOfMark(first: Uint8Array): string[] {
  const [a, b, c, d] = first;
  if (a === 0 && b === 0 && c === 0xfe && d === 0xff) return ["utf-32be"];
  if (a === 0xfe && b === 0xff) return ["utf-16be"];
  if (a !== 0xff || b !== 0xfe) return [];
  // Browsers know no UTF-32: for them a zero character follows the mark of UTF-16.
  return c === 0 && d === 0 ? ["utf-32le", "utf-16le"] : ["utf-16le"];
}

/** Where no byte order is named, readers differ in which one they take (RFC 2781 section 4.3). */
const WITHOUT_ORDER = /^(?:utf-?(16|32)|unicode|csunicode|ucs-2|iso-10646-ucs-2)$/;

/**
 * The charsets in which a text that begins with these bytes (TELLING of them, if it has so many) is read beside UTF-8: the named one,
 * that of its mark, and the one that the zeros between its first characters show, which readers of JSON go by (RFC 4627 section 3).
 * All of them, since readers differ in which one they believe.
 */
export function charsetsOf(first: Uint8Array, named: string | null): string[] {
  const label = named === null || isUtf8(named) ? [] : inEitherOrder(named);
  const shown = charsetOfZeros(first);
  return [...new Set([...label, ...charsetsOfMark(first), ...(shown === null ? [] : [shown])])];
}

function inEitherOrder(charset: string): string[] {
  const match = WITHOUT_ORDER.exec(charset);
  if (match === null) return [charset];
  const bits = match[1] ?? "16";
  return [`utf-${bits}le`, `utf-${bits}be`];
}

/** Two characters of ASCII in UTF-32 or UTF-16. */
function charsetOfZeros(first: Uint8Array): string | null {
  const zeros = [...first].map((byte) => (byte === 0 ? "0" : "x")).join("");
  if (zeros === "000x000x") return "utf-32be";
  if (zeros === "x000x000") return "utf-32le";
  if (zeros.startsWith("0x0x")) return "utf-16be";
  return zeros.startsWith("x0x0") ? "utf-16le" : null;
}

/** A decoder for the charset, or null when it is unknown here. */
export function decoderFor(charset: string): Decoder | null {
  if (charset === "utf-32le" || charset === "utf-32be") return new Utf32Decoder(charset === "utf-32le");
  try {
    return new TextDecoder(charset, { ignoreBOM: true });
  } catch {
    return null;
  }
}

/** UTF-32, which TextDecoder does not have. What is no character becomes U+FFFD. */
class Utf32Decoder implements Decoder {
  readonly #little: boolean;
  #rest: Buffer = Buffer.alloc(0);

  constructor(little: boolean) {
    this.#little = little;
  }

  decode(bytes: Uint8Array = new Uint8Array(0)): string {
    const all = Buffer.concat([this.#rest, bytes]);
    const units = new Uint16Array((all.length >> 2) * 2);
    let length = 0;
    for (let at = 0; at + 4 <= all.length; at += 4) {
      const code = this.#little ? all.readUInt32LE(at) : all.readUInt32BE(at);
      if (code > 0xffff && code <= 0x10ffff) {
        units[length++] = 0xd800 + ((code - 0x10000) >> 10);
        units[length++] = 0xdc00 + ((code - 0x10000) & 0x3ff);
      } else units[length++] = code > 0xffff ? 0xfffd : code;
    }
    this.#rest = all.subarray(all.length & ~3);
    return Buffer.from(units.buffer, 0, length * 2).toString("utf16le");
  }
}

/** A stream in another charset, as UTF-8. */
export class TranscodedText {
  readonly window = new ByteWindow();
  readonly #decoder: Decoder;
  #sourceEnd = 0;
  /** Where each piece ended, in UTF-8 and in the source: text up to the one comes from bytes up to the other. */
  readonly #pieces: { text: number; source: number }[] = [];
  #sourceBefore = 0;

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
  }

  append(bytes: Uint8Array): void {
    this.#sourceEnd += bytes.length;
    this.#take(this.#decoder.decode(bytes, { stream: true }));
  }

  end(): void {
    this.#take(this.#decoder.decode());
  }

  #take(text: string): void {
    this.window.append(Buffer.from(text, "utf8"));
    this.#pieces.push({ text: this.window.end, source: this.#sourceEnd });
  }

  /** An offset in the source before which everything comes before the offset in the text (never decreasing). */
  sourceOf(text: number): number {
    while (this.#pieces.length > 0 && (this.#pieces[0] as { text: number }).text <= text)
      this.#sourceBefore = (this.#pieces.shift() as { source: number }).source;
    return this.#sourceBefore;
  }
}
