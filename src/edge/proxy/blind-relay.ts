// Joins two raw connections: bytes pass unseen in both directions, counted and limited (RFC 9110 section 3.7, "tunnel").
// Used for blind tunnels and for what follows a 101.
import { createHash, type Hash } from "node:crypto";
import type { Duplex } from "node:stream";
import type { BodyRecord } from "../../audit/record.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Reason } from "../../shared/errors.ts";
import { breakOff, endedInOrder, isPlainTcp } from "./ending.ts";
import type { Deadline, TimerWheel } from "./timers.ts";

/** While the house drains, silence of so many milliseconds is the end. */
const QUIET = 1_000;

export interface BlindLimits {
  readonly bytesOut: number;
  readonly bytesIn: number;
  /** Milliseconds. */
  readonly idle: number;
  readonly total: number;
}

export interface BlindEnd {
  readonly sent: BodyRecord;
  readonly received: BodyRecord;
  /** Why it ended, when it was not by both sides in order. */
  readonly reason: Reason | null;
  readonly detail: string | null;
}

export interface BlindOptions {
  readonly wheel: TimerWheel;
  readonly client: RawConnection;
  readonly origin: RawConnection;
  readonly limits: BlindLimits;
  /** True: digest both directions. A blind tunnel does not: its bytes are ciphertext. */
  readonly digest: boolean;
  /** True: the origin's chunks lie in a buffer of this connection's own, so that they need no copy. */
  readonly ownBuffer: boolean;
  readonly done: (end: BlindEnd) => void;
}

class Count {
  bytes = 0;
  ended = false;
  private readonly hash: Hash | null;
  constructor(digest: boolean) {
    this.hash = digest ? createHash("sha256") : null;
  }
  add(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    this.hash?.update(chunk);
  }
  record(complete: boolean): BodyRecord {
    return { bytes: this.bytes, sha256: this.hash?.digest("hex") ?? "", complete };
  }
}

export class BlindRelay {
  private readonly options: BlindOptions;
  private readonly sent: Count;
  private readonly received: Count;
  private readonly deadline: Deadline;
  private readonly began: number;
  private active: number;
  private over = false;
  private draining = false;

  constructor(options: BlindOptions) {
    this.options = options;
    this.sent = new Count(options.digest);
    this.received = new Count(options.digest);
    this.began = this.active = options.wheel.now;
    this.deadline = options.wheel.start(this, 1_000);
    const { client, origin } = options;
    this.watch(client.socket, this.sent, origin.socket, "client-gone");
    this.watch(origin.socket, this.received, client.socket, "origin-incomplete");
    // When the owner has its relay: `done` may follow at once.
    queueMicrotask(() => this.begin());
  }

  private begin(): void {
    const { client, origin } = this.options;
    if (client.socket.destroyed) return this.finish("client-gone", null);
    if (origin.socket.destroyed) return this.finish("origin-incomplete", null);
    if (client.rest.length > 0) this.toOrigin(client.rest);
    if (origin.rest.length > 0) this.toClient(origin.rest);
    if (this.over) return;
    client.read((chunk) => this.toOrigin(chunk));
    origin.read((chunk) => this.toClient(chunk));
  }

  private watch(socket: Duplex, count: Count, other: Duplex, broken: Reason): void {
    socket.on("end", () => {
      endedInOrder(socket, () => {
        count.ended = true;
        if (this.sent.ended && this.received.ended) this.finish(null, null);
        else if (!other.destroyed) other.end();
      });
    });
    socket.on("error", () => this.finish(broken, "the connection broke"));
    socket.on("close", () => {
      const orderly = count.ended || (this.sent.ended && this.received.ended);
      this.finish(orderly ? null : broken, null);
    });
    socket.on("drain", () => other.resume());
  }

  private toOrigin(chunk: Uint8Array): boolean {
    if (this.over) return false;
    this.active = this.options.wheel.now;
    const { limits, origin } = this.options;
    if (this.sent.bytes + chunk.length > limits.bytesOut) return this.limit("bytes-out");
    this.sent.add(chunk);
    return origin.socket.write(chunk);
  }

  private toClient(chunk: Uint8Array): boolean {
    if (this.over) return false;
    this.active = this.options.wheel.now;
    const { limits, client, ownBuffer } = this.options;
    if (this.received.bytes + chunk.length > limits.bytesIn) return this.limit("bytes-in");
    this.received.add(chunk);
    if (!ownBuffer) return client.socket.write(Buffer.from(chunk));
    // The chunk lies in the only read buffer: nothing is read until the kernel has taken all of it.
    client.socket.write(chunk, this.taken);
    this.waiting = client.socket.writableLength > 0;
    return !this.waiting;
  }
  private waiting = false;
  private readonly taken = (): void => {
    if (!this.waiting || this.over) return;
    this.waiting = false;
    this.options.origin.socket.resume();
  };

  private limit(which: string): false {
    this.finish("tunnel-limit", `more than the rule's ${which}`);
    return false;
  }

  expire(): void {
    const { wheel, limits } = this.options;
    this.deadline.at = wheel.now + 1_000;
    if (this.draining && wheel.now - this.active >= QUIET) this.finish("shutting-down", null);
    else if (wheel.now - this.began > limits.total) this.finish("tunnel-limit", "longer than the rule's total time");
    else if (wheel.now - this.active > limits.idle) this.finish("tunnel-limit", "idle for longer than the limit");
  }

  /** The house drains: what moves goes on until the drain time is over, what is silent ends. */
  drain(): void {
    this.draining = true;
  }
  destroy(): void {
    this.finish("shutting-down", null);
  }

  /** Something in it must not pass: both ends are broken off. */
  refuse(reason: Reason, detail: string): void {
    this.finish(reason, detail);
  }

  private finish(reason: Reason | null, detail: string | null): void {
    if (this.over) return;
    this.over = true;
    this.deadline.stop();
    const { client, origin, done } = this.options;
    this.part(client, this.sent.ended, reason !== null);
    this.part(origin, this.received.ended, reason !== null);
    done({
      sent: this.sent.record(this.sent.ended),
      received: this.received.record(this.received.ended),
      reason,
      detail,
    });
  }

  /** `ended`: this side has sent its FIN. */
  private part(side: RawConnection, ended: boolean, broken: boolean): void {
    const { socket } = side;
    if (broken) breakOff(side);
    else if (ended && isPlainTcp(socket) && socket.writableLength === 0) socket.destroy();
    // Ending twice makes an error that nobody sees, with its stack.
    else if (!socket.writableEnded) socket.end();
    if (!socket.destroyed) closeSoon(this.options.wheel, socket);
  }
}

/** Whoever does not close by itself is closed in a while; nothing is kept of a socket that has closed. */
function closeSoon(wheel: TimerWheel, socket: Duplex): void {
  const deadline = wheel.start({ expire: () => socket.destroy() }, 2_000);
  socket.once("close", () => deadline.stop());
}
