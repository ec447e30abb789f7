// Joins two raw connections: bytes pass unseen in both directions, counted and limited (RFC 9110 section 3.7, "tunnel").
// Used for blind tunnels and for what follows a 101.
import { createHash, type Hash } from "node:crypto";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { BodyRecord } from "../../audit/record.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Reason } from "../../shared/errors.ts";
import { unsentOf } from "../../shared/unsent.ts";
import { borrowReads } from "./borrowed-reads.ts";
import { breakOff, endedInOrder, isPlainTcp } from "./ending.ts";
import type { Deadline, TimerWheel } from "./timers.ts";
import { giveBackAfter, takeBuffer } from "./tunnel-buffers.ts";

/** While the house drains, silence of so many milliseconds is the end. */
const QUIET = 1_000;
/** A direction that has had so many bytes is worth a buffer of its own, from which nothing is copied. */
const MUCH = 262_144;

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
  /** What comes over plain TCP may be read past `read`; `guarded`: what the client sends not before `unguard`. */
  readonly unseen: "both" | "guarded" | "none";
  readonly done: (end: BlindEnd) => void;
}

/** One direction. */
class Way {
  readonly from: RawConnection;
  readonly to: RawConnection;
  /** Bytes that may pass, and the setting that says so. */
  readonly most: number;
  readonly limit: string;
  bytes = 0;
  ended = false;
  /** Chunks that come through `read` are borrowed. */
  private readonly borrowed: boolean;
  private readonly hash: Hash | null;
  /** What lies in its own buffer has not left yet: nothing may be read. */
  waiting = false;
  private readonly canOwn: boolean;
  /** Nobody else looks at what comes, and it has no buffer yet. */
  mayOwn: boolean;

  constructor(o: BlindOptions, out: boolean) {
    this.from = out ? o.client : o.origin;
    this.to = out ? o.origin : o.client;
    this.most = out ? o.limits.bytesOut : o.limits.bytesIn;
    this.limit = out ? "bytes-out" : "bytes-in";
    this.borrowed = !out;
    this.hash = o.digest ? createHash("sha256") : null;
    // HTTP/2 may keep what it was given for longer than it says.
    this.canOwn = isPlainTcp(this.from.socket) && this.to.socket instanceof Socket;
    this.mayOwn = o.unseen === "both" || (o.unseen === "guarded" && !out);
  }

  /** `own`: the chunk lies in the direction's own buffer. False: no more until `from` is resumed. */
  pass(chunk: Uint8Array, own: boolean): boolean {
    this.bytes += chunk.length;
    this.hash?.update(chunk);
    const { socket } = this.to;
    if (!own) return socket.write(this.borrowed ? Buffer.from(chunk) : chunk);
    // It is the only read buffer: nothing is read until the kernel has taken all of it.
    socket.write(chunk, this.taken);
    this.waiting = socket.writableLength > 0;
    return !this.waiting;
  }

  private readonly taken = (): void => {
    if (!this.waiting) return;
    this.waiting = false;
    if (!this.from.socket.destroyed) this.from.socket.resume();
  };

  /** A short tunnel, or one that is silent for days, has no buffer of its own. */
  get worthOwn(): boolean {
    return this.mayOwn && this.canOwn && this.bytes >= MUCH && this.from.socket.readableLength === 0;
  }

  /** From now on what comes is read into a buffer of its own. `take` returns false when it wants no more. */
  readOwn(take: (chunk: Uint8Array) => boolean): void {
    const { socket } = this.from;
    this.mayOwn = false;
    const buffer = takeBuffer();
    const read = (n: number, b: Buffer): boolean => take(n === b.length ? b : b.subarray(0, n));
    if (borrowReads(socket, read, buffer) !== null) giveBackAfter(buffer, [socket, this.to.socket]);
  }

  /** `broken`: what has not left by now never will. */
  record(broken: boolean): BodyRecord {
    const complete = this.ended && (!broken || this.to.socket.writableFinished);
    return { bytes: this.bytes, sha256: this.hash?.digest("hex") ?? "", complete };
  }
}

export class BlindRelay {
  private readonly options: BlindOptions;
  private readonly sent: Way;
  private readonly received: Way;
  private readonly deadline: Deadline;
  private readonly began: number;
  private active: number;
  private over = false;
  private draining = false;
  /** Both sides have ended, and so much still waited to be written to them when it was looked at last. -1: not yet. */
  private left = -1;

  constructor(options: BlindOptions) {
    this.options = options;
    this.sent = new Way(options, true);
    this.received = new Way(options, false);
    this.began = this.active = options.wheel.now;
    this.deadline = options.wheel.start(this, 1_000);
    this.watch(this.sent, "client-gone");
    this.watch(this.received, "origin-incomplete");
    // When the owner has its relay: `done` may follow at once.
    queueMicrotask(() => this.begin());
  }

  private begin(): void {
    const { client, origin } = this.options;
    if (client.socket.destroyed) return this.finish("client-gone", null);
    if (origin.socket.destroyed) return this.finish("origin-incomplete", null);
    for (const way of [this.sent, this.received]) if (way.from.rest.length > 0) this.pass(way, way.from.rest, false);
    if (this.over) return;
    for (const way of [this.sent, this.received]) way.from.read((chunk) => this.pass(way, chunk, false));
    // Its 'end' came before anybody here listened.
    for (const way of [this.sent, this.received]) if (way.from.socket.readableEnded) this.ended(way);
  }

  private watch(way: Way, broken: Reason): void {
    const { socket } = way.from;
    const other = way.to.socket;
    socket.on("end", () => this.ended(way));
    socket.on("error", () => this.finish(broken, "the connection broke"));
    socket.on("close", () => {
      if (this.left < 0) this.finish(way.ended ? null : broken, null);
      else if (!socket.writableFinished) this.finish(broken, "the connection closed before all was written");
      else this.flushed();
    });
    socket.on("drain", () => other.resume());
  }

  private ended(way: Way): void {
    endedInOrder(way.from.socket, () => {
      way.ended = true;
      const other = way.to.socket;
      if (this.sent.ended && this.received.ended) this.bothEnded();
      else if (!other.destroyed) other.end();
    });
  }

  /** What waits to be written still leaves, however slowly it is read: the limits hold until then. */
  private bothEnded(): void {
    if (this.over) return;
    const left = this.unsent();
    if (left === 0) return this.finish(null, null);
    this.left = left;
    this.active = this.options.wheel.now;
    const { client, origin } = this.options;
    for (const { socket } of [client, origin]) {
      socket.on("finish", () => this.flushed());
      if (!socket.writableEnded) socket.end();
    }
  }

  private flushed(): void {
    const { client, origin } = this.options;
    if (client.socket.writableFinished && origin.socket.writableFinished) this.finish(null, null);
  }

  private unsent(): number {
    const { client, origin } = this.options;
    return unsentOf(client.socket) + unsentOf(origin.socket);
  }

  private pass(way: Way, chunk: Uint8Array, own: boolean): boolean {
    if (this.over) return false;
    this.active = this.options.wheel.now;
    if (own && way.waiting) {
      // Somebody started a connection that has to wait: what lies in its buffer is no longer what was sent.
      this.finish("internal", "bytes were read too early");
      return false;
    }
    if (way.bytes + chunk.length > way.most) {
      this.finish("tunnel-limit", `more than the rule's ${way.limit}`);
      return false;
    }
    const room = way.pass(chunk, own);
    if (way.worthOwn) way.readOwn((next) => this.pass(way, next, true));
    return room;
  }

  expire(): void {
    const { wheel, limits } = this.options;
    this.deadline.at = wheel.now + 1_000;
    if (this.left >= 0) this.look();
    if (this.draining && wheel.now - this.active >= QUIET) this.finish("shutting-down", null);
    else if (wheel.now - this.began > limits.total) this.finish("tunnel-limit", "longer than the rule's total time");
    else if (wheel.now - this.active > limits.idle) this.finish("tunnel-limit", "idle for longer than the limit");
  }

  /** Nothing comes any more: what leaves is what happens. */
  private look(): void {
    const left = this.unsent();
    if (left !== this.left) this.active = this.options.wheel.now;
    this.left = left;
  }

  /** The house drains: what moves goes on until the drain time is over, what is silent ends. */
  drain(): void {
    this.draining = true;
  }
  destroy(): void {
    this.finish("shutting-down", null);
  }

  /** Nobody looks at what the client sends any more. */
  unguard(): void {
    this.sent.mayOwn = true;
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
      sent: this.sent.record(reason !== null),
      received: this.received.record(reason !== null),
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
