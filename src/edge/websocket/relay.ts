// Relays a WebSocket between its two ends, message by message: limits, filters, digests, pings, closings (RFC 6455).
// A connection that ends without a close frame never looks as if it had ended in order: the other end gets none either.
import type { Exchange } from "../../exchange/exchange.ts";
import type { RawConnection } from "../../exchange/sides.ts";
import type { Turns } from "../../exchange/turns.ts";
import type { WebSocketAgreement } from "../../http/web-socket.ts";
import { asProxyError, ProxyError, type Reason } from "../../shared/errors.ts";
import type { Assembly } from "./assembly.ts";
import { Direction } from "./direction.ts";
import { Inbox, type Steps } from "./inbox.ts";
import { Peer, type PeerEvents } from "./peer.ts";
import type { Times } from "./times.ts";

/** The part of the house's timer wheel that is needed here. Milliseconds. */
export interface Wheel {
  readonly now: number;
  start(owner: { expire(): void }, ms: number): { at: number; stop(): void };
}

export interface RelayEnd {
  readonly sent: Direction;
  readonly received: Direction;
  /** Why it ended, when it was not by close frames. */
  readonly reason: Reason | null;
  readonly detail: string | null;
  /** The close codes that were seen, for the record. */
  readonly notes: readonly string[];
}

export interface RelayOptions {
  readonly wheel: Wheel;
  readonly exchange: Exchange;
  readonly agreement: WebSocketAgreement;
  readonly assembly: Assembly;
  readonly turns: Turns;
  readonly client: RawConnection;
  readonly origin: RawConnection;
  /** The id of the record, which a refusal names. */
  readonly id: string;
  /** Milliseconds. */
  readonly idle: number;
  readonly total: number;
  readonly times: Times;
  /** Once: nothing passes any more. */
  done(end: RelayEnd): void;
  /** Once, later: both connections are gone. */
  gone(): void;
}

const CHECK = 1_000;
const TOO_LONG = "longer than the rule's total time";

type Name = "client" | "origin";

export class WebSocketRelay {
  private readonly options: RelayOptions;
  private readonly sent: Direction;
  private readonly received: Direction;
  private readonly client: Peer;
  private readonly origin: Peer;
  private readonly inboxes: { readonly [name in Name]: Inbox };
  private readonly deadline: { at: number; stop(): void };
  private readonly began: number;
  private readonly notes: string[] = [];
  private active: number;
  /** Since when one side owes the answer to the close frame of the other. */
  private owed = 0;
  private over = false;
  /** How it ended, until that is told. */
  private end: Pick<RelayEnd, "reason" | "detail"> | null = null;

  constructor(options: RelayOptions) {
    const { exchange, wheel } = options;
    this.options = options;
    this.sent = new Direction(exchange, "request");
    this.received = new Direction(exchange, "response");
    this.inboxes = { client: this.inbox("client"), origin: this.inbox("origin") };
    this.client = this.peer("client", this.sent);
    this.origin = this.peer("origin", this.received);
    this.began = this.active = wheel.now;
    this.deadline = wheel.start(this, CHECK);
  }

  /** Begins to read. */
  start(): void {
    this.client.start();
    this.origin.start();
  }

  private peer(name: Name, direction: Direction): Peer {
    const { options } = this;
    return new Peer({
      raw: options[name],
      client: name === "client",
      deflate: options.agreement.deflate,
      times: options.times,
      maxPayload: Math.max(1, direction.limit),
      assembly: options.assembly,
      events: this.eventsOf(name, direction),
    });
  }

  /** What comes from an end waits there while a message before it is searched. */
  private inbox(name: Name): Inbox {
    return new Inbox(this.options.turns, {
      full: () => this.of(name).hold(),
      empty: () => this.letGoOn(name),
      holds: (bytes) => this.of(name).keeps(bytes),
      failed: (error) => this.refuse(asProxyError(error)),
    });
  }

  private eventsOf(name: Name, direction: Direction): PeerEvents {
    const inbox = this.inboxes[name];
    const soon = (act: () => void): void => {
      if (!this.over) inbox.addShort(0, act);
    };
    const message = (data: Buffer, binary: boolean): void => {
      const pass = (passed: Buffer): void => {
        inbox.passing();
        this.pass(name, (to) => to.send(passed, binary));
      };
      const steps = (): Steps => direction.take(data, pass);
      if (this.over) return;
      if (direction.isShort(data)) inbox.addShort(data.length, () => steps().next());
      else inbox.add(data.length, steps);
    };
    return {
      message,
      ping: (data) => soon(() => this.control(name, direction, data, (to) => to.ping(data))),
      pong: (data) => soon(() => this.control(name, direction, data, (to) => to.pong(data))),
      closeFrame: (code, reason) => soon(() => this.closeFrame(name, direction, code, reason)),
      invalid: (code, detail) => soon(() => this.invalid(name, direction, code, detail)),
      tooMuch: (what) => this.tooMuch(new ProxyError("busy", `${what} fill the memory`)),
      ended: () => soon(() => this.ended(name, direction)),
      active: () => {
        this.active = this.options.wheel.now;
      },
      flushed: () => this.settle(),
      drained: () => this.letGoOn(this.nameOfOther(name)),
      gone: () => {
        // It had said its last word; now it does not even wait for the answer.
        soon(() => {
          if (direction.isComplete) this.ended(name, direction);
        });
        this.settle();
        if (this.client.isClosed && this.origin.isClosed) this.options.gone();
      },
    };
  }

  /** Lets an end give out more, once its messages were dealt with and the other end has room. */
  private letGoOn(name: Name): void {
    if (!this.inboxes[name].busy && !this.other(name).full) this.of(name).release();
  }

  private of(name: Name): Peer {
    return name === "client" ? this.client : this.origin;
  }
  private other(name: Name): Peer {
    return name === "client" ? this.origin : this.client;
  }

  private pass(from: Name, write: (to: Peer) => void): void {
    const to = this.other(from);
    write(to);
    if (to.full) this.of(from).hold();
  }

  private control(from: Name, direction: Direction, data: Buffer, write: (to: Peer) => void): void {
    direction.control(data);
    this.pass(from, write);
  }

  // ---- endings ----------------------------------------------------------------------------------------------------------

  /** The close frame is passed on; when both sides have sent theirs, the connection has ended in order. */
  private closeFrame(name: Name, direction: Direction, code: number, reason: Buffer): void {
    direction.control(reason);
    this.notes.push(`close:${name}:${code}`);
    direction.complete();
    this.owed = this.options.wheel.now;
    this.other(name).close(code, reason);
    if (this.sent.isComplete && this.received.isComplete) this.finish(null, null);
  }

  /** What cannot be read ends the connection for both (RFC 6455 section 7.1.7). */
  private invalid(name: Name, direction: Direction, code: number, detail: string): void {
    if (code === 1009) return this.refuse(direction.tooLarge());
    const reason = name === "client" ? "malformed-request" : "origin-protocol";
    this.refuse(new ProxyError(reason, `WebSocket: ${detail}`), code);
  }

  /** A connection ended. Without a close frame before it, that is a break. */
  private ended(name: Name, direction: Direction): void {
    const other = name === "client" ? this.received : this.sent;
    // It has said its last word, and may still read the answer.
    if (direction.isComplete && !this.of(name).isClosed) return;
    if (direction.isComplete || other.isComplete) {
      this.notes.push(`close-unanswered:${direction.isComplete ? this.nameOfOther(name) : name}`);
      return this.finish(null, null);
    }
    this.finish(name === "client" ? "client-gone" : "origin-incomplete", "the connection ended without a close frame");
  }
  private nameOfOther(name: Name): Name {
    return name === "client" ? "origin" : "client";
  }

  /** Tells both ends why, with a close frame, and ends. */
  private refuse(error: ProxyError, code = closeCodeFor(error.reason)): void {
    if (this.over) return;
    const text = `Sallyport: ${error.reason}; id=${this.options.id}`;
    this.notes.push(`close:proxy:${code}`);
    this.client.close(code, text);
    this.origin.close(code, text);
    this.finish(error.reason, error.message);
  }

  private finish(reason: Reason | null, detail: string | null): void {
    if (this.over) return;
    this.over = true;
    this.end = { reason, detail };
    this.inboxes.client.clear();
    this.inboxes.origin.clear();
    this.client.end(reason === null && this.received.isComplete);
    this.origin.end(reason === null && this.sent.isComplete);
    this.settle();
  }

  /** Tells how it ended, once it is known whether what was said completely has left completely. */
  private settle(): void {
    const { end, sent, received, notes, client, origin } = this;
    if (end === null || (sent.isComplete && origin.isSending) || (received.isComplete && client.isSending)) return;
    this.end = null;
    this.deadline.stop();
    if (origin.lost) sent.cut();
    if (client.lost) received.cut();
    this.options.done({ sent, received, ...end, notes });
  }

  expire(): void {
    const { wheel, idle, total } = this.options;
    this.deadline.at = wheel.now + CHECK;
    const late = wheel.now - this.began > total ? new ProxyError("tunnel-limit", TOO_LONG) : null;
    if (this.over) return late === null ? undefined : this.hurry(late);
    // What leaves is no silence either, however slowly it is read.
    const moved = [this.client.moved(), this.origin.moved()];
    if (moved.includes(true)) this.active = wheel.now;
    // Who waits for us is not silent.
    if (this.inboxes.client.busy || this.inboxes.origin.busy) this.active = wheel.now;
    const silent = wheel.now - this.active;
    if (late !== null) return this.refuse(late);
    if (silent > idle) return this.refuse(new ProxyError("tunnel-limit", "idle for longer than the limit"), 1001);
    if (this.sent.isComplete !== this.received.isComplete) this.awaitAnswer(silent);
  }

  /** One side has said close. */
  private awaitAnswer(silent: number): void {
    const { wheel, times } = this.options;
    const owing = this.sent.isComplete ? "origin" : "client";
    const { isHeld, unsent } = this.of(owing);
    // What is not read cannot answer, nor can who has not got the close frame yet.
    if (isHeld || unsent > 0) this.owed = wheel.now;
    const patience = unsent > 0 ? times.unread : times.answer;
    if (silent <= patience && wheel.now - this.owed <= times.longestAnswer) return;
    this.notes.push(`close-unanswered:${owing}`);
    this.finish(null, "one side did not answer the close frame of the other");
  }

  /** It ended in order, and is read too slowly. */
  private hurry(error: ProxyError): void {
    if (this.end?.reason !== null) return;
    this.end = { reason: error.reason, detail: error.message };
    this.client.destroy();
    this.origin.destroy();
    this.settle();
  }
  private tooMuch(error: ProxyError): void {
    if (this.over) this.hurry(error);
    else this.refuse(error);
  }

  /** The house shuts down: both ends are told. */
  drain(): void {
    this.refuse(new ProxyError("shutting-down"));
  }
  destroy(): void {
    this.drain();
    this.client.destroy();
    this.origin.destroy();
    this.settle();
  }
}

/** RFC 6455 section 7.4.1. */
function closeCodeFor(reason: Reason): number {
  if (reason === "request-too-large" || reason === "response-too-large") return 1009;
  if (reason === "shutting-down") return 1001;
  if (reason === "busy") return 1013;
  return reason === "internal" ? 1011 : 1008;
}
