// What origin and load generator agree on: the contents that travel, made from a fixed key so that both know their digests.
import { createCipheriv, createHash } from "node:crypto";

export const SMALL_BYTES = 1024;
export const LARGE_BYTES = 64 * 1024 * 1024;

/** The same pseudo-random bytes in every process: no two blocks are alike, and nothing can compress them. */
export function payload(bytes: number): Buffer {
  return createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16, bytes & 0xff)).update(Buffer.alloc(bytes));
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Ports of the origin, by what they speak; `opaque` is the one that proxies are told not to look into. */
export interface OriginPorts {
  readonly plain: number;
  readonly tls: number;
  readonly opaque: number;
  readonly h2: number;
  readonly websocket: number;
}
