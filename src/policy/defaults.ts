// What holds when the file says nothing: figures in one place, quoted by the schema and by the compiler.
import type { Limits } from "./types.ts";

const KIB = 1024;

/** Bodies stream and are unlimited; a field section, a target and a silence are not. */
export const DEFAULT_LIMITS: Limits = Object.freeze({
  request: Number.POSITIVE_INFINITY,
  response: Number.POSITIVE_INFINITY,
  headers: 32 * KIB,
  url: 16 * KIB,
  idle: 60_000,
  total: Number.POSITIVE_INFINITY,
});

/** Bytes of a body that wait until it is decided; bytes of the tail that a longer one streams behind; bytes that are scanned. */
export const DEFAULT_HOLD = 64 * KIB;
export const DEFAULT_MAX_MATCH = 4 * KIB;
/** Scanning streams, so that size alone is no reason to look away. */
export const DEFAULT_SCAN_LIMIT = Number.POSITIVE_INFINITY;
