// Whom we trust: the system's roots and those that the operator adds; and the bundle that children get.
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { ProxyError } from "../../shared/errors.ts";
import { certificateBlocks, pem } from "./der.ts";

/** Where systems keep their roots as one file, in the order in which they are tried. */
export const BUNDLE_PATHS: readonly string[] = [
  "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Gentoo
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
  "/etc/pki/tls/certs/ca-bundle.crt", // older Fedora, RHEL
  "/etc/ssl/ca-bundle.pem", // openSUSE
  "/var/lib/ca-certificates/ca-bundle.pem", // openSUSE
  "/etc/ssl/cert.pem", // Alpine, macOS, OpenBSD
  "/usr/local/share/certs/ca-root-nss.crt", // FreeBSD
  "/opt/homebrew/etc/openssl@3/cert.pem", // Homebrew
];

export interface Roots {
  /** Certificates in PEM, one each. */
  readonly pems: readonly string[];
  /** Where they come from, for the banner: a path, or "Node.js". */
  readonly from: string;
}

export interface RootsOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** For tests: other paths than the known ones. */
  readonly paths?: readonly string[];
}

/**
 * The system's roots: `SSL_CERT_FILE`, else the first known bundle, else Node's own list. Throws ProxyError
 * `bad-configuration` when `SSL_CERT_FILE` is set and cannot be used: other roots than those asked for would be a surprise.
 */
export async function systemRoots(options: RootsOptions): Promise<Roots> {
  const named = options.env.SSL_CERT_FILE;
  if (named !== undefined && named !== "") return { pems: await readRoots(named, "SSL_CERT_FILE"), from: named };
  for (const path of options.paths ?? BUNDLE_PATHS) {
    const text = await readFile(path, "utf8").catch(() => null);
    const pems = text === null ? [] : readable(text);
    if (pems.length > 0) return { pems, from: path };
  }
  return { pems: rootCertificates.map((text) => `${text}\n`), from: "Node.js" };
}

async function readRoots(path: string, setting: string): Promise<string[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    throw new ProxyError("bad-configuration", `${setting}: cannot read ${path} (${code})`, { cause: error });
  }
  return nonEmpty(readable(text), path, setting);
}

function nonEmpty(pems: string[], path: string, setting: string): string[] {
  if (pems.length === 0) throw new ProxyError("bad-configuration", `${setting}: ${path} holds no certificate in PEM`);
  return pems;
}

/** The system's roots and those of `tls.roots`, without doubles. Throws ProxyError `bad-configuration` for an empty file. */
export function withAdded(system: Roots, added: readonly { readonly file: string; readonly pem: string }[]): Roots {
  const more = added.map(({ file, pem: text }) => nonEmpty(readable(text), file, "tls.roots"));
  return { pems: [...new Set([...system.pems, ...more.flat()])], from: system.from };
}

/** What children trust, in PEM: the roots, our CA, and our rotated CAs that are still in their time of grace. */
export const trustBundle = (roots: Roots, ca: { certificatePem: string; previous: readonly string[] }): string =>
  [...new Set([...roots.pems, ca.certificatePem, ...ca.previous.flatMap(certificateBlocks)])].join("");

/** Each readable certificate in one form, so that equal ones are equal texts. */
function readable(text: string): string[] {
  const pems: string[] = [];
  for (const block of certificateBlocks(text)) {
    try {
      pems.push(pem("CERTIFICATE", new X509Certificate(block).raw));
    } catch {
      // One damaged entry of a system's bundle does not make the others less trusted.
    }
  }
  return [...new Set(pems)];
}
