// Percent-encoding as a reader undoes it (RFC 3986 section 2.1): what is not a valid escape stays.

/** The text with its escapes undone, byte for byte, read as UTF-8; `plus`: "+" is a space, as in forms and queries. */
export function percentDecoded(text: string, plus: boolean): string {
  const spaced = plus ? text.replaceAll("+", " ") : text;
  if (!spaced.includes("%")) return spaced;
  const bytes = Buffer.from(spaced, "utf8");
  let kept = 0;
  for (let i = 0; i < bytes.length; i++) {
    const high = bytes[i] === 0x25 ? hex(bytes[i + 1]) : -1;
    const low = high >= 0 ? hex(bytes[i + 2]) : -1;
    if (low >= 0) {
      bytes[kept++] = high * 16 + low;
      i += 2;
    } else bytes[kept++] = bytes[i] as number;
  }
  return bytes.toString("utf8", 0, kept);
}

function hex(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
