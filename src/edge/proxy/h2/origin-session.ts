// HTTP/2 with an origin: one session of one client (invariant 8), on which its exchanges are streams side by side.
import http2, { type ClientHttp2Session } from "node:http2";
import type { OpenRequest, OriginEvents } from "../../../exchange/sides.ts";
import { originText } from "../../../http/target.ts";
import { ProxyError } from "../../../shared/errors.ts";
import type { Route } from "../origin-route.ts";
import type { Deadline, TimerWheel } from "../timers.ts";
import { requestHeaders } from "./fields.ts";
import { type Again, H2OriginStream, type StreamHome } from "./origin-stream.ts";
import { clientOptions, MAX_STREAMS, MOST_UNSENT, SESSION_WINDOW, WITH_CONTENT, WITHOUT_CONTENT } from "./settings.ts";
import { letGoOfSession } from "./stream-events.ts";

/** Milliseconds: between looks; without streams before it is closed; of silence before a PING; for its answer. */
const POLL = 1_000;
const KEEP_IDLE = 30_000;
const PING_AFTER = 20_000;
const PING_WITHIN = 10_000;
/** Milliseconds within which a stream that we reset must be closed; a session on which it is not takes no more. */
const RESET_WITHIN = 1_000;
/** Milliseconds that an orderly end may take. */
const LINGER = 5_000;
/** ORIGIN frames and their entries (RFC 8336) that are borne on one session: node:http2 keeps each entry as long as it lasts. */
const MAX_ADVERTISED = 1_024;

export interface SessionOwner {
  readonly wheel: TimerWheel;
  tick(): number;
  sessionClosed(session: H2OriginSession): void;
}

export class H2OriginSession implements StreamHome {
  readonly key: string;
  readonly route: Route;
  failure: Error | null = null;
  reused = false;
  private readonly owner: SessionOwner;
  private readonly session: ClientHttp2Session;
  private readonly deadline: Deadline;
  /** What waits for the origin's settings, which say how many streams it bears; null: they are known. */
  private unsettled: ((alive: boolean) => void)[] | null = [];
  private streams = 0;
  /** Streams that we reset, and since when they have not closed: node:http2 says nothing of a session that broke. */
  private readonly resetting = new Map<H2OriginStream, number>();
  /** Bytes of requests that were reset before they were sent. */
  private unsent = 0;
  /** ORIGIN frames that came, and their entries. */
  private advertised = 0;
  private leaving = false;
  private gone = false;
  private idleSince: number;
  private heardAt: number;
  private pingedAt: number | null = null;

  /** `early`: what the origin sent before the session stood. */
  constructor(owner: SessionOwner, key: string, route: Route, request: OpenRequest, early: Buffer) {
    this.owner = owner;
    this.key = key;
    this.route = route;
    this.idleSince = this.heardAt = owner.wheel.now;
    const { socket } = route;
    if (early.length > 0) socket.unshift(early);
    this.session = http2.connect(originText(request.exchange.forward), {
      ...clientOptions(),
      createConnection: () => socket,
    });
    this.deadline = owner.wheel.start(this, POLL);
    this.listen();
  }

  private listen(): void {
    const { session } = this;
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(SESSION_WINDOW);
    });
    session.once("remoteSettings", () => this.settle(true));
    session.on("goaway", (code: number) => {
      this.leaving = true;
      if (code !== http2.constants.NGHTTP2_NO_ERROR)
        this.failure ??= new Error(`the origin closed the session (${code})`);
    });
    session.on("origin", (origins: string[]) => this.advertise(origins.length));
    session.on("error", (error: Error) => {
      this.failure ??= asFailure(error);
    });
    // Before the session ends its streams, so that they know why.
    this.route.socket.prependListener("error", (error: Error) => {
      this.failure ??= error;
    });
    // HTTP/2 has no half-open connections.
    // The session goes before its TLS: otherwise it may read what is no longer there, and the process ends.
    this.route.socket.on("end", () => {
      this.failure ??= new Error("the origin closed the connection");
      if (!session.destroyed) session.destroy(null as unknown as undefined, http2.constants.NGHTTP2_CANCEL);
      this.route.socket.destroy();
    });
    this.route.socket.prependListener("close", () => {
      this.failure ??= new Error("the origin closed the connection");
    });
    session.on("close", () => this.ended());
    // The session's own event may never come where the connection went while something was written to it.
    this.route.socket.on("close", () => setImmediate(() => this.ended()));
    session.on("stream", (pushed) => pushed.close(http2.constants.NGHTTP2_REFUSED_STREAM));
  }

  /** No use is made of them, no window holds them back, and nothing turns them off: too many end the session. */
  private advertise(entries: number): void {
    this.advertised += 1 + entries;
    if (this.advertised <= MAX_ADVERTISED || this.failure !== null) return;
    this.failure = new ProxyError("origin-protocol", "the origin sends ORIGIN frames without end");
    // Not while node:http2 reads.
    setImmediate(() => this.destroy());
  }

  /** False: the origin has not said yet how many streams it bears. */
  get settled(): boolean {
    return this.unsettled === null;
  }

  /** Calls back when the settings are known, or with false when they never will be. */
  whenSettled(then: (alive: boolean) => void): void {
    if (this.unsettled === null) then(this.usable);
    else this.unsettled.push(then);
  }

  private settle(alive: boolean): void {
    const waiting = this.unsettled ?? [];
    this.unsettled = null;
    for (const then of waiting) then(alive);
  }

  /** True: it takes requests. */
  get usable(): boolean {
    if (this.leaving || this.gone || this.failure !== null || this.resetsWaitFor(RESET_WITHIN)) return false;
    return !this.session.closed && !this.session.destroyed;
  }

  private resetsWaitFor(milliseconds: number): boolean {
    // The first is the oldest.
    for (const since of this.resetting.values()) return this.owner.wheel.now - since > milliseconds;
    return false;
  }

  /** True: one more stream would begin at once. */
  get hasRoom(): boolean {
    return this.streams < Math.min(this.session.remoteSettings?.maxConcurrentStreams ?? MAX_STREAMS, MAX_STREAMS);
  }

  get load(): number {
    return this.streams;
  }

  tick(): number {
    return this.owner.tick();
  }

  /** Begins a request. Throws when the session cannot take it. */
  start(request: OpenRequest, events: OriginEvents, again: (why: Again) => boolean): H2OriginStream {
    const options = request.length === 0 ? WITHOUT_CONTENT : WITH_CONTENT;
    const stream = this.session.request(requestHeaders(request), options);
    this.streams++;
    const side = new H2OriginStream(this, stream, request, events, again);
    this.reused = true;
    return side;
  }

  heard(): void {
    this.heardAt = this.owner.wheel.now;
  }

  streamReset(stream: H2OriginStream): void {
    this.resetting.set(stream, this.owner.wheel.now);
  }

  streamClosed(stream: H2OriginStream): void {
    this.streams--;
    this.resetting.delete(stream);
    this.heardAt = this.idleSince = this.owner.wheel.now;
    this.unsent += stream.unsent;
    if (this.unsent > MOST_UNSENT || (this.streams === 0 && this.leaving)) this.close();
  }

  expire(): void {
    const { now } = this.owner.wheel;
    this.deadline.at = now + POLL;
    if (this.streams === 0) {
      const idle = now - this.idleSince;
      if (idle > KEEP_IDLE + LINGER || (this.leaving && idle > LINGER)) this.destroy();
      else if (idle > KEEP_IDLE) this.close();
      return;
    }
    if (this.resetsWaitFor(PING_WITHIN))
      return this.die(new ProxyError("origin-incomplete", "nothing moves on the session with the origin"));
    if (this.pingedAt !== null) {
      if (now - this.pingedAt > PING_WITHIN) this.die(new ProxyError("origin-timeout", "the origin answers no PING"));
    } else if (now - this.heardAt > PING_AFTER) this.ping();
  }

  private ping(): void {
    if (this.session.destroyed || this.session.connecting) return;
    this.pingedAt = this.owner.wheel.now;
    this.session.ping((error) => {
      this.pingedAt = null;
      if (error === null) this.heard();
    });
  }

  private die(error: ProxyError): void {
    this.failure ??= error;
    this.destroy();
  }

  /** No new streams; it ends when the last one has. */
  close(): void {
    this.leaving = true;
    if (!this.session.destroyed && !this.session.closed) this.session.close();
  }

  destroy(): void {
    this.session.destroy();
    this.route.socket.destroy();
  }

  private ended(): void {
    if (this.gone) return;
    this.gone = true;
    this.deadline.stop();
    this.owner.sessionClosed(this);
    this.settle(false);
    setImmediate(letGoOfSession, this.session);
  }
}

function asFailure(error: Error): Error {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ERR_HTTP2_ERROR"
    ? new ProxyError("origin-protocol", "what the origin sends is not valid HTTP/2", { cause: error })
    : error;
}
