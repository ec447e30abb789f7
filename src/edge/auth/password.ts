// Basic credentials (RFC 7617): read strictly, compared in constant time or by scrypt.
import { createHash, scrypt, timingSafeEqual } from "node:crypto";
import type { PasswordCheck } from "../../policy/clients.ts";
import { ProxyError } from "../../shared/errors.ts";

export interface BasicCredential {
  readonly user: string;
  readonly password: string;
}

const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
/** scrypt runs on libuv's four threads; more at once would only starve everything else. */
const AT_ONCE = 2;
const QUEUE = 64;

/**
 * The user and password of `Basic …`'s token68, or null when it is not one. Base64 is the only coding that is undone:
 * a percent sign in a password is a percent sign (pitfalls O3).
 */
export function readBasic(token: string): BasicCredential | null {
  if (!BASE64.test(token)) return null;
  const bytes = Buffer.from(token, "base64");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
  const colon = text.indexOf(":");
  if (colon < 0) return null;
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

let running = 0;
const waiting: (() => void)[] = [];

/** True when the password is right. Throws ProxyError `busy` when too many checks wait already. */
export async function checkPassword(check: PasswordCheck, password: string): Promise<boolean> {
  if (check.kind === "plain") return plainEqual(check.password, password);
  return timingSafeEqual(await derive(check, password), check.hash);
}

/** Compares in a time that depends on neither text. */
export function plainEqual(expected: string, given: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text, "utf8").digest();
  return timingSafeEqual(hash(expected), hash(given));
}

async function derive(check: Extract<PasswordCheck, { kind: "scrypt" }>, password: string): Promise<Buffer> {
  if (running >= AT_ONCE) {
    if (waiting.length >= QUEUE) throw new ProxyError("busy", "too many credentials are being checked");
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else {
    running++;
  }
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const { N, r, p } = check;
      const options = { N, r, p, maxmem: 128 * N * r + 128 * r * p + (1 << 20) };
      scrypt(password, check.salt, check.hash.length, options, (error, key) => (error ? reject(error) : resolve(key)));
    });
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
}
