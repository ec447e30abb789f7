// Percent-encoding as a reader undoes it (RFC 3986 section 2.1): what is not a valid escape stays.

/** The text with its escapes undone, byte for byte, read as UTF-8; `plus`: "+" is a space, as in forms and queries. */
export const percentDecoded = (text: string, plus: boolean): string =>
  percentDecodedBytes(Buffer.from(text, "utf8"), plus).toString("utf8");

/** The same for bytes; they themselves where there is no escape. */
export function percentDecodedBytes(bytes: Buffer, plus: boolean): Buffer {
  if (!bytes.includes("%") && !(plus && bytes.includes("+"))) return bytes;
  const out = Buffer.allocUnsafe(bytes.length);
  let kept = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    const high = byte === 0x25 ? hex(bytes[i + 1]) : -1;
    const low = high >= 0 ? hex(bytes[i + 2]) : -1;
    if (low >= 0) i += 2;
    out[kept++] = low >= 0 ? high * 16 + low : plus && byte === 0x2b ? 0x20 : byte;
  }
  return out.subarray(0, kept);
}

function hex(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
