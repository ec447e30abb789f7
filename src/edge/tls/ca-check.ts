// Whether a certificate and a key make a CA that clients will accept; every reason why not, in words to act on.
import type { KeyObject, X509Certificate } from "node:crypto";
import { allowsServerAuth, type CertificateFacts, readCertificate } from "./certificate-reader.ts";
import { signerFor } from "./certificate-writer.ts";
import { constraintsPermit, describeConstraints } from "./name-constraints.ts";

/** The issuing CA first, then what issued it, up to its root where the file has it. */
export interface CaChain {
  readonly certificates: readonly X509Certificate[];
  readonly facts: readonly CertificateFacts[];
}

const SOON_MS = 30 * 86_400_000;
const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
/** Start and end of a certificate's life, in milliseconds since 1970. */
export const lifeOf = (certificate: X509Certificate): { from: number; to: number } => ({
  from: Date.parse(certificate.validFrom),
  to: Date.parse(certificate.validTo),
});
const isRoot = (certificate: X509Certificate): boolean => certificate.checkIssued(certificate);
const named = (certificate: X509Certificate): string => certificate.subject.replaceAll("\n", ", ");

/** Reads every fact once; throws when a certificate is not strict DER. */
export const caChain = (certificates: readonly X509Certificate[]): CaChain => ({
  certificates,
  facts: certificates.map(readCertificate),
});

/** Everything that stands against using this CA now; none: it can be used. */
export function caProblems(chain: CaChain, key: KeyObject, now: number): string[] {
  const problems: string[] = [];
  const issuing = chain.certificates[0] as X509Certificate;
  if (!issuing.checkPrivateKey(key)) problems.push("the key does not fit the certificate");
  if (signerFor(key) === null) {
    problems.push("the key must be RSA of 2048 bits or more, or EC on P-256, P-384 or P-521");
  }
  chain.certificates.forEach((certificate, depth) => {
    problems.push(...certificateProblems(certificate, chain.facts[depth] as CertificateFacts, depth, now));
    const issuer = chain.certificates[depth + 1];
    if (issuer !== undefined && !(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))) {
      problems.push(`the certificate of ${named(issuer)} did not issue the one before it in the file`);
    }
  });
  return problems;
}

function certificateProblems(c: X509Certificate, facts: CertificateFacts, depth: number, now: number): string[] {
  const problems: string[] = [];
  const life = lifeOf(c);
  const which = depth === 0 ? "the certificate" : `the certificate of ${named(c)}`;
  if (now > life.to) problems.push(`${which} expired on ${day(life.to)}`);
  if (now < life.from) problems.push(`${which} is not valid before ${new Date(life.from).toISOString()}`);
  if (facts.ca !== true) problems.push(`${which} is not a CA certificate (basic constraints without CA:TRUE)`);
  if (facts.certificateSigning === false)
    problems.push(`${which} may not sign certificates (key usage without keyCertSign)`);
  if (!allowsServerAuth(facts.extendedKeyUsage)) {
    problems.push(`${which} may not issue for servers (extended key usage without serverAuth)`);
  }
  if (facts.pathLength !== null && facts.pathLength < depth) {
    problems.push(`${which} allows a path length of ${facts.pathLength}, and ${depth} CA certificates stand below it`);
  }
  return problems;
}

/** What an operator should know of a CA that works. */
export function caWarnings(chain: CaChain, now: number): string[] {
  const warnings: string[] = [];
  chain.certificates.forEach((certificate, depth) => {
    const facts = chain.facts[depth] as CertificateFacts;
    const { to } = lifeOf(certificate);
    if (to - now < SOON_MS) warnings.push(`the CA certificate ${named(certificate)} expires on ${day(to)}`);
    if (facts.nameConstraints !== null) {
      warnings.push(
        `the CA may sign for some hosts only (${describeConstraints(facts.nameConstraints)}): others need a tunnel rule`,
      );
    }
  });
  const last = chain.certificates.at(-1) as X509Certificate;
  if (!isRoot(last)) {
    warnings.push(`clients must trust the issuer of ${named(last)} already: its root is not in the file`);
  }
  if (chain.facts[0]?.certificateSigning === null || chain.facts[0]?.subjectKeyId === null) {
    warnings.push("the CA certificate lacks key usage or a subject key identifier: strict clients will not accept it");
  }
  return warnings;
}

/** What clients trust: the root where the file has it, else the last certificate in it. */
export const trustAnchor = (chain: CaChain): X509Certificate => chain.certificates.at(-1) as X509Certificate;

/** What is sent after a leaf: everything but a root, which clients must have anyway. */
export const sentChain = (chain: CaChain): X509Certificate[] => chain.certificates.filter((c) => !isRoot(c));

/** True when the name constraints of every CA of the chain let it sign for the host. */
export const chainPermits = (chain: CaChain, host: string): boolean =>
  chain.facts.every((facts) => facts.nameConstraints === null || constraintsPermit(facts.nameConstraints, host));
