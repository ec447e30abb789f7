// The chain: each record's hash covers its number, everything in it, and the hash before.
import { hash, type KeyObject, sign, verify } from "node:crypto";

/** What stands before the first record: 64 zeros. */
export const GENESIS = "0".repeat(64);

/** The place of one record in the chain: `hash` is lower-case hex of SHA-256. */
export interface ChainPoint {
  readonly seq: number;
  readonly hash: string;
}

/** A point of the chain with an Ed25519 signature over it. `at` in milliseconds since 1970; `signature` in base64. */
export interface SignedHead extends ChainPoint {
  readonly at: number;
  readonly signature: string;
}

/** The hash of a record, from the hash before it (hex), its number and the canonical text of its row (`rowText`). */
export const chainHash = (previous: string, seq: number, text: string): string =>
  hash("sha256", `${previous}\n${seq}\n${text}`, "hex");

const DIGITS = 64;
const SIZE = 64 * 1024;
/** A number of at most 16 digits between newlines. */
const HEAD = 18;
const MAX_VIEWS = 1_024;

/** The chain as it grows by lines: the same hashes as `chainHash` gives, from the bytes of the texts. */
export class ChainWriter {
  /** The hash in hex, then the number and the text that come next. */
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #seq = 0;
  /** Of the bytes, by length: most texts are about as long. */
  #views: (Uint8Array | undefined)[] = new Array(MAX_VIEWS).fill(undefined);

  constructor(point: ChainPoint) {
    this.reset(point);
  }

  /** The number of the last record. */
  get seq(): number {
    return this.#seq;
  }

  get point(): ChainPoint {
    return { seq: this.#seq, hash: this.#bytes.toString("latin1", 0, DIGITS) };
  }

  /** Begins again behind this point. */
  reset({ seq, hash: digits }: ChainPoint): void {
    this.#seq = seq;
    this.#bytes.write(digits.padEnd(DIGITS), 0, DIGITS, "latin1");
  }

  /** Adds the record with this canonical text. Returns bytes of which the first 64 are its hash in hex, borrowed until the next. */
  add(bytes: Buffer, from: number, to: number): Uint8Array {
    const most = DIGITS + HEAD + to - from;
    if (most > this.#bytes.length || this.#bytes.length > SIZE) this.#resize(most);
    const start = this.#head(++this.#seq);
    bytes.copy(this.#bytes, start, from, to);
    this.#bytes.write(hash("sha256", this.#first(start + to - from), "hex"), 0, DIGITS, "latin1");
    return this.#bytes;
  }

  /** Writes the number between two newlines behind the hash. Returns where the text begins. */
  #head(seq: number): number {
    const bytes = this.#bytes;
    let start = DIGITS + 2;
    for (let rest = seq; rest > 0; rest = Math.floor(rest / 10)) start++;
    bytes[DIGITS] = 10;
    bytes[start - 1] = 10;
    for (let at = start - 2, rest = seq; rest > 0; at--) {
      const tenth = Math.floor(rest / 10);
      bytes[at] = 48 + rest - tenth * 10;
      rest = tenth;
    }
    return start;
  }

  /** The first bytes, so many. */
  #first(length: number): Uint8Array {
    if (length >= MAX_VIEWS) return this.#bytes.subarray(0, length);
    let view = this.#views[length];
    if (view === undefined) {
      view = this.#bytes.subarray(0, length);
      this.#views[length] = view;
    }
    return view;
  }

  /** What a long text needed is not kept. */
  #resize(least: number): void {
    const digits = this.#bytes.subarray(0, DIGITS);
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(least, SIZE));
    this.#bytes.set(digits);
    this.#views.fill(undefined);
  }
}

/** What a signature says of a point: that the chain came by here, or that everything up to it was taken away by pruning. */
export type Meaning = "head" | "base";

const message = (meaning: Meaning, { seq, hash: digits }: ChainPoint, at: number): Buffer =>
  Buffer.from(`sallyport audit ${meaning} 1\n${seq}\n${digits}\n${at}\n`);

/** Signs a point of the chain (Ed25519, RFC 8032). */
export function signHead(point: ChainPoint, at: number, key: KeyObject, meaning: Meaning = "head"): SignedHead {
  const signature = sign(null, message(meaning, point, at), key).toString("base64");
  return { seq: point.seq, hash: point.hash, at, signature };
}

/** True when the signature is that of the key's owner over exactly this head, and means this. */
export function headIsGenuine(head: SignedHead, publicKey: KeyObject, meaning: Meaning = "head"): boolean {
  const signature = Buffer.from(head.signature, "base64");
  return signature.length === 64 && verify(null, message(meaning, head, head.at), publicKey, signature);
}
