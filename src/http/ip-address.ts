// Text forms of IP addresses: strict parsing, the odd spellings that resolvers accept, and the one canonical text.
// An IPv4 address is a number (unsigned, 32 bits), an IPv6 address eight 16-bit groups.

/** A dotted quad without leading zeros, as an unsigned number; null when it is anything else. */
export function parseIpv4(text: string): number | null {
  let value = 0;
  let part = -1; // -1: no digit of this part yet
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 46) {
      if (part < 0 || ++dots > 3) return null;
      value = value * 256 + part;
      part = -1;
    } else {
      if (c < 48 || c > 57 || part === 0) return null;
      part = part < 0 ? c - 48 : part * 10 + c - 48;
      if (part > 255) return null;
    }
  }
  return dots === 3 && part >= 0 ? value * 256 + part : null;
}

/**
 * True when the last label makes the name a number (WHATWG URL section 3.5): it is then an IPv4 address or nothing,
 * since `inet_aton` in many resolvers reads it as one.
 */
export function endsInNumber(name: string): boolean {
  const last = name.slice(name.lastIndexOf(".") + 1);
  return /^(?:\d+|0x[\da-f]*)$/.test(last);
}

/** The spellings of `inet_aton` (1 to 4 parts; decimal, octal, hexadecimal), in lower case; null when it is not one. */
export function parseOddIpv4(text: string): number | null {
  const parts = text.split(".");
  if (parts.length > 4) return null;
  let value = 0;
  for (let i = 0; i < parts.length; i++) {
    const part = parseOddNumber(parts[i] as string);
    const bits = i === parts.length - 1 ? 8 * (5 - parts.length) : 8;
    if (part === null || part >= 2 ** bits) return null;
    value = value * 2 ** bits + part;
  }
  return value;
}

function parseOddNumber(text: string): number | null {
  if (/^0x[\da-f]*$/.test(text)) return text === "0x" ? 0 : Number.parseInt(text.slice(2), 16);
  if (/^0[0-7]+$/.test(text)) return Number.parseInt(text, 8);
  return /^(?:0|[1-9]\d*)$/.test(text) ? Number(text) : null;
}

/** The dotted quad of an unsigned 32-bit number. */
export const ipv4Text = (value: number): string =>
  `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;

/** Eight groups of an IPv6 address (RFC 4291 section 2.2), without brackets; null for anything else, zone ids included. */
export function parseIpv6(text: string): number[] | null {
  if (text.length < 2 || text.length > 45) return null;
  const gap = text.indexOf("::");
  if (gap < 0) {
    const groups = parseGroups(text, true);
    return groups !== null && groups.length === 8 ? groups : null;
  }
  const before = parseGroups(text.slice(0, gap), false);
  const after = parseGroups(text.slice(gap + 2), true);
  if (before === null || after === null || before.length + after.length > 7) return null;
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | null {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    if (/^[\da-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const tail = mayEndInIpv4 && i === parts.length - 1 ? parseIpv4(part) : null;
    if (tail === null) return null;
    groups.push(tail >>> 16, tail & 0xffff);
  }
  return groups;
}

/** The text of RFC 5952 section 4; embedded IPv4 addresses stay in hexadecimal, so that there is one spelling only. */
export function ipv6Text(groups: readonly number[]): string {
  const [start, length] = longestZeros(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

function longestZeros(groups: readonly number[]): [start: number, length: number] {
  let best: [number, number] = [0, 0];
  for (let i = 0, length = 0; i < groups.length; i++) {
    length = groups[i] === 0 ? length + 1 : 0;
    if (length > best[1]) best = [i - length + 1, length];
  }
  return best;
}

/** The canonical text of a strictly spelled address, or null when it is not an IP address. */
export function canonicalIp(text: string): string | null {
  if (!text.includes(":")) return parseIpv4(text) === null ? null : text;
  const groups = parseIpv6(text);
  return groups === null ? null : ipv6Text(groups);
}
