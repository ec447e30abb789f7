// The CA: made on first start or brought by its owner, checked at start, and minting leaf certificates for hosts.
import { createPrivateKey, generateKeyPair, type KeyObject, X509Certificate } from "node:crypto";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { ProxyError } from "../../shared/errors.ts";
import { type CaChain, caChain, caProblems, trustAnchor } from "./ca-check.ts";
import {
  caProblem,
  certificateFile,
  finishCreation,
  finishRotation,
  keepPrevious,
  keyFile,
  makeFolder,
  pendingCertificateFile,
  readKeyFile,
  readOptional,
  readPrevious,
  replaceBoth,
  settle,
  writeBoth,
} from "./ca-files.ts";
import {
  basicConstraints,
  caKeyUsage,
  distinguishedName,
  keyIdentifier,
  type Signer,
  signerFor,
  subjectKeyId,
  writeCertificate,
} from "./certificate-writer.ts";
import { certificateBlocks, pem } from "./der.ts";
import { MintingCa } from "./minting-ca.ts";

const DAY_MS = 86_400_000;
const CA_BACKDATE_MS = DAY_MS;
const CA_YEARS = 10;
const ORGANIZATION = "Sallyport";
/** How long we wait for another process that is making the CA's second file. */
const OTHER_MAKER_MS = 5000;

/** A leaf certificate with the key that it is for. */
export interface Leaf {
  /** The leaf, then the CAs between it and the root. */
  readonly certPem: string;
  readonly keyPem: string;
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface Ca {
  /** What clients trust: the root, in PEM. */
  readonly certificatePem: string;
  /** SHA-256 of that certificate, upper case with colons. */
  readonly fingerprint: string;
  /** The subject for people. */
  readonly subject: string;
  /** True: made by this call. */
  readonly created: boolean;
  /** Milliseconds since 1970 at which the first certificate of the chain ends. */
  readonly notAfter: number;
  /** Rotated roots (PEM) whose time of grace has not ended. */
  readonly previous: readonly string[];
  /** What an operator should know. */
  readonly warnings: readonly string[];
  /** The file with the certificate. */
  readonly file: string;
  /** Mints a leaf for a canonical host. Throws ProxyError when the CA has ended or may not sign for it. */
  mint(host: string): Promise<Leaf>;
}

export interface CaOptions {
  /** The folder with `ca.pem` and `ca.key`. */
  readonly dir: string;
  /** Of an encrypted key; a key that is made is encrypted with it. */
  readonly passphrase?: string | null;
  /** Wall-clock time in milliseconds since 1970. */
  readonly now: () => number;
}

/** Opens the CA in a folder, making it when there is none. Throws ProxyError `bad-configuration` saying every problem. */
export async function openCa(options: CaOptions): Promise<Ca> {
  await makeFolder(options.dir);
  const keyText = await readKeyFile(keyFile(options.dir));
  const certificateText = await readOptional(certificateFile(options.dir));
  if (keyText === null && certificateText === null) {
    const created = await createCa(options);
    return await readCa(options, created);
  }
  if (keyText === null) throw missing(keyFile(options.dir), certificateFile(options.dir));
  if (certificateText === null) await waitForCertificate(options);
  return await readCa(options, false);
}

/** Reads the CA again, for a running house after a rotation or a replacement of its files. */
export const reloadCa = (options: CaOptions): Promise<Ca> => readCa(options, false);

const missing = (gone: string, there: string): ProxyError =>
  caProblem(
    `${there} is there but ${gone} is not: bring the missing file, or move ${there} away to have a new CA made`,
  );

/** Another process may be between the two files of a new CA, or have died there. */
async function waitForCertificate(options: CaOptions): Promise<void> {
  const { dir } = options;
  for (let waited = 0; waited < OTHER_MAKER_MS; waited += 50) {
    if ((await readOptional(certificateFile(dir))) !== null) return;
    await sleep(50);
  }
  if (!(await finishCreation(dir, await readKey(options)))) throw missing(certificateFile(dir), keyFile(dir));
}

/** Makes both files; false when another process was first. */
async function createCa(options: CaOptions): Promise<boolean> {
  const made = await makeCa(options);
  // Both texts are on disk before the first gets its name: who finds the one without the other can finish it.
  const { key, certificate } = await writeBoth(options.dir, made.key, made.certificate);
  const first = await settle(key, keyFile(options.dir));
  if (first) await settle(certificate, certificateFile(options.dir));
  else {
    await rm(certificate, { force: true });
    await waitForCertificate(options);
  }
  return first;
}

async function makeCa(options: CaOptions): Promise<{ key: string; certificate: string }> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 });
  const now = options.now();
  const id = keyIdentifier(publicKey);
  const name = distinguishedName({
    organization: ORGANIZATION,
    // Part of the key's identifier: two CAs of one machine must not share a name, or clients pick the wrong one.
    commonName: `Sallyport CA ${id.subarray(0, 4).toString("hex")}`,
  });
  const notAfter = new Date(now);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + CA_YEARS);
  const spec = {
    issuer: name,
    subject: name,
    notBefore: now - CA_BACKDATE_MS,
    notAfter: notAfter.getTime(),
    publicKey,
    extensions: [basicConstraints(true, 0), caKeyUsage(), subjectKeyId(id)],
  };
  const der = await writeCertificate(spec, signerFor(privateKey) as Signer);
  return { key: exportKey(privateKey, options.passphrase), certificate: pem("CERTIFICATE", der) };
}

function exportKey(key: KeyObject, passphrase: string | null | undefined): string {
  if (passphrase == null) return key.export({ type: "pkcs8", format: "pem" }) as string;
  return key.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase }) as string;
}

async function readCa(options: CaOptions, created: boolean): Promise<Ca> {
  const { dir } = options;
  const key = await readKey(options);
  let chain = await readChain(certificateFile(dir));
  if (chain.certificates[0]?.checkPrivateKey(key) === false) {
    const pending = await readOptional(pendingCertificateFile(dir));
    if (pending !== null && new X509Certificate(pending).checkPrivateKey(key)) await finishRotation(dir);
    chain = await readChain(certificateFile(dir));
  }
  const now = options.now();
  const problems = caProblems(chain, key, now);
  if (problems.length > 0) throw caProblem(`the CA in ${dir} cannot be used: ${problems.join("; ")}`);
  const ca = new MintingCa(options, chain, signerFor(key) as Signer, await readPrevious(dir, now), created);
  await ca.prove();
  return ca;
}

async function readKey(options: CaOptions): Promise<KeyObject> {
  const path = keyFile(options.dir);
  const text = await readKeyFile(path);
  if (text === null) throw missing(path, certificateFile(options.dir));
  try {
    return createPrivateKey({
      key: text,
      ...(options.passphrase == null ? {} : { passphrase: options.passphrase }),
    });
  } catch (error) {
    const encrypted = text.includes("ENCRYPTED");
    if (!encrypted) throw caProblem(`${path} is not a private key in PEM`, error);
    const what =
      options.passphrase == null
        ? "is encrypted and needs its passphrase (tls.ca-passphrase in the policy file, or SALLYPORT_CA_PASSPHRASE)"
        : "does not open with this passphrase";
    throw caProblem(`the CA's key ${path} ${what}`);
  }
}

async function readChain(path: string): Promise<CaChain> {
  const text = await readOptional(path);
  if (text === null) throw caProblem(`there is no CA certificate ${path}`);
  const blocks = certificateBlocks(text);
  if (blocks.length === 0) throw caProblem(`${path} holds no certificate in PEM`);
  try {
    return caChain(blocks.map((block) => new X509Certificate(block)));
  } catch (error) {
    throw caProblem(`${path} holds a certificate that cannot be read`, error);
  }
}

/**
 * Makes a new CA in place of the one in the folder and keeps the old root as `ca-previous-DATE.pem`: it stays in the
 * bundles for 30 days. Refuses a CA that Sallyport did not make. A running house picks the new one up with `reloadCa`.
 */
export async function rotateCa(options: CaOptions): Promise<{ ca: Ca; kept: string }> {
  const current = await readCa(options, false);
  if (!current.subject.includes(`O=${ORGANIZATION}`)) {
    throw caProblem(`the CA in ${options.dir} was not made here: replace ca.pem and ca.key by hand to rotate it`);
  }
  const made = await makeCa(options);
  const kept = await keepPrevious(options.dir, current.certificatePem, options.now());
  await replaceBoth(options.dir, made.key, made.certificate);
  return { ca: await readCa(options, false), kept };
}

/** The certificate in the folder, without touching the key; null: there is none. For `ca show` and `ca export`. */
export async function readRoot(
  dir: string,
  now: number,
): Promise<{ root: X509Certificate; previous: string[] } | null> {
  if ((await readOptional(certificateFile(dir))) === null) return null;
  return { root: trustAnchor(await readChain(certificateFile(dir))), previous: await readPrevious(dir, now) };
}
