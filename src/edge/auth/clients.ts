// What the authenticator needs to know of each client that the policy file names: the same shapes as `config/loaded.ts`.

/** How a password is kept: plain (compared in constant time), or as scrypt's output. */
export type PasswordCheck =
  | { readonly kind: "plain"; readonly password: string }
  | {
      readonly kind: "scrypt";
      readonly N: number;
      readonly r: number;
      readonly p: number;
      readonly salt: Uint8Array;
      readonly hash: Uint8Array;
    };

/** Where the key of a bearer token comes from, and what the token must say. Exactly one of the three keys is set. */
export interface BearerCheck {
  readonly secret: string | null;
  /** PEM (SPKI or certificate) or a JWK in JSON. */
  readonly publicKey: string | null;
  readonly jwks: string | null;
  readonly issuer: string | null;
  readonly audience: readonly string[] | null;
  /** Empty: those that fit the kind of key. */
  readonly algorithms: readonly string[];
  /** The `sub` that the token must carry, or null: any. */
  readonly subject: string | null;
}

/** An address range: `bits` leading bits of `address`. */
export interface Cidr {
  readonly address: string;
  readonly bits: number;
}

/** A client, in the order of the file. Address and certificate also narrow a credential that stands beside them. */
export interface ClientSpec {
  readonly name: string;
  readonly password: PasswordCheck | null;
  readonly bearer: BearerCheck | null;
  readonly addresses: readonly Cidr[];
  readonly certificate: { readonly fingerprint: string | null; readonly name: string | null } | null;
}
