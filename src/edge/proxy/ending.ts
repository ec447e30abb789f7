// Was it an end in order, or a reset? And how a raw connection is broken off so that its other end can tell.
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import type { RawConnection } from "../../exchange/sides.ts";
import { resetConnection } from "./reset.ts";

const NOTHING = Buffer.alloc(0);

/**
 * Call it in an 'end' handler: `then` follows when the other side really sent a FIN. Bytes and a reset that arrive together
 * are read as bytes and an end (libuv reports a hang-up after a short read as the end of the file); writing nothing to the
 * socket asks the system for the error that it keeps, which comes out as the 'error' event of the socket instead.
 */
export function endedInOrder(socket: Duplex, then: () => void): void {
  if (socket.destroyed || !socket.writable || socket.writableLength > 0) return then();
  socket.write(NOTHING, (error) => {
    if (error === null || error === undefined) then();
  });
}

/** Ends a raw connection as broken: a TCP reset where there is one to be had, never a FIN that could look like an end. */
export function breakOff(connection: Pick<RawConnection, "socket" | "reset">): void {
  const { socket } = connection;
  if (connection.reset !== undefined) connection.reset();
  else if (isPlainTcp(socket)) resetConnection(socket);
  else socket.destroy();
}

/** A TCP connection with nothing on it: what was written is with the system, and to close it sends the FIN. */
export const isPlainTcp = (socket: Duplex): socket is net.Socket =>
  socket instanceof net.Socket && !(socket instanceof tls.TLSSocket);
