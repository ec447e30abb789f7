// Text in another charset than UTF-8, as UTF-8 beside the bytes it came from.
import { ByteWindow } from "./byte-window.ts";

type Decoder = InstanceType<typeof TextDecoder>;

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

/** The charset that a byte order mark names, which beats every label (WHATWG Encoding, section 6); null: none but UTF-8. */
export function charsetOfMark(first: number | undefined, second: number | undefined): string | null {
  if (first === 0xfe && second === 0xff) return "utf-16be";
  return first === 0xff && second === 0xfe ? "utf-16le" : null;
}

/** A decoder for the charset, or null when it is unknown here. */
export function decoderFor(charset: string): Decoder | null {
  try {
    return new TextDecoder(charset, { ignoreBOM: true });
  } catch {
    return null;
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
