// A Java key store (JKS, format version 2) with trusted certificates only: every Java reads it, whatever its age, and it needs
// no tool. The password protects nothing here; it is Java's customary one, and the digest over the file is made with it.
import { createHash, X509Certificate } from "node:crypto";

/** Java's customary password of a trust store; not a secret. */
export const TRUST_STORE_PASSWORD = "changeit";

/** The trust store's bytes. `pem`: any number of certificates. Certificates that repeat are left out. */
export function javaTrustStore(pem: string): Buffer {
  const certificates = new Map<string, Buffer>();
  for (const block of pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []) {
    try {
      const certificate = new X509Certificate(block);
      certificates.set(certificate.fingerprint256.replaceAll(":", "").toLowerCase(), certificate.raw);
    } catch {
      // A bundle of the system may hold what this Node cannot read; Java would not trust it either.
    }
  }
  const parts = [u32(0xfeedfeed), u32(2), u32(certificates.size)];
  for (const [fingerprint, der] of certificates) {
    // 2: a trusted certificate. The date is fixed, so that the same roots give the same file.
    parts.push(
      u32(2),
      utf(`sallyport-${fingerprint.slice(0, 40)}`),
      Buffer.alloc(8),
      utf("X.509"),
      u32(der.length),
      der,
    );
  }
  const content = Buffer.concat(parts);
  const password = Buffer.from(TRUST_STORE_PASSWORD, "utf16le").swap16();
  const digest = createHash("sha1").update(password).update("Mighty Aphrodite", "utf8").update(content).digest();
  return Buffer.concat([content, digest]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function utf(text: string): Buffer {
  const bytes = Buffer.from(text, "utf8");
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
