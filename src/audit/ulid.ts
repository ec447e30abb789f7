// Between the text of an id (26 characters of Crockford base 32) and its 16 bytes, which is what the database keeps.

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 32; i++) VALUES[ALPHABET.charCodeAt(i)] = i;
const HEX = "0123456789abcdef";

/** 32 lower-case hex digits for a ULID; ":" and the text itself for an id of another kind. */
export function idToHex(id: string): string {
  if (id.length !== 26 || id.charCodeAt(0) > 55) return `:${id}`;
  let hex = "";
  // 26 characters are 130 bits, of which the first two are zero.
  let bits = 0;
  let count = -2;
  for (let i = 0; i < 26; i++) {
    const code = id.charCodeAt(i);
    const value = code < 128 ? (VALUES[code] as number) : -1;
    if (value < 0) return `:${id}`;
    bits = (bits << 5) | value;
    count += 5;
    while (count >= 4) {
      count -= 4;
      hex += HEX[(bits >>> count) & 15];
    }
    bits &= (1 << count) - 1;
  }
  return hex;
}

/** The inverse of `idToHex`. */
export function hexToId(hex: string): string {
  if (hex.charCodeAt(0) === 58) return hex.slice(1);
  let id = "";
  let bits = 0;
  let count = 2;
  for (let i = 0; i < hex.length; i++) {
    bits = (bits << 4) | Number.parseInt(hex[i] as string, 16);
    count += 4;
    while (count >= 5) {
      count -= 5;
      id += ALPHABET[(bits >>> count) & 31];
    }
    bits &= (1 << count) - 1;
  }
  return id;
}
