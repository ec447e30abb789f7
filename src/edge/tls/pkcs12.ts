// A PKCS#12 file (RFC 7292) with certificates only: a trust store for Java. No key is ever in it, so nothing is encrypted;
// the password protects against accidents, as Java's own "changeit" does.
import { createHmac, randomBytes } from "node:crypto";
import forge from "node-forge";
import { bmpString, type DerNode, encode, nil, octets, oid, sequence, set, small, tagged } from "./der.ts";

const OID = {
  data: "1.2.840.113549.1.7.1",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  /** Oracle's: without it keytool lists no entry, and Java trusts none. */
  trustedKeyUsage: "2.16.840.1.113894.746875.1.1",
  anyUsage: "2.5.29.37.0",
  sha1: "1.3.14.3.2.26",
} as const;

const ITERATIONS = 10_000;
const MAC_KEY_BYTES = 20;

export interface TrustedEntry {
  readonly alias: string;
  /** DER. */
  readonly certificate: Uint8Array;
}

/** The file's bytes. */
export function trustStore(entries: readonly TrustedEntry[], password: string): Buffer {
  const contents = encode(sequence(...entries.map(certificateBag)));
  const safe = encode(sequence(contentInfo(contents)));
  return encode(sequence(small(3), contentInfo(safe), macData(safe, password)));
}

const contentInfo = (content: Uint8Array): DerNode => sequence(oid(OID.data), tagged(0, [octets(content)]));

const certificateBag = (entry: TrustedEntry): DerNode =>
  sequence(
    oid(OID.certBag),
    tagged(0, [sequence(oid(OID.x509Certificate), tagged(0, [octets(entry.certificate)]))]),
    set(
      sequence(oid(OID.friendlyName), set(bmpString(entry.alias))),
      sequence(oid(OID.trustedKeyUsage), set(oid(OID.anyUsage))),
    ),
  );

/** HMAC-SHA-1: the one that every Java and every operating system reads; it guards no secret here. */
function macData(content: Uint8Array, password: string): DerNode {
  const salt = randomBytes(20);
  const key = forge.pkcs12.generateKey(
    password,
    forge.util.createBuffer(salt.toString("latin1")),
    3, // the identifier of MAC keys (RFC 7292 appendix B.3)
    ITERATIONS,
    MAC_KEY_BYTES,
  );
  const mac = createHmac("sha1", Buffer.from(key.getBytes(), "latin1")).update(content).digest();
  return sequence(sequence(sequence(oid(OID.sha1), nil()), octets(mac)), octets(salt), small(ITERATIONS));
}
