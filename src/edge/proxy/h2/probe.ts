// Whether the TCP connection under a session still stands. node:http2 reads nothing while a write is under way, and
// node:tls forgets to say that a write failed when it was one of its own (session tickets): a client that leaves at that
// moment is never noticed. The system knows: of a connection that is gone it no longer names the peer.
import type { Duplex } from "node:stream";

/**
 * Node keeps the first answer in `remoteAddress`, so the handle is asked. Nothing is written: TLS and HTTP/2 write to the
 * handle themselves, and take the end of a write that is not theirs for the end of their own.
 */
interface Handle {
  /** 0, or the system's error number. */
  getpeername?(address: object): number;
}

/** Closes the connection `raw` (TCP, or TLS to the proxy) when the system has closed it already; nothing else has a handle. */
export function closeIfGone(raw: Duplex): void {
  const handle = (raw as { readonly _handle?: Handle | null })._handle;
  if (handle?.getpeername === undefined || raw.destroyed) return;
  if (handle.getpeername({}) !== 0) raw.destroy();
}
