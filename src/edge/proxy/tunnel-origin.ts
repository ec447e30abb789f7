// The origin's end of a tunnel. What the server says before the client has waits here until somebody reads.
import type { Duplex } from "node:stream";
import type { RawConnection } from "../../exchange/sides.ts";
import { SHARED } from "./borrowed-reads.ts";
import type { OnRead } from "./dial.ts";
import type { Route } from "./origin-route.ts";

/** Made before the route is dialled, since the socket is told then how it will be read. */
export class TunnelOrigin implements RawConnection {
  readonly onread: OnRead;
  private route: Route | null = null;
  private take: ((chunk: Uint8Array) => boolean) | null = null;
  private early: Buffer = NO_BYTES;

  constructor() {
    this.onread = { buffer: SHARED, callback: (n, b) => this.came(b.subarray(0, n)) };
  }

  /** The route stands. Nothing else may be asked of this before. */
  opened(route: Route): void {
    this.route = route;
  }

  get socket(): Duplex {
    return (this.route as Route).socket;
  }

  get rest(): Buffer {
    const route = this.route as Route;
    return route.direct ? this.early : route.rest;
  }

  read(take: (chunk: Uint8Array) => boolean): void {
    const { socket, direct } = this.route as Route;
    this.take = take;
    if (!direct) socket.on("data", (b: Buffer) => take(b) || socket.pause());
    socket.resume();
  }

  private came(chunk: Uint8Array): boolean {
    if (this.take !== null) return this.take(chunk);
    this.early = Buffer.concat([this.early, chunk]);
    return false;
  }
}

const NO_BYTES = Buffer.alloc(0);
