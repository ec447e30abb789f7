// Who may speak, and how it is known: one entry of `clients` as the policy file means it.

/** How a Basic password is checked: against itself in constant time, or against a scrypt hash. */
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

export interface BearerCheck {
  /** Exactly one of the three is set. */
  readonly secret: string | null;
  readonly publicKey: string | null;
  readonly jwks: string | null;
  readonly issuer: string | null;
  readonly audience: readonly string[] | null;
  readonly algorithms: readonly string[];
  /** The `sub` that the token must carry, or null: any. */
  readonly subject: string | null;
}

/** An address range: `bits` leading bits of `address` (canonical text). */
export interface Cidr {
  readonly address: string;
  readonly bits: number;
}

export interface CertificateCheck {
  /** SHA-256 of the DER, lower-case hex without colons, or null. */
  readonly fingerprint: string | null;
  /** A subject alternative name or common name, or null. */
  readonly name: string | null;
}

/** One entry of `clients`, in the order of the file: the first that matches is who is speaking. */
export interface ClientConfig {
  readonly name: string;
  readonly password: PasswordCheck | null;
  readonly bearer: BearerCheck | null;
  readonly addresses: readonly Cidr[];
  readonly certificate: CertificateCheck | null;
}
