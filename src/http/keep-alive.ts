// How long a connection that nobody uses may be kept: the Keep-Alive field (RFC 2068 section 19.7.1.1; origins still send it).
import { type Fields, firstValue } from "./fields.ts";

/** Milliseconds without the field, and at most. */
const USUAL = 30_000;
/** The origin counts from when it sent: so much earlier we stop. */
const MARGIN = 1_000;

/** Milliseconds for which a connection may stay idle after a response with these fields. */
export function idleTimeOf(fields: Fields): number {
  const value = firstValue(fields, "keep-alive");
  const seconds = value === null ? null : /(?:^|[,\s])timeout=(\d{1,5})/i.exec(value);
  return seconds === null ? USUAL : Math.min(USUAL, Math.max(0, Number(seconds[1]) * 1000 - MARGIN));
}
