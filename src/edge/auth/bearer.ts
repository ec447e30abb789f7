// Bearer tokens (RFC 6750, RFC 7519): signature, issuer, audience and times. Which algorithms count is settled by the kind of
// key in the configuration, never by the token, so that a public key cannot be used as an HMAC secret.
import { createPublicKey, createSecretKey, type KeyObject } from "node:crypto";
import type { JWTVerifyGetKey, JWTVerifyOptions } from "jose";
import type { BearerCheck } from "../../policy/clients.ts";
import { type KeyFetchPort, RemoteKeySet } from "./key-set.ts";

const SYMMETRIC = ["HS256", "HS384", "HS512"];
const ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
const CLOCK_TOLERANCE_SECONDS = 5;

/** One client's way of checking tokens. */
export class BearerVerifier {
  readonly #key: KeyObject | JWTVerifyGetKey;
  readonly #remote: RemoteKeySet | null;
  readonly #options: JWTVerifyOptions;
  readonly #now: () => number;

  /** Throws when the key cannot be read or allows none of the algorithms. */
  constructor(check: BearerCheck, port: KeyFetchPort, now: () => number) {
    const symmetric = typeof check.secret === "string";
    this.#remote = typeof check.jwks === "string" ? new RemoteKeySet(check.jwks, port, now) : null;
    this.#key = this.#remote?.key ?? staticKey(check);
    this.#now = now;
    const fitting = symmetric ? SYMMETRIC : ASYMMETRIC;
    const wanted = check.algorithms;
    const algorithms = wanted.length === 0 ? fitting : wanted.filter((a) => fitting.includes(a));
    if (algorithms.length === 0) throw new Error("none of the algorithms fits the kind of key");
    this.#options = {
      algorithms,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      requiredClaims: ["exp"],
      ...(check.subject === null ? {} : { subject: check.subject }),
      ...(check.issuer === null ? {} : { issuer: check.issuer }),
      ...(check.audience === null ? {} : { audience: [...check.audience] }),
    };
  }

  /** Milliseconds since 1970 until which the token is good, tolerance included. Throws when it is not. */
  async verify(token: string): Promise<number> {
    // Most houses check no token: a start does not wait for the library.
    const { jwtVerify } = await import("jose");
    const options = { ...this.#options, currentDate: new Date(this.#now()) };
    const { payload } =
      typeof this.#key === "function"
        ? await jwtVerify(token, this.#key, options)
        : await jwtVerify(token, this.#key, options);
    return ((payload.exp as number) + CLOCK_TOLERANCE_SECONDS) * 1000;
  }

  close(): void {
    this.#remote?.close();
  }
}

function staticKey(check: BearerCheck): KeyObject {
  if (typeof check.secret === "string") return createSecretKey(Buffer.from(check.secret, "utf8"));
  if (typeof check.publicKey !== "string") throw new Error("a bearer client needs secret, public-key or jwks");
  const text = check.publicKey.trim();
  return text.startsWith("{")
    ? createPublicKey({ key: JSON.parse(text), format: "jwk" })
    : createPublicKey({ key: text, format: "pem" });
}
