// TLS takes one write at a time, and node:http2 writes past the socket's own queue: a session that begins while our answer to
// CONNECT is still on its way would end the process (an assertion of Node's). So it begins afterwards.
import type { Duplex } from "node:stream";
import type { ProxyServices } from "../services.ts";
import type { Deadline } from "../timers.ts";

/** Milliseconds between looks at a connection that does not take the answer at once. */
const LOOK = 100;

/** Calls back once nothing that was written to `socket` waits; one that takes nothing within the header timeout is closed. */
export function whenSettled(services: ProxyServices, socket: Duplex, begin: () => void): void {
  if (socket.writableLength === 0) begin();
  else new Settling(services, socket, begin);
}

class Settling {
  private readonly services: ProxyServices;
  private readonly socket: Duplex;
  private readonly begin: () => void;
  private readonly deadline: Deadline;
  private readonly until: number;
  private over = false;

  constructor(services: ProxyServices, socket: Duplex, begin: () => void) {
    const { wheel, settings, open } = services;
    this.services = services;
    this.socket = socket;
    this.begin = begin;
    this.until = wheel.now + settings.headerTimeout;
    this.deadline = wheel.start(this, LOOK);
    open.add(this);
    // Nearly always the system has taken it, and only the event is missing.
    setImmediate(() => this.look());
  }

  private look(): void {
    if (this.over) return;
    if (this.socket.destroyed) return this.end();
    if (this.socket.writableLength > 0) return;
    this.end();
    this.start();
  }

  /** A bug costs one connection. */
  private start(): void {
    try {
      this.begin();
    } catch (error) {
      this.services.log.error({ err: error }, "an HTTP/2 session failed at its beginning");
      this.socket.destroy();
    }
  }

  private end(): void {
    this.over = true;
    this.deadline.stop();
    this.services.open.delete(this);
  }

  expire(): void {
    const { now } = this.services.wheel;
    this.deadline.at = now + LOOK;
    if (now > this.until) this.destroy();
    else this.look();
  }

  drain(): void {
    this.destroy();
  }
  destroy(): void {
    this.socket.destroy();
    this.end();
  }
}
