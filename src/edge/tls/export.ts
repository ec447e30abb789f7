// The CA's certificate in the forms that other programs import. The key is not at hand here, so it cannot leave.
import type { X509Certificate } from "node:crypto";
import { pem } from "./der.ts";
import { trustStore } from "./pkcs12.ts";

export const EXPORT_FORMATS = ["pem", "der", "p12"] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** What Java expects of a trust store unless told otherwise. */
export const TRUST_STORE_PASSWORD = "changeit";

/** The certificate alone, as PEM, DER or PKCS#12. */
export function exportRoot(root: X509Certificate, format: ExportFormat): Buffer {
  if (format === "pem") return Buffer.from(pem("CERTIFICATE", root.raw));
  if (format === "der") return root.raw;
  return trustStore([{ alias: "sallyport", certificate: root.raw }], TRUST_STORE_PASSWORD);
}
