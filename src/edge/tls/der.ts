// DER by node-forge's ASN.1 layer: the few shapes that certificates and PKCS#12 files are made of. Nothing here knows
// what the shapes mean.
import type forge from "node-forge";
// This part alone: all of the library takes a start 40 ms.
import asn1 from "node-forge/lib/asn1.js";

const { Class, Type } = asn1;

export type DerNode = forge.asn1.Asn1;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const universal = (type: forge.asn1.Type, constructed: boolean, value: string | DerNode[]): DerNode =>
  asn1.create(Class.UNIVERSAL, type, constructed, value);

export const sequence = (...children: DerNode[]): DerNode => universal(Type.SEQUENCE, true, children);
export const set = (...children: DerNode[]): DerNode => universal(Type.SET, true, children);
export const oid = (text: string): DerNode => universal(Type.OID, false, asn1.oidToDer(text).getBytes());
export const octets = (bytes: Uint8Array): DerNode => universal(Type.OCTETSTRING, false, latin1(bytes));
export const nil = (): DerNode => universal(Type.NULL, false, "");
export const truth = (): DerNode => universal(Type.BOOLEAN, false, "\xff");
export const utf8 = (text: string): DerNode => universal(Type.UTF8, false, latin1(Buffer.from(text, "utf8")));
export const bmpString = (text: string): DerNode => universal(Type.BMPSTRING, false, text);
export const small = (value: number): DerNode => universal(Type.INTEGER, false, asn1.integerToDer(value).getBytes());

/** A positive INTEGER from big-endian bytes. */
export function unsigned(bytes: Uint8Array): DerNode {
  const padded = (bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes;
  return universal(Type.INTEGER, false, latin1(padded));
}

/** A BIT STRING; `unused` is the count of unused bits in the last byte. */
export const bits = (bytes: Uint8Array, unused = 0): DerNode =>
  universal(Type.BITSTRING, false, latin1(Buffer.concat([Buffer.of(unused), bytes])));

/** A context-specific tag around children (constructed) or bytes (primitive). */
export function tagged(tag: number, value: Uint8Array | DerNode[]): DerNode {
  const constructed = Array.isArray(value);
  return asn1.create(Class.CONTEXT_SPECIFIC, tag as forge.asn1.Type, constructed, constructed ? value : latin1(value));
}

/** UTCTime until 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5). `at`: milliseconds since 1970. */
export function time(at: number): DerNode {
  const date = new Date(at);
  return date.getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : universal(Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

export const encode = (node: DerNode): Buffer => Buffer.from(asn1.toDer(node).getBytes(), "latin1");

/** Parses strict DER; throws on anything else. BIT STRINGs are left alone, so that encoding gives the same bytes. */
export function decode(der: Uint8Array): DerNode {
  const options = { strict: true, parseAllBytes: true, decodeBitStrings: false };
  return asn1.fromDer(latin1(der), options as unknown as boolean);
}

/** The children of a constructed node; none for a primitive. */
export const childrenOf = (node: DerNode | undefined): DerNode[] =>
  node !== undefined && Array.isArray(node.value) ? node.value : [];

/** The bytes of a primitive node; none for a constructed one. */
export const bytesOf = (node: DerNode | undefined): Buffer =>
  node !== undefined && typeof node.value === "string" ? Buffer.from(node.value, "latin1") : Buffer.alloc(0);

export const oidOf = (node: DerNode | undefined): string =>
  node !== undefined && node.type === Type.OID && typeof node.value === "string" ? asn1.derToOid(node.value) : "";

export const isTagged = (node: DerNode | undefined, tag: number): boolean =>
  node !== undefined && node.tagClass === Class.CONTEXT_SPECIFIC && (node.type as number) === tag;

export const isUniversal = (node: DerNode | undefined, type: "BOOLEAN" | "INTEGER"): boolean =>
  node !== undefined && node.tagClass === Class.UNIVERSAL && node.type === Type[type];

/** DER as PEM, lines of 64. */
export function pem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString("base64")
    .replace(/(.{64})(?=.)/g, "$1\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/** Every certificate block of a PEM text, each as its own block. */
export const certificateBlocks = (text: string): string[] =>
  (text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []).map((block) => `${block}\n`);
