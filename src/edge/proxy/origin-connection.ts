// HTTP/1.1 towards an origin server: one exchange at a time on a connection that may be used again after a byte-exact end.
// Every socket reads into one shared buffer (`onread`): what is in it is borrowed, and gone when the callback returns.
import type net from "node:net";
import type { Duplex } from "node:stream";
import type { OpenRequest, OriginEvents, OriginSide } from "../../exchange/sides.ts";
import { ChunkedReader } from "../../http/chunked.ts";
import type { Fields } from "../../http/fields.ts";
import { idleTimeOf } from "../../http/keep-alive.ts";
import type { ResponseHead } from "../../http/messages.ts";
import { Head, parseResponseHead } from "../../http/parse-head.ts";
import { lastChunk, PHRASES } from "../../http/serialise.ts";
import { ProxyError } from "../../shared/errors.ts";
import type { ConnectionOwner } from "./connection-owner.ts";
import { endedInOrder } from "./ending.ts";
import { NextReader } from "./next-reader.ts";
import type { Opening } from "./origin-opening.ts";
import type { Route } from "./origin-route.ts";
import { Outgoing } from "./outgoing.ts";
import { writeRequestHead } from "./request-head.ts";
import type { Deadline } from "./timers.ts";

/** Bytes of a response head; of informational responses for one request. */
const MAX_HEAD = 131_072;
const MAX_INTERIM = 16;

export class OriginConnection implements OriginSide {
  readonly key: string;
  /** How requests are written: null for an origin; the next proxy's Proxy-Authorization ("" for none) for absolute-form. */
  readonly absolute: string | null;
  private readonly absoluteHost: string | null;
  /** The route it was opened on; the pool's. */
  facts: Route | null = null;
  socket!: Duplex;
  private out!: Outgoing;
  private readonly owner: ConnectionOwner;
  private request: OpenRequest | null = null;
  private events: OriginEvents | null = null;
  private deadline: Deadline | null = null;
  // the request
  private requestEnded = false;
  private requestChunked = false;
  private sentAt = 0;
  // the response
  private head: Head | null = null;
  private held: Buffer | null = null;
  private left = 0;
  private chunked: ChunkedReader | null = null;
  private toEnd = false;
  private interims = 0;
  private keep = false;
  private spoiled = false;
  private paused = false;
  private gone = false;
  private anyByte = false;
  /** The connection was given up while the head of its request still waited here. */
  private waited = false;
  /** Served an exchange before this one. */
  reused = false;
  idleSince = 0;
  /** Milliseconds that it may stay idle (the origin's Keep-Alive field can shorten it). */
  keepIdle = 30_000;
  /** The pool's, of the time when it was opened. */
  generation = 0;
  /** What it was taken from the pool for; the pool's. */
  opening: Opening | null = null;

  constructor(owner: ConnectionOwner, key: string, absolute: string | null, absoluteHost: string | null) {
    this.owner = owner;
    this.key = key;
    this.absolute = absolute;
    this.absoluteHost = absoluteHost;
  }

  /** The socket, connected (and its TLS verified), whose reads go to `read` or `readOwned`. */
  attach(socket: Duplex): void {
    this.socket = socket;
    this.out = new Outgoing(socket, this);
    socket.on("end", () => this.ended());
    socket.on("error", (error: Error) => this.broke(error));
    socket.on("close", () => this.closed());
  }

  get usable(): boolean {
    return !this.gone && !this.spoiled && this.events === null && !this.socket.destroyed;
  }

  // ---- the request ----------------------------------------------------------------------------------------------------

  /** Sends the head of a request; content follows through `data` and `end`. */
  start(request: OpenRequest, events: OriginEvents): void {
    this.request = request;
    this.events = events;
    this.requestEnded = request.length === 0;
    this.requestChunked = request.length === null;
    this.head = null;
    this.interims = 0;
    this.anyByte = false;
    this.sentAt = this.owner.tick();
    writeRequestHead(this.out, request, this.absolute, this.absoluteHost);
    // Usually at the end of the turn, with those of all connections: whoever reads them is woken once for many.
    if (request.expectContinue) this.out.flush();
    else this.out.arm();
    if (this.paused) this.resumeResponse();
  }

  data(chunk: Uint8Array): boolean {
    if (this.gone) return true;
    return this.requestChunked ? this.out.chunk(chunk) : this.out.bytes(chunk, 0, chunk.length);
  }

  end(trailers: Fields | null): void {
    this.requestEnded = true;
    if (this.gone) return;
    if (this.requestChunked) this.out.text(lastChunk(trailers));
    this.out.flush();
  }

  outgoingDrained(): void {
    try {
      this.events?.originDrained();
    } catch (error) {
      this.broke(error as Error);
    }
  }

  abort(): void {
    this.events = null;
    this.request = null;
    this.socket?.destroy();
  }

  // ---- the response ---------------------------------------------------------------------------------------------------

  /** A read into the shared buffer. False: stop reading. */
  read(n: number, shared: Buffer): boolean {
    if (this.next !== null) return this.next.read(shared.subarray(0, n));
    try {
      this.receive(shared, n);
    } catch (error) {
      this.broke(error as Error);
    }
    return !this.paused;
  }

  /** A read from a stream (behind a next proxy). */
  readOwned(b: Buffer): void {
    if (!this.read(b.length, b)) this.socket.pause();
  }

  /** A request is under way, and has begun to leave: without content it is not yet while its head waits. */
  private get asked(): boolean {
    return this.events !== null && !(this.request?.length === 0 && this.out.waits);
  }

  private receive(b: Buffer, end: number): void {
    if (!this.asked) {
      this.spoiled = true; // bytes that nobody asked for
      this.waited = true;
      this.socket.destroy();
      return;
    }
    this.anyByte = true;
    let i = 0;
    if (this.held !== null) {
      // A head that trickles in is parsed again only when another line of it is complete.
      const lineEnded = b.subarray(0, end).includes(10);
      b = Buffer.concat([this.held, b.subarray(0, end)]);
      end = b.length;
      if (!lineEnded && end <= MAX_HEAD) {
        this.held = b;
        return;
      }
      this.held = null;
    }
    while (this.head === null) {
      const head = new Head();
      const result = parseResponseHead(b, i, end, head, MAX_HEAD);
      if (result === 0) {
        this.held = Buffer.from(b.subarray(i, end));
        return;
      }
      if (result < 0) return this.fail(new ProxyError("origin-protocol", "the origin's response head is not valid"));
      i = result;
      if (head.status === 101) return this.switched(head, b, i, end);
      if (head.status < 200) {
        if (!this.interim(head)) return;
        if (i === end) return;
        continue;
      }
      this.openBody(head);
      if (this.events === null || this.head === null) {
        if (i < end) this.spoiled = true;
        return;
      }
    }
    if (i < end) this.body(b, i, end);
  }

  private interim(head: Head): boolean {
    if (head.chunked || head.length > 0 || ++this.interims > MAX_INTERIM) {
      this.fail(new ProxyError("origin-protocol", "too many or malformed informational responses"));
      return false;
    }
    const { events, request } = this;
    if (request !== null) request.exchange.originProtocol = head.minor === 0 ? "1.0" : "1.1";
    events?.responseInterim(head.status, head.phrase, head.fields);
    return this.events !== null;
  }

  private openBody(head: Head): void {
    const events = this.events as OriginEvents;
    const x = (this.request as OpenRequest).exchange;
    x.timings.firstByte = this.owner.tick() - this.sentAt;
    x.originProtocol = head.minor === 0 ? "1.0" : "1.1";
    if (this.absolute !== null && head.status === 407)
      return this.fail(new ProxyError("next-proxy-refused", "the next proxy wants other credentials"));
    const none = x.forward.method === "HEAD" || head.status === 204 || head.status === 304;
    this.chunked = !none && head.chunked ? new ChunkedReader() : null;
    this.left = none || head.chunked ? 0 : Math.max(0, head.length);
    this.toEnd = !none && !head.chunked && head.length < 0;
    this.keep = !head.close && (head.minor === 1 || head.keepAlive) && !this.toEnd;
    this.keepIdle = idleTimeOf(head.fields);
    this.head = head;
    const length =
      none || (this.left === 0 && !this.chunked && !this.toEnd) ? 0 : this.chunked || this.toEnd ? null : head.length;
    const response: ResponseHead = {
      status: head.status,
      phrase: head.phrase || (PHRASES[head.status] ?? ""),
      fields: head.fields,
    };
    events.responseHead(response, length);
    if (this.events !== null && length === 0) this.finished(null);
  }

  private body(b: Buffer, i: number, end: number): void {
    const events = this.events as OriginEvents;
    if (this.chunked !== null) {
      const chunked = this.chunked;
      const next = chunked.read(b, i, end, (bytes, from, to) => {
        if (this.events !== null && !this.events.responseData(bytes.subarray(from, to), false)) this.paused = true;
      });
      if (this.events === null) return;
      if (next < 0) return this.fail(new ProxyError("origin-protocol", "the chunked coding of the response is broken"));
      if (!chunked.done) return;
      if (next < end) this.spoiled = true;
      if (chunked.dropped > 0) (this.request as OpenRequest).exchange.note("response-trailers-dropped");
      return this.finished(chunked.trailers);
    }
    const to = this.toEnd ? end : Math.min(end, i + this.left);
    if (to < end) this.spoiled = true;
    this.left -= to - i;
    const last = !this.toEnd && this.left === 0;
    if (!events.responseData(i === 0 && to === b.length ? b : b.subarray(i, to), last)) this.paused = true;
    if (this.events !== null && last) this.finished(null);
  }

  /** The response is complete to the byte. */
  private finished(trailers: Fields | null): void {
    const events = this.events as OriginEvents;
    const again = this.keep && !this.spoiled && this.requestEnded && !this.gone && !this.toEnd && this.sent;
    this.events = null;
    this.request = null;
    this.head = null;
    this.chunked = null;
    this.opening = null;
    if (!again) this.spoiled = true;
    events.responseEnd(trailers);
    if (again) {
      this.reused = true;
      if (this.paused) this.resumeResponse();
      this.owner.idle(this);
    } else this.socket.destroy();
  }

  /**
   * The request has left. Of one without content the answer says so: TLS tells of the end of a write a turn later than it leaves, which
   * may be later than the answer.
   */
  private get sent(): boolean {
    return this.out.idle || (this.request?.length === 0 && !this.out.waits);
  }

  private switched(head: Head, b: Buffer, i: number, end: number): void {
    const request = this.request as OpenRequest;
    if (request.upgrade === null)
      return this.fail(new ProxyError("origin-protocol", "the origin switched protocols unasked"));
    const events = this.events as OriginEvents;
    const x = request.exchange;
    x.timings.firstByte = this.owner.tick() - this.sentAt;
    x.originProtocol = "1.1";
    this.events = null;
    this.request = null;
    this.spoiled = true;
    this.gone = true;
    this.deadline?.stop();
    this.paused = true; // until somebody reads what comes next
    this.next = new NextReader();
    const socket = this.socket;
    socket.removeAllListeners("end");
    socket.removeAllListeners("close");
    socket.removeAllListeners("error");
    socket.on("error", () => socket.destroy());
    this.owner.closed(this);
    events.responseUpgrade(
      { status: 101, phrase: head.phrase || "Switching Protocols", fields: head.fields },
      { socket, rest: Buffer.from(b.subarray(i, end)), read: (take) => this.handOver(take) },
    );
  }

  private handOver(take: (chunk: Uint8Array) => boolean): void {
    if (this.next?.handOver(take) !== true) return;
    this.paused = false;
    this.socket.resume();
  }
  /** Set after a 101: reads go there. */
  private next: NextReader | null = null;

  pauseResponse(): void {
    this.paused = true;
    this.socket.pause();
  }

  resumeResponse(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  private ended(): void {
    const events = this.events;
    if (events !== null && this.head !== null && this.toEnd) {
      this.spoiled = true;
      return endedInOrder(this.socket, () => {
        if (this.events === events) this.finished(null);
      });
    }
    this.closed();
    this.socket.destroy();
  }

  private broke(error: Error): void {
    if (this.events !== null) this.die(this.owner.failed(this, error));
    this.socket.destroy();
  }

  private closed(): void {
    if (this.gone) return;
    this.gone = true;
    this.deadline?.stop();
    this.owner.closed(this);
    if (this.events !== null)
      this.die(
        new ProxyError(
          "origin-incomplete",
          this.head === null
            ? "the origin closed the connection without a response"
            : "the response of the origin broke off",
        ),
      );
  }

  private fail(error: ProxyError): void {
    this.spoiled = true;
    this.die(error);
    this.socket.destroy();
  }

  private die(error: ProxyError): void {
    const events = this.events;
    const asked = this.asked && !this.waited;
    this.events = null;
    this.request = null;
    if (events === null) return;
    if (this.reused && !this.anyByte && this.owner.stale(this, asked)) return;
    events.originFailed(error);
  }

  // ---- idling in the pool -----------------------------------------------------------------------------------------------

  startIdle(): void {
    const { wheel } = this.owner;
    this.idleSince = wheel.now;
    // One deadline for its whole life, which is moved: one for each exchange would lie on the wheel for half a minute.
    if (this.deadline === null) this.deadline = wheel.start(this, this.keepIdle);
    else this.deadline.at = wheel.now + this.keepIdle;
  }
  expire(): void {
    const { deadline } = this;
    // It passed during an exchange, which moves it when it ends.
    if (this.events !== null && deadline !== null) deadline.at = this.owner.wheel.now + this.keepIdle;
    else this.socket.destroy();
  }
  destroy(): void {
    (this.socket as net.Socket | undefined)?.destroy();
  }
}
