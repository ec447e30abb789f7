// A tap that is the record of the body it watches: counts, digests, keeps what a rule asks for.
import { createHash, type Hash, hash } from "node:crypto";
import { MultipartDigests } from "./multipart.ts";
import type { BodyRecord, RecordedBody } from "./record.ts";
import { EMPTY_SHA256 } from "./record.ts";

/** Chunks are borrowed: what is kept is copied. Reading `sha256` ends the digest; nothing may be pushed afterwards. */
export class BodyDigest implements BodyRecord {
  bytes = 0;
  complete = false;
  #sha256: string | null = null;
  #hash: Hash | null = null;
  readonly #multipart: MultipartDigests | null;
  readonly #keep: number;
  #kept: Buffer[] | null = null;
  #keptBytes = 0;

  /** `keep`: bytes of the body to keep; `boundary`: of a multipart body, or null. */
  constructor(keep: number, boundary: string | null) {
    this.#keep = keep;
    this.#multipart = boundary === null ? null : new MultipartDigests(boundary);
  }

  push(chunk: Uint8Array, whole: boolean): void {
    if (chunk.length === 0 && !whole) return;
    this.bytes += chunk.length;
    if (this.#keptBytes < this.#keep) this.#copy(chunk);
    this.#multipart?.push(chunk);
    if (whole && this.#hash === null) {
      this.#sha256 = hash("sha256", chunk, "hex");
      return;
    }
    this.#hash ??= createHash("sha256");
    this.#hash.update(chunk);
  }

  end(): void {
    this.complete = true;
  }

  get sha256(): string {
    this.#sha256 ??= this.#hash === null ? EMPTY_SHA256 : this.#hash.digest("hex");
    return this.#sha256;
  }

  /** Digests of the whole parts of a multipart body. */
  get multipart(): readonly string[] | null {
    return this.#multipart === null ? null : this.#multipart.parts;
  }

  /** What was kept, or null when nothing was asked for. */
  get captured(): RecordedBody | null {
    if (this.#keep === 0) return null;
    const whole = this.complete && this.#keptBytes === this.bytes;
    return { base64: Buffer.concat(this.#kept ?? []).toString("base64"), whole };
  }

  #copy(chunk: Uint8Array): void {
    const part = Buffer.from(chunk.subarray(0, this.#keep - this.#keptBytes));
    this.#kept ??= [];
    this.#kept.push(part);
    this.#keptBytes += part.length;
  }
}
