// Ending a connection so that nobody can take what was sent for everything: a TCP reset and no FIN before it, since content
// that ends with the connection would look complete, in TLS too (many clients do not insist on close_notify).
import net from "node:net";
import type { Duplex } from "node:stream";

/**
 * Resets the TCP connection at once; what was not sent yet is lost. For a socket of node:net, not of node:tls. `spoken`: what is
 * spoken on it, where that is something else.
 */
export function resetConnection(socket: net.Socket, spoken: Duplex = socket): void {
  if (socket.destroyed) return;
  if (endsNow(spoken)) {
    socket.destroy();
    return;
  }
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
 * All that was written is with the system, and the FIN that was asked for is about to leave. At this moment the system's reset
 * is refused (EINVAL), and node:net forgets the connection without closing it: its descriptor would be lost for good.
 */
const endsNow = (socket: Duplex): boolean =>
  socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;

/**
 * The same for a connection with something spoken on it (TLS), which is ended a turn later: TLS that is destroyed inside one of
 * its own callbacks, after the connection under it, is freed while it is in use (Node 20: a segmentation fault).
 */
export function resetUnder(raw: Duplex, socket: Duplex): void {
  if (raw instanceof net.Socket) resetConnection(raw, socket);
  else raw.destroy(); // a stream of HTTP/2: RST_STREAM
  if (socket !== raw) setImmediate(() => socket.destroy());
}
