// Whether the TCP connection under a session still stands. node:http2 reads nothing while a write is under way, and
// node:tls forgets to say that a write failed when it was one of its own (session tickets): a client that leaves at that
// moment is never noticed. A write of no bytes asks the system, which answers with an error when the connection is gone.
import type net from "node:net";

const NOTHING = Buffer.alloc(0);

export class Probe {
  private readonly raw: net.Socket;
  private asking = false;

  /** `raw`: the TCP connection. */
  constructor(raw: net.Socket) {
    this.raw = raw;
  }

  /** Asks; a connection that is gone is closed, as by any other error on it. */
  ask(): void {
    const { raw } = this;
    if (this.asking || raw.destroyed || !raw.writable) return;
    this.asking = true;
    raw.write(NOTHING, (error) => {
      this.asking = false;
      if (error) raw.destroy();
    });
  }
}
