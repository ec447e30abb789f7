// What is wrong with an origin's certificate: every fault by itself, so that an exception excuses what it names and
// nothing else. OpenSSL reports only the last of several errors (a self-signed certificate that has expired is just
// "expired"); therefore nothing here trusts its code alone.
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { DetailedPeerCertificate } from "node:tls";
import { lifeOf } from "./ca-check.ts";
import { allowsServerAuth, readCertificate } from "./certificate-reader.ts";
import { signerFor } from "./certificate-writer.ts";
import { constraintsPermit } from "./name-constraints.ts";

/** What an exception can excuse. */
export type ExcusableFault = "self-signed" | "expired" | "hostname" | "untrusted";
/** `not-yet-valid`, `usage`, `weak` and `other` are never excused. */
export type Fault = ExcusableFault | "not-yet-valid" | "usage" | "weak" | "other";

/** Codes of OpenSSL that our own faults account for; any other is `other`. */
const SELF_SIGNED = new Set(["DEPTH_ZERO_SELF_SIGNED_CERT"]);
const UNTRUSTED = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);
const EXPIRED = "CERT_HAS_EXPIRED";
const MAX_DEPTH = 8;

/** True when a name of the certificate's SAN covers the host; the common name never does (RFC 9110 section 4.3.4). */
export function coversHost(certificate: X509Certificate, host: string): boolean {
  if (isIP(host) !== 0) return certificate.checkIP(host) !== undefined;
  const options = { subject: "never", wildcards: true, partialWildcards: false, multiLabelWildcards: false } as const;
  return (
    certificate.checkHost(host, options) !== undefined || (host.includes("_") && wildcardCovers(certificate, host))
  );
}

/**
 * OpenSSL's wildcard takes no underscore, although RFC 9525 section 6.3 lets `*` be any left-most label, and buckets of
 * object stores have such names. As for every other host, a wildcard of a top-level domain covers nothing.
 */
function wildcardCovers(certificate: X509Certificate, host: string): boolean {
  const parent = host.slice(host.indexOf(".") + 1);
  const names = certificate.subjectAltName ?? "";
  // Between quotes stands a name of any characters: what looks like an entry of its own may be a part of it.
  if (!parent.includes(".") || names.includes('"')) return false;
  return names.split(", ").some((name) => name.startsWith("DNS:") && name.slice(4).toLowerCase() === `*.${parent}`);
}

export interface Judged {
  readonly leaf: X509Certificate;
  /** What the origin sent beside the leaf. */
  readonly sent: readonly X509Certificate[];
  readonly host: string;
  /** What OpenSSL says against the chain, or null. */
  readonly code: string | null;
  /** Wall-clock time, milliseconds since 1970. */
  readonly now: number;
}

/** Every fault of the certificate; none: it is good. `roots`: who is trusted, asked only where it matters. */
export function faultsOf(judged: Judged, roots: () => readonly X509Certificate[]): Set<Fault> {
  const { leaf, host, code, now } = judged;
  const faults = new Set<Fault>();
  const life = lifeOf(leaf);
  if (now > life.to) faults.add("expired");
  if (now < life.from) faults.add("not-yet-valid");
  if (!coversHost(leaf, host)) faults.add("hostname");
  if (code === null) return faults;
  if (!allowsServerAuth(leaf.keyUsage ?? null)) faults.add("usage");
  if (signerFor(leaf.publicKey) === null && !isModern(leaf)) faults.add("weak");
  if (!SELF_SIGNED.has(code) && !UNTRUSTED.has(code) && code !== EXPIRED) faults.add("other");
  addChainFaults(judged, roots, faults);
  if (faults.size === 0) faults.add("other");
  return faults;
}

const isModern = (leaf: X509Certificate): boolean =>
  ["ed25519", "ed448"].includes(leaf.publicKey.asymmetricKeyType ?? "");

function addChainFaults(judged: Judged, roots: () => readonly X509Certificate[], faults: Set<Fault>): void {
  const { leaf } = judged;
  if (roots().some((root) => root.raw.equals(leaf.raw))) return;
  if (isSelfSigned(leaf)) {
    faults.add("self-signed");
  } else if (UNTRUSTED.has(judged.code ?? "") || !leadsToRoot(judged, roots())) {
    faults.add("untrusted");
  }
}

/** By name and signature: `checkIssued` says no where the key usage has no keyCertSign, as leaves have not. */
function isSelfSigned(leaf: X509Certificate): boolean {
  const { subjectDer, issuerDer } = readCertificate(leaf);
  return subjectDer.equals(issuerDer) && leaf.verify(leaf.publicKey);
}

/**
 * True when the leaf leads to a trusted root, its own dates set aside: the question behind an exception for an expired
 * certificate. Stricter than RFC 5280 where that is simpler: a CA must be good in every respect.
 */
function leadsToRoot(judged: Judged, roots: readonly X509Certificate[]): boolean {
  let current = judged.leaf;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const child = current;
    const issues = (ca: X509Certificate): boolean => canIssue(ca, child, depth, judged);
    if (roots.some(issues)) return true;
    const next = judged.sent.find((ca) => !ca.raw.equals(child.raw) && issues(ca));
    if (next === undefined) return false;
    current = next;
  }
  return false;
}

function canIssue(ca: X509Certificate, child: X509Certificate, below: number, judged: Judged): boolean {
  if (!child.checkIssued(ca) || !child.verify(ca.publicKey) || signerFor(ca.publicKey) === null) return false;
  const life = lifeOf(ca);
  if (judged.now > life.to || judged.now < life.from) return false;
  const facts = readCertificate(ca);
  if (facts.ca !== true || facts.certificateSigning === false || !allowsServerAuth(facts.extendedKeyUsage))
    return false;
  if (facts.pathLength !== null && facts.pathLength < below) return false;
  return facts.nameConstraints === null || constraintsPermit(facts.nameConstraints, judged.host);
}

/** The certificates that came with a leaf, in the order of their issuing; node:tls links them. */
export function chainOf(peer: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let at: DetailedPeerCertificate | undefined = peer.issuerCertificate;
  let before: DetailedPeerCertificate = peer;
  while (at?.raw !== undefined && at !== before && chain.length < MAX_DEPTH) {
    chain.push(new X509Certificate(at.raw));
    before = at;
    at = at.issuerCertificate;
  }
  return chain;
}

/** The faults for people, with what the certificate says. */
export function describeFaults(faults: ReadonlySet<Fault>, leaf: X509Certificate, host: string): string {
  const life = lifeOf(leaf);
  const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
  const words: Record<Fault, string> = {
    "self-signed": "it is self-signed",
    expired: `it expired on ${day(life.to)}`,
    "not-yet-valid": `it is not valid before ${day(life.from)}`,
    hostname: wrongHost(leaf, host),
    untrusted: "its issuer is not trusted",
    usage: "it is not for servers (extended key usage without serverAuth)",
    weak: "its key is too weak",
    other: "its chain does not verify",
  };
  return `the certificate of ${host}: ${[...faults].map((fault) => words[fault]).join("; ")}`;
}

const MAX_NAMES = 200;

/** For people: the names that the certificate has instead. */
export function wrongHost(leaf: X509Certificate, host: string): string {
  const names = printable(leaf.subjectAltName ?? "");
  if (names === "") return `it names no host (a name that stands only in the common name does not count for ${host})`;
  return `it is for another host (${names.length > MAX_NAMES ? `${names.slice(0, MAX_NAMES)}…` : names})`;
}

// What an origin wrote into its certificate ends in logs and terminals.
const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, "?");
