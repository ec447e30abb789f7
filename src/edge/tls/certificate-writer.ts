// Writes X.509 certificates (RFC 5280): the structure by node-forge's ASN.1 layer, the signature by node:crypto.
import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";
import { parse as parseAddress } from "./address-bytes.ts";
import {
  bits,
  bytesOf,
  childrenOf,
  type DerNode,
  decode,
  encode,
  nil,
  octets,
  oid,
  sequence,
  set,
  small,
  tagged,
  time,
  truth,
  unsigned,
  utf8,
} from "./der.ts";

/** A key that signs certificates. */
export interface Signer {
  readonly key: KeyObject;
  /** Digest for node:crypto and the AlgorithmIdentifier that names both. */
  readonly digest: "sha256" | "sha384" | "sha512";
  readonly algorithm: () => DerNode;
}

export interface CertificateSpec {
  readonly issuer: DerNode;
  readonly subject: DerNode;
  /** Milliseconds since 1970, both inclusive (RFC 5280 section 4.1.2.5). */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: KeyObject;
  readonly extensions: readonly DerNode[];
}

const ECDSA = {
  prime256v1: ["sha256", "1.2.840.10045.4.3.2"],
  secp384r1: ["sha384", "1.2.840.10045.4.3.3"],
  secp521r1: ["sha512", "1.2.840.10045.4.3.4"],
} as const;

/** The signer for a CA's private key: RSA of 2048 bits or more, or EC on P-256, P-384 or P-521; null: another kind. */
export function signerFor(key: KeyObject): Signer | null {
  if (key.asymmetricKeyType === "rsa") {
    if ((key.asymmetricKeyDetails?.modulusLength ?? 0) < 2048) return null;
    return { key, digest: "sha256", algorithm: () => sequence(oid("1.2.840.113549.1.1.11"), nil()) };
  }
  if (key.asymmetricKeyType !== "ec") return null;
  const curve = ECDSA[key.asymmetricKeyDetails?.namedCurve as keyof typeof ECDSA];
  return curve === undefined ? null : { key, digest: curve[0], algorithm: () => sequence(oid(curve[1])) };
}

/** Signs a certificate off the main thread. Returns its DER. */
export async function writeCertificate(spec: CertificateSpec, signer: Signer): Promise<Buffer> {
  const body = sequence(
    tagged(0, [small(2)]),
    unsigned(randomSerial()),
    signer.algorithm(),
    spec.issuer,
    sequence(time(spec.notBefore), time(spec.notAfter)),
    spec.subject,
    decode(spec.publicKey.export({ type: "spki", format: "der" })),
    tagged(3, [sequence(...spec.extensions)]),
  );
  const signature = await signBytes(signer, encode(body));
  return encode(sequence(body, signer.algorithm(), bits(signature)));
}

const signBytes = (signer: Signer, bytes: Buffer): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    sign(signer.digest, bytes, signer.key, (error, signature) => (error ? reject(error) : resolve(signature)));
  });

/** 128 random bits; never zero, never negative (RFC 5280 section 4.1.2.2). */
function randomSerial(): Buffer {
  const serial = randomBytes(16);
  // A first byte of zero would not be minimal DER.
  if (serial[0] === 0) serial[0] = 1;
  return serial;
}

/** A distinguished name; no parts: the empty one. */
export function distinguishedName(parts: { readonly commonName?: string; readonly organization?: string }): DerNode {
  const sets: DerNode[] = [];
  if (parts.organization !== undefined) sets.push(set(sequence(oid("2.5.4.10"), utf8(parts.organization))));
  if (parts.commonName !== undefined) sets.push(set(sequence(oid("2.5.4.3"), utf8(parts.commonName))));
  return sequence(...sets);
}

const extension = (id: string, critical: boolean, value: DerNode): DerNode =>
  sequence(oid(id), ...(critical ? [truth()] : []), octets(encode(value)));

export const basicConstraints = (ca: boolean, pathLength?: number): DerNode =>
  extension(
    "2.5.29.19",
    true,
    sequence(...(ca ? [truth()] : []), ...(pathLength === undefined ? [] : [small(pathLength)])),
  );

/** KU digitalSignature. */
export const leafKeyUsage = (): DerNode => extension("2.5.29.15", true, bits(Buffer.of(0x80), 7));
/** KU keyCertSign and cRLSign. */
export const caKeyUsage = (): DerNode => extension("2.5.29.15", true, bits(Buffer.of(0x06), 1));
export const serverAuth = (): DerNode => extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.1")));
export const subjectKeyId = (id: Uint8Array): DerNode => extension("2.5.29.14", false, octets(id));
export const authorityKeyId = (id: Uint8Array): DerNode => extension("2.5.29.35", false, sequence(tagged(0, id)));

/** SAN with one DNS name or IP address; critical where the subject is empty (RFC 5280 section 4.1.2.6). */
export function subjectAltName(host: string, critical: boolean): DerNode {
  const name = isIP(host) === 0 ? tagged(2, Buffer.from(host, "ascii")) : tagged(7, parseAddress(host));
  return extension("2.5.29.17", critical, sequence(name));
}

/** A key's identifier: the leftmost 160 bits of the SHA-256 of its bits (RFC 7093 section 2, method 1). */
export function keyIdentifier(key: KeyObject): Buffer {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const spki = decode(publicKey.export({ type: "spki", format: "der" }));
  const keyBits = bytesOf(childrenOf(spki)[1]).subarray(1);
  return createHash("sha256").update(keyBits).digest().subarray(0, 20);
}
