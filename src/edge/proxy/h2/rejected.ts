// How many streams node:http2 reset by itself while none was open. It has no event for them, and numbers do not tell: clients
// may leave some out. But each of them cost a RST_STREAM, and without an open stream all other frames that we write are known.
import type { Duplex } from "node:stream";

/** Bytes of frames: RST_STREAM and WINDOW_UPDATE alike; the answers to SETTINGS and to PING. */
const RST = 13;
const ACK = 9;
const PONG = 17;

export interface Written {
  /** Bytes that left, and frames that wait to leave. */
  readonly bytes: number;
  readonly queued: number;
}

export interface Known {
  /** Bytes of our own SETTINGS frame, with which one WINDOW_UPDATE goes; 0: they are not among what was written. */
  readonly settings: number;
  /** SETTINGS and PING frames that came, each of which was or will be answered. */
  readonly acks: number;
  readonly pongs: number;
}

/** The smallest number of RST_STREAM frames that explains what was written; null when nothing does. */
export function rejectedStreams({ bytes, queued }: Written, { settings, acks, pongs }: Known): number | null {
  const own = settings > 0 ? 1 : 0;
  const first = own === 1 && bytes > 0 ? 1 : 0;
  let best: number | null = null;
  for (let acked = 0; acked <= acks; acked++)
    for (let ponged = 0; ponged <= pongs; ponged++) {
      const rest = bytes - first * settings - acked * ACK - ponged * PONG;
      if (rest < 0 || rest % RST !== 0) continue;
      const left = queued - (own - first) - (acks - acked) - (pongs - ponged);
      const rejected = left + rest / RST - own;
      if (left >= 0 && rejected >= 0) best = Math.min(best ?? rejected, rejected);
    }
  return best;
}

/** Bytes that were written to a connection, over its whole life. */
export const bytesWritten = (socket: Duplex): number => (socket as { bytesWritten?: number }).bytesWritten ?? 0;
