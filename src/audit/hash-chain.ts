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

/** The chain as it grows by lines: the same hashes as `chainHash` gives, from the bytes of the texts. */
export class ChainWriter {
  /** The hash in hex, then the number and the text that come next. */
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #seq = 0;

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
    const head = `\n${++this.#seq}\n`;
    const start = DIGITS + head.length;
    const end = start + to - from;
    if (end > this.#bytes.length || this.#bytes.length > SIZE) this.#resize(end);
    this.#bytes.write(head, DIGITS, "latin1");
    bytes.copy(this.#bytes, start, from, to);
    this.#bytes.write(hash("sha256", this.#bytes.subarray(0, end), "hex"), 0, DIGITS, "latin1");
    return this.#bytes;
  }

  /** What a long text needed is not kept. */
  #resize(least: number): void {
    const digits = this.#bytes.subarray(0, DIGITS);
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(least, SIZE));
    this.#bytes.set(digits);
  }
}

const headMessage = (seq: number, head: string, at: number): Buffer =>
  Buffer.from(`sallyport audit head 1\n${seq}\n${head}\n${at}\n`);

/** Signs a point of the chain (Ed25519, RFC 8032). */
export function signHead(point: ChainPoint, at: number, key: KeyObject): SignedHead {
  const signature = sign(null, headMessage(point.seq, point.hash, at), key).toString("base64");
  return { seq: point.seq, hash: point.hash, at, signature };
}

/** True when the signature is that of the key's owner over exactly this head. */
export function headIsGenuine(head: SignedHead, publicKey: KeyObject): boolean {
  const signature = Buffer.from(head.signature, "base64");
  return signature.length === 64 && verify(null, headMessage(head.seq, head.hash, head.at), publicKey, signature);
}
