// Ending a connection so that nobody can take what was sent for everything: a TCP reset and no FIN before it, since content
// that ends with the connection would look complete, in TLS too (many clients do not insist on close_notify).
import net from "node:net";
import type { Duplex } from "node:stream";

/** Resets the TCP connection at once; what was not sent yet is lost. For a socket of node:net, not of node:tls. */
export function resetConnection(socket: net.Socket): void {
  if (socket.destroyed) return;
  // `resetAndDestroy` goes through `destroySoon`, which would send a FIN first and let the reader see a clean end.
  socket.destroySoon = () => {
    socket.destroy();
  };
  try {
    socket.resetAndDestroy();
  } catch {
    socket.destroy(); // a handle that knows no reset
  }
}

/**
 * The same for a connection with something spoken on it (TLS), which is ended a turn later: TLS that is destroyed inside one of
 * its own callbacks, after the connection under it, is freed while it is in use (Node 20: a segmentation fault).
 */
export function resetUnder(raw: Duplex, socket: Duplex): void {
  if (raw instanceof net.Socket) resetConnection(raw);
  else raw.destroy(); // a stream of HTTP/2: RST_STREAM
  if (socket !== raw) setImmediate(() => socket.destroy());
}
