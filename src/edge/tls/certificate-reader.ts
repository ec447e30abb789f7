// Reads what node:crypto's X509Certificate does not tell: names as DER, key identifiers, path lengths, key usage, name
// constraints (RFC 5280 section 4.2).
import type { X509Certificate } from "node:crypto";
import { bytesOf, childrenOf, type DerNode, decode, encode, isTagged, isUniversal, oidOf } from "./der.ts";
import { type NameConstraints, readNameConstraints } from "./name-constraints.ts";

export interface CertificateFacts {
  /** The subject's DER, to be copied as it stands into what it issues. */
  readonly subject: DerNode;
  readonly issuerDer: Buffer;
  readonly subjectDer: Buffer;
  readonly subjectKeyId: Buffer | null;
  /** null: no basic constraints. */
  readonly ca: boolean | null;
  readonly pathLength: number | null;
  /** null: no key usage extension, so any use. */
  readonly certificateSigning: boolean | null;
  /** Object identifiers of the extended key usage; null: any. */
  readonly extendedKeyUsage: readonly string[] | null;
  readonly nameConstraints: NameConstraints | null;
  /** Object identifier of the signature's algorithm. */
  readonly signatureAlgorithm: string;
}

/** Reads a certificate; throws when it is not strict DER. */
export function readCertificate(certificate: X509Certificate): CertificateFacts {
  const whole = decode(certificate.raw);
  const body = childrenOf(childrenOf(whole)[0]);
  const at = isTagged(body[0], 0) ? 1 : 0; // version 1 certificates have no version
  const subject = body[at + 4];
  const issuer = body[at + 2];
  if (subject === undefined || issuer === undefined) throw new Error("not an X.509 certificate");
  const extensions = readExtensions(body.find((node) => isTagged(node, 3)));
  const basic = extensions.get("2.5.29.19");
  const keyUsage = extensions.get("2.5.29.15");
  const extended = extensions.get("2.5.29.37");
  const constraints = extensions.get("2.5.29.30");
  const keyId = extensions.get("2.5.29.14");
  const length = childrenOf(basic).find((node) => isUniversal(node, "INTEGER"));
  return {
    subject,
    subjectDer: encode(subject),
    issuerDer: encode(issuer),
    subjectKeyId: keyId === undefined ? null : bytesOf(keyId),
    ca: basic === undefined ? null : childrenOf(basic).some((node) => isUniversal(node, "BOOLEAN")),
    pathLength: length === undefined ? null : bytesOf(length).readUIntBE(0, Math.min(bytesOf(length).length, 6)),
    certificateSigning: keyUsage === undefined ? null : ((bytesOf(keyUsage)[1] ?? 0) & 0x04) !== 0,
    extendedKeyUsage: extended === undefined ? null : childrenOf(extended).map(oidOf),
    nameConstraints: constraints === undefined ? null : readNameConstraints(constraints),
    signatureAlgorithm: oidOf(childrenOf(childrenOf(whole)[1])[0]),
  };
}

function readExtensions(holder: DerNode | undefined): Map<string, DerNode> {
  const found = new Map<string, DerNode>();
  for (const node of childrenOf(childrenOf(holder)[0])) {
    const parts = childrenOf(node);
    found.set(oidOf(parts[0]), decode(bytesOf(parts[parts.length - 1])));
  }
  return found;
}

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const ANY_USAGE = "2.5.29.37.0";

/** True when the extended key usage lets a certificate (or what a CA issues) authenticate servers. */
export const allowsServerAuth = (usage: readonly string[] | null): boolean =>
  usage === null || usage.includes(SERVER_AUTH) || usage.includes(ANY_USAGE);
