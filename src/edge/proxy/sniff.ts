// What the first bytes inside CONNECT are. Pure.
import { METHODS } from "node:http";

export type Sniffed = "tls" | "http" | "opaque" | "more";

const METHOD_NAMES: ReadonlySet<string> = new Set([...METHODS, "PRI"]);
const LONGEST = Math.max(...[...METHOD_NAMES].map((m) => m.length));

/** Bytes without a line end in which a request line is looked for. */
const LONGEST_LINE = 8_192;

/**
 * TLS begins with a record (RFC 8446 section 5.1; also in the form of SSLv2, which servers still take), HTTP/1.x with a
 * request line. What a server would take for either counts, also where a usual client would not begin like that: an empty
 * line before it, an unknown method, an alert before the ClientHello. Otherwise `opaque: tunnel` would lead around the policy.
 */
export function sniff(bytes: Uint8Array): Sniffed {
  const first = bytes[0];
  if (first === undefined) return "more";
  if (first >= 20 && first <= 23) return bytes.length === 1 || bytes[1] === 3 ? "tls" : "opaque";
  if (first >= 128) return bytes.length < 3 ? "more" : bytes[2] === 1 ? "tls" : "opaque";
  if (first === 13 || first === 10) return "http";
  let i = 0;
  while (i < bytes.length && i <= LONGEST && isMethodByte(bytes[i] as number)) i++;
  const word = Buffer.from(bytes.buffer, bytes.byteOffset, i).toString("latin1");
  if (i === bytes.length && i <= LONGEST && prefixOfMethod(word)) return "more";
  return bytes[i] === 32 && METHOD_NAMES.has(word) ? "http" : requestLine(bytes);
}

/** A method that nobody knows makes a request all the same: its line tells, once it is whole. */
function requestLine(bytes: Uint8Array): Sniffed {
  const end = bytes.indexOf(10);
  const line = Buffer.from(bytes.buffer, bytes.byteOffset, Math.max(0, end)).toString("latin1");
  return /^[\t\x20-\x7e\x80-\xff]*[ \t]HTTP\/\d[\t\x20-\x7e]*\r?$/i.test(line) ? "http" : "opaque";
}

/** False while what was found opaque could still turn out to be a request line: its end is not there yet. */
export const isSettled = (bytes: Uint8Array): boolean => bytes.length >= LONGEST_LINE || bytes.includes(10);

const isMethodByte = (c: number): boolean => (c >= 65 && c <= 90) || c === 45;
function prefixOfMethod(word: string): boolean {
  for (const method of METHOD_NAMES) if (method.startsWith(word)) return true;
  return false;
}
