// Certificates for tests, made as a company's or a careless operator's would be: each with one thing wrong.
import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import {
  basicConstraints,
  caKeyUsage,
  distinguishedName,
  keyIdentifier,
  leafKeyUsage,
  type Signer,
  serverAuth,
  signerFor,
  subjectAltName,
  subjectKeyId,
  writeCertificate,
} from "../../../src/edge/tls/certificate-writer.ts";
import { bits, type DerNode, encode, octets, oid, pem, sequence, tagged, truth } from "../../../src/edge/tls/der.ts";

export const DAY = 86_400_000;

export interface Issued {
  readonly pem: string;
  readonly keyPem: string;
  readonly key: KeyObject;
  readonly certificate: X509Certificate;
  readonly name: DerNode;
}

export interface Wish {
  readonly commonName?: string;
  readonly issuer?: Issued;
  readonly from?: number;
  readonly to?: number;
  readonly extensions?: readonly DerNode[];
  readonly key?: KeyObject;
}

const newKey = (): KeyObject => generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey;
export const rsaKey = (bits = 2048): KeyObject => generateKeyPairSync("rsa", { modulusLength: bits }).privateKey;
export const ecKey = (namedCurve = "prime256v1"): KeyObject => generateKeyPairSync("ec", { namedCurve }).privateKey;

/** Any certificate; without an issuer it signs itself. */
export async function issue(wish: Wish): Promise<Issued> {
  const key = wish.key ?? newKey();
  const name = distinguishedName(wish.commonName === undefined ? {} : { commonName: wish.commonName });
  const now = Date.now();
  const der = await writeCertificate(
    {
      issuer: wish.issuer?.name ?? name,
      subject: name,
      notBefore: wish.from ?? now - DAY,
      notAfter: wish.to ?? now + 60 * DAY,
      publicKey: createPublicKey(key),
      extensions: wish.extensions ?? [],
    },
    signerFor(wish.issuer?.key ?? key) as Signer,
  );
  const keyPem = key.export({ type: "pkcs8", format: "pem" }) as string;
  return { pem: pem("CERTIFICATE", der), keyPem, key, certificate: new X509Certificate(der), name };
}

export const caExtensions = (key: KeyObject, pathLength?: number): DerNode[] => [
  basicConstraints(true, pathLength),
  caKeyUsage(),
  subjectKeyId(keyIdentifier(key)),
];

/** A CA; `more`: further extensions. */
export function issueCa(
  commonName: string,
  wish: Wish & { pathLength?: number; more?: DerNode[] } = {},
): Promise<Issued> {
  const key = wish.key ?? newKey();
  return issue({ commonName, extensions: [...caExtensions(key, wish.pathLength), ...(wish.more ?? [])], ...wish, key });
}

/** A good leaf for a host. */
export const issueLeaf = (host: string, issuer: Issued, wish: Wish = {}): Promise<Issued> =>
  issue({
    commonName: "leaf",
    issuer,
    extensions: [basicConstraints(false), leafKeyUsage(), serverAuth(), subjectAltName(host, false)],
    ...wish,
  });

const extension = (id: string, critical: boolean, value: DerNode): DerNode =>
  sequence(oid(id), ...(critical ? [truth()] : []), octets(encode(value)));

/** Name constraints: only names below these. */
export const permittedNames = (...names: string[]): DerNode =>
  extension(
    "2.5.29.30",
    true,
    sequence(
      tagged(
        0,
        names.map((name) => sequence(tagged(2, Buffer.from(name)))),
      ),
    ),
  );

export const clientAuth = (): DerNode => extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.2")));
/** Key usage without keyCertSign. */
export const signOnly = (): DerNode => extension("2.5.29.15", true, bits(Buffer.of(0x80), 7));
