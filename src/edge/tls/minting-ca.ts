// Minting: a CA at work, signing leaf certificates for hosts with one key of this process.
import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { ProxyError } from "../../shared/errors.ts";
import type { Ca, CaOptions, Leaf } from "./ca.ts";
import { type CaChain, caWarnings, chainPermits, lifeOf, sentChain, trustAnchor } from "./ca-check.ts";
import { caProblem, certificateFile } from "./ca-files.ts";
import {
  authorityKeyId,
  basicConstraints,
  distinguishedName,
  keyIdentifier,
  leafKeyUsage,
  type Signer,
  serverAuth,
  subjectAltName,
  subjectKeyId,
  writeCertificate,
} from "./certificate-writer.ts";
import { pem } from "./der.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A leaf's whole life, the hour before its making included. */
const LEAF_LIFE_MS = 7 * DAY_MS;
const LEAF_BACKDATE_MS = HOUR_MS;

// One key for every leaf of the process: minting then costs one signature, and the key is never written anywhere.
let leafKey: { readonly publicKey: KeyObject; readonly pem: string; readonly id: Buffer } | null = null;
function leafKeyOfProcess(): NonNullable<typeof leafKey> {
  if (leafKey === null) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    const publicKey = createPublicKey(privateKey);
    const text = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
    leafKey = { publicKey, pem: text, id: keyIdentifier(publicKey) };
  }
  return leafKey;
}

const LEAF_HOST = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;
/** ub-common-name of RFC 5280 appendix A.1. */
const MAX_COMMON_NAME = 64;

/** A CA that was read and checked. `prove` before use. */
export class MintingCa implements Ca {
  readonly certificatePem: string;
  readonly fingerprint: string;
  readonly subject: string;
  readonly created: boolean;
  readonly notAfter: number;
  readonly previous: readonly string[];
  readonly warnings: readonly string[];
  readonly file: string;
  readonly #chain: CaChain;
  readonly #signer: Signer;
  readonly #now: () => number;
  readonly #sent: string;

  constructor(options: CaOptions, chain: CaChain, signer: Signer, previous: readonly string[], created: boolean) {
    const anchor = trustAnchor(chain);
    this.certificatePem = pem("CERTIFICATE", anchor.raw);
    this.fingerprint = anchor.fingerprint256;
    this.subject = anchor.subject.replaceAll("\n", ", ");
    this.created = created;
    this.notAfter = Math.min(...chain.certificates.map((certificate) => lifeOf(certificate).to));
    this.previous = previous;
    this.warnings = caWarnings(chain, options.now());
    this.file = certificateFile(options.dir);
    this.#chain = chain;
    this.#signer = signer;
    this.#now = options.now;
    this.#sent = sentChain(chain)
      .map((certificate) => pem("CERTIFICATE", certificate.raw))
      .join("");
  }

  async mint(host: string): Promise<Leaf> {
    if (isIP(host) === 0 && !LEAF_HOST.test(host))
      throw new ProxyError("internal", "no leaf for a host that is not canonical");
    if (!chainPermits(this.#chain, host)) {
      throw caProblem(`the name constraints of the CA do not permit ${host}: a tunnel rule would let it pass unopened`);
    }
    const now = this.#now();
    if (now >= this.notAfter)
      throw caProblem(`the CA ended on ${new Date(this.notAfter).toISOString()}: sallyport ca rotate`);
    const notBefore = now - LEAF_BACKDATE_MS;
    const notAfter = Math.min(notBefore + LEAF_LIFE_MS, this.notAfter);
    const der = await writeCertificate(this.#leafSpec(host, notBefore, notAfter), this.#signer);
    return { certPem: pem("CERTIFICATE", der) + this.#sent, keyPem: leafKeyOfProcess().pem, notBefore, notAfter };
  }

  #leafSpec(host: string, notBefore: number, notAfter: number) {
    const { publicKey, id } = leafKeyOfProcess();
    const facts = this.#chain.facts[0] as CaChain["facts"][0];
    // An address in the common name would be held against the DNS constraints of a CA.
    const short = host.length <= MAX_COMMON_NAME && isIP(host) === 0;
    return {
      issuer: facts.subject,
      subject: short ? distinguishedName({ commonName: host }) : distinguishedName({}),
      notBefore,
      notAfter,
      publicKey,
      extensions: [
        basicConstraints(false),
        leafKeyUsage(),
        serverAuth(),
        subjectAltName(host, !short),
        subjectKeyId(id),
        // Exactly what the CA certificate carries: a computed one would not match every customer's CA.
        ...(facts.subjectKeyId === null ? [] : [authorityKeyId(facts.subjectKeyId)]),
      ],
    };
  }

  /** Signs a certificate and verifies it as a client would, so that a CA that cannot work is refused at start. */
  async prove(): Promise<void> {
    const issuing = this.#chain.certificates[0] as X509Certificate;
    const { notBefore, notAfter } = { notBefore: this.#now() - LEAF_BACKDATE_MS, notAfter: this.notAfter };
    const leaf = new X509Certificate(
      await writeCertificate(this.#leafSpec("prove.invalid", notBefore, notAfter), this.#signer),
    );
    if (!leaf.checkIssued(issuing) || !leaf.verify(issuing.publicKey)) {
      throw caProblem("what this CA signs does not verify against its own certificate");
    }
  }
}
