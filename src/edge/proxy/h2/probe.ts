// Whether the TCP connection under a session still stands. node:http2 reads nothing while a write is under way, and
// node:tls forgets to say that a write failed when it was one of its own (session tickets): a client that leaves at that
// moment is never noticed. A write of no bytes asks the system, which answers with an error when the connection is gone.
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";

const NOTHING = Buffer.alloc(0);

export class Probe {
  private readonly raw: net.Socket | null;
  private asking = false;

  /** `socket`: what the session speaks on, TLS or plain. */
  constructor(socket: Duplex) {
    const under = socket instanceof tls.TLSSocket ? (socket as { _parent?: unknown })._parent : socket;
    this.raw = under instanceof net.Socket ? under : null;
  }

  /** Asks; a connection that is gone is closed, as by any other error on it. */
  ask(): void {
    const { raw } = this;
    if (raw === null || this.asking || raw.destroyed || !raw.writable) return;
    this.asking = true;
    raw.write(NOTHING, (error) => {
      this.asking = false;
      if (error) raw.destroy();
    });
  }
}
