// What the first bytes inside CONNECT are. Pure.
import { METHODS } from "node:http";

export type Sniffed = "tls" | "http" | "opaque" | "more";

const METHOD_NAMES: ReadonlySet<string> = new Set([...METHODS, "PRI"]);
const LONGEST = Math.max(...[...METHOD_NAMES].map((m) => m.length));

/** TLS begins with a handshake record (RFC 8446 section 5.1), HTTP/1.1 with a known method and a space. */
export function sniff(bytes: Uint8Array): Sniffed {
  if (bytes.length === 0) return "more";
  if (bytes[0] === 22) return bytes.length === 1 || bytes[1] === 3 ? "tls" : "opaque";
  let i = 0;
  while (i < bytes.length && i <= LONGEST && isMethodByte(bytes[i] as number)) i++;
  const word = Buffer.from(bytes.buffer, bytes.byteOffset, i).toString("latin1");
  if (i === bytes.length && i <= LONGEST) return prefixOfMethod(word) ? "more" : "opaque";
  return bytes[i] === 32 && METHOD_NAMES.has(word) ? "http" : "opaque";
}

const isMethodByte = (c: number): boolean => (c >= 65 && c <= 90) || c === 45;
function prefixOfMethod(word: string): boolean {
  for (const method of METHOD_NAMES) if (method.startsWith(word)) return true;
  return false;
}
