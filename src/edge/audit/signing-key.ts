// The Ed25519 key that signs heads: `audit.key` in the data folder, 0600, made once and never overwritten.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { keyFile } from "./folder.ts";

/** The key of the folder; made when there is none. Throws when it cannot be read, or is no Ed25519 key. */
export function signingKey(dir: string): KeyObject {
  const file = keyFile(dir);
  try {
    return readKey(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const pem = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
  const fresh = `${file}.${process.pid}`;
  try {
    writeFileSync(fresh, pem, { mode: 0o600 });
    linkSync(fresh, file); // fails when another made one meanwhile: then that one counts
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(fresh, { force: true });
  }
  return readKey(file);
}

function readKey(file: string): KeyObject {
  const pem = readFileSync(file);
  let key: KeyObject | null = null;
  try {
    key = createPrivateKey(pem);
  } catch {}
  if (key?.asymmetricKeyType !== "ed25519")
    throw new Error(`${file} holds no Ed25519 key: put back the one that was there`);
  return key;
}

/** The public half, as base64 of its 32 bytes: what somebody needs who checks heads elsewhere. */
export const publicKeyText = (key: KeyObject): string => {
  const jwk = (key.type === "private" ? createPublicKey(key) : key).export({ format: "jwk" });
  return Buffer.from(jwk.x ?? "", "base64url").toString("base64");
};

/** The inverse of `publicKeyText`. */
export const publicKeyOf = (text: string): KeyObject =>
  createPublicKey({
    format: "jwk",
    key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(text, "base64").toString("base64url") },
  });
