// A test CA and certificates for origin names, made at run time: good ones and every kind of bad one.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import forge from "node-forge";

export interface KeyAndCertificate {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
}

export interface LeafOptions {
  /** Subject alternative names, DNS or IP; default: the name itself. Empty: none at all. */
  readonly names?: readonly string[];
  /** Common name; default: none. */
  readonly commonName?: string;
  /** Milliseconds since 1970. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** `serverAuth` by default. */
  readonly usage?: "server" | "client";
}

const DAY = 86_400_000;
/** One RSA key pair for all leaves of a test process, and one for all CAs: generating them is what costs. */
const newKey = (): string =>
  generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs1", format: "pem" }) as string;
let leafKey: string | null = null;
let caKey: string | null = null;

/** A CA that signs with RSA and SHA-256. */
export class TestCa {
  readonly name: string;
  readonly key: string;
  /** PEM. */
  readonly cert: string;

  constructor(name = "Test CA", key?: string) {
    caKey ??= newKey();
    this.name = name;
    this.key = key ?? caKey;
    this.cert = build(this.key, this.key, name, name, {}, [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
      { name: "subjectKeyIdentifier" },
    ]);
  }

  /** A certificate for an origin, with its key. */
  leaf(name: string, options: LeafOptions = {}): KeyAndCertificate {
    leafKey ??= newKey();
    const names = options.names ?? [name];
    return {
      key: leafKey,
      cert: build(leafKey, this.key, options.commonName ?? null, this.name, options, leafExtensions(names, options)),
    };
  }

  expired(name: string): KeyAndCertificate {
    return this.leaf(name, { notBefore: Date.now() - 10 * DAY, notAfter: Date.now() - DAY });
  }

  notYetValid(name: string): KeyAndCertificate {
    return this.leaf(name, { notBefore: Date.now() + DAY, notAfter: Date.now() + 10 * DAY });
  }

  /** The name stands in the subject's common name alone. */
  commonNameOnly(name: string): KeyAndCertificate {
    return this.leaf(name, { names: [], commonName: name });
  }
}

/** Signed by its own key. */
export function selfSigned(name: string): KeyAndCertificate {
  leafKey ??= newKey();
  return { key: leafKey, cert: build(leafKey, leafKey, name, name, {}, leafExtensions([name], {})) };
}

/** SHA-256 of the DER, lower-case hex, as the audit record has it. */
export const fingerprintOf = (cert: string): string =>
  new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase();

function leafExtensions(names: readonly string[], options: LeafOptions): object[] {
  const usage = options.usage === "client" ? { clientAuth: true } : { serverAuth: true };
  const extensions: object[] = [
    { name: "basicConstraints", cA: false },
    { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
    { name: "extKeyUsage", ...usage },
  ];
  const altNames = names.map((name) => (isIP(name) > 0 ? { type: 7, ip: name } : { type: 2, value: name }));
  return altNames.length === 0 ? extensions : [...extensions, { name: "subjectAltName", altNames }];
}

function build(
  subjectKey: string,
  issuerKey: string,
  subject: string | null,
  issuer: string,
  options: LeafOptions,
  extensions: object[],
): string {
  const certificate = forge.pki.createCertificate();
  const publicKey = createPublicKey(createPrivateKey(subjectKey)).export({ type: "spki", format: "pem" }) as string;
  certificate.publicKey = forge.pki.publicKeyFromPem(publicKey);
  certificate.serialNumber = `01${randomBytes(15).toString("hex")}`;
  certificate.validity.notBefore = new Date(options.notBefore ?? Date.now() - DAY);
  certificate.validity.notAfter = new Date(options.notAfter ?? Date.now() + 30 * DAY);
  certificate.setSubject(subject === null ? [] : [{ name: "commonName", value: subject }]);
  certificate.setIssuer([{ name: "commonName", value: issuer }]);
  certificate.setExtensions(extensions);
  certificate.sign(forge.pki.privateKeyFromPem(issuerKey), forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate);
}
