// Ending a connection so that nobody can take what was sent for everything: a TCP reset and no FIN before it, since content
// that ends with the connection would look complete, in TLS too (many clients do not insist on close_notify).
import type net from "node:net";

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
