// Clients as an authenticator wants them: passwords, keys, ranges and certificates, each checked once.
import { createPublicKey } from "node:crypto";
import { canonicalIp } from "../http/ip-address.ts";
import { parseAbsoluteTarget } from "../http/target.ts";
import type { BearerCheck, CertificateCheck, Cidr, ClientConfig, PasswordCheck } from "../policy/clients.ts";
import type { DocumentPath, Findings } from "../policy/problems.ts";
import type { ConfigDocument } from "./schema.ts";

type ClientDocument = ConfigDocument["clients"][string];
type BearerDocument = NonNullable<ClientDocument["bearer"]>;

/** The clients in the order of the file. Problems go to `findings`. */
export function readClients(document: ConfigDocument, findings: Findings): ClientConfig[] {
  return Object.entries(document.clients).map(([name, client]) => {
    const at: DocumentPath = ["clients", name];
    if (!client.password && !client.bearer && !client.addresses && !client.certificate) {
      findings.problem(at, `nothing says how ${name} is recognised: password, bearer, addresses or certificate`);
    }
    if (client.certificate !== undefined && document.server.tls?.["client-ca"] === undefined) {
      findings.problem([...at, "certificate"], "client certificates want server.tls with a client-ca");
    }
    return Object.freeze({
      name,
      password: client.password === undefined ? null : readPassword(client.password, [...at, "password"], findings),
      bearer: client.bearer === undefined ? null : readBearer(client.bearer, [...at, "bearer"], findings),
      addresses: readAddresses(client.addresses ?? [], [...at, "addresses"], findings),
      certificate:
        client.certificate === undefined ? null : readCertificate(client.certificate, [...at, "certificate"], findings),
    });
  });
}

/** `scrypt:N:r:p:salt:hash` (base64), or the password itself. */
function readPassword(text: string, at: DocumentPath, findings: Findings): PasswordCheck {
  if (!text.startsWith("scrypt:")) {
    if (text.length < 8) findings.warn(at, "this password has fewer than 8 characters");
    return { kind: "plain", password: text };
  }
  const match = /^scrypt:(\d{1,8}):(\d{1,3}):(\d{1,3}):([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)$/.exec(text);
  const [N, r, p] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])];
  const salt = Buffer.from(match?.[4] ?? "", "base64");
  const hash = Buffer.from(match?.[5] ?? "", "base64");
  const bytes = 128 * N * r;
  if (match === null || N < 2 || (N & (N - 1)) !== 0 || r < 1 || p < 1) {
    findings.problem(at, "a hashed password is scrypt:N:r:p:SALT:HASH, N a power of two, salt and hash in base64");
  } else if (salt.length < 8 || hash.length < 16) {
    findings.problem(at, "a hashed password has a salt of at least 8 bytes and a hash of at least 16");
  } else if (bytes > 256 * 1024 * 1024 || p > 16) {
    findings.problem(at, "this scrypt would take more than 256MiB for each check: choose a smaller N, r or p");
  }
  return { kind: "scrypt", N, r, p, salt, hash };
}

function readBearer(document: BearerDocument, at: DocumentPath, findings: Findings): BearerCheck {
  const { secret, jwks } = document;
  const publicKey = document["public-key"];
  const given = [secret, publicKey, jwks].filter((x) => x !== undefined).length;
  if (given !== 1) findings.problem(at, "a bearer token is checked with exactly one of secret, public-key and jwks");
  const algorithms = document.algorithms ?? (secret === undefined ? ["RS256", "ES256", "EdDSA"] : ["HS256"]);
  for (const [i, algorithm] of algorithms.entries()) {
    // A public key that is taken for a shared secret is the classic forgery.
    if (algorithm.startsWith("HS") === (secret !== undefined) || given !== 1) continue;
    const fits = secret === undefined ? "public keys" : "a shared secret";
    findings.problem([...at, "algorithms", i], `${algorithm} does not go with ${fits}`);
  }
  if (secret !== undefined && Buffer.byteLength(secret) < 32) {
    findings.warn([...at, "secret"], "a shared secret of fewer than 32 bytes can be guessed from one token");
  }
  if (publicKey !== undefined) checkKey(publicKey, [...at, "public-key"], findings);
  if (jwks !== undefined && parseAbsoluteTarget(jwks) === null) {
    findings.problem([...at, "jwks"], "jwks is the URL of a key set, https://…");
  } else if (jwks?.startsWith("http:")) {
    findings.warn([...at, "jwks"], "a key set over http can be exchanged on its way: use https");
  }
  return Object.freeze({
    secret: secret ?? null,
    publicKey: publicKey ?? null,
    jwks: jwks ?? null,
    issuer: document.issuer ?? null,
    audience: document.audience ?? null,
    algorithms,
    subject: document.subject ?? null,
  });
}

function checkKey(pem: string, at: DocumentPath, findings: Findings): void {
  if (/PRIVATE KEY/.test(pem)) findings.problem(at, "this is a private key: the proxy needs the public one only");
  else {
    try {
      createPublicKey(pem);
    } catch {
      findings.problem(at, "this is not a public key in PEM form (for a file write ${" + "file:NAME})");
    }
  }
}

function readAddresses(texts: readonly string[], at: DocumentPath, findings: Findings): Cidr[] {
  const ranges: Cidr[] = [];
  for (const [i, text] of texts.entries()) {
    const range = parseCidr(text);
    if (range === null) findings.problem([...at, i], `${JSON.stringify(text)} is not an address or a range`);
    else ranges.push(range);
  }
  return ranges;
}

/** `10.0.0.0/8`, or one address; null when it is neither, or has bits beyond its prefix. */
export function parseCidr(text: string): Cidr | null {
  const match = /^([\d.]+|[\dA-Fa-f:.]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text);
  const address = match === null ? null : canonicalIp(match[1] as string);
  if (match === null || address === null) return null;
  const family = address.includes(":") ? 6 : 4;
  const width = family === 6 ? 128 : 32;
  const bits = match[2] === undefined ? width : Number(match[2]);
  return bits > width ? null : Object.freeze({ address, bits });
}

function readCertificate(
  document: NonNullable<ClientDocument["certificate"]>,
  at: DocumentPath,
  findings: Findings,
): CertificateCheck {
  const fingerprint = document.fingerprint?.replaceAll(":", "").toLowerCase() ?? null;
  if ((fingerprint === null) === (document.name === undefined)) {
    findings.problem(at, "a certificate is recognised by exactly one of fingerprint and name");
  }
  if (fingerprint !== null && !/^[\da-f]{64}$/.test(fingerprint)) {
    findings.problem([...at, "fingerprint"], "a fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits");
  }
  return Object.freeze({ fingerprint, name: document.name ?? null });
}
