// HTTP/1.1 towards the client: reads requests off a connection (plain, or decrypted inside CONNECT), one exchange at a
// time, and writes their responses. No stream objects: bytes go from the read callback to the relay and out through slabs.
import { METHODS } from "node:http";
import type { Duplex } from "node:stream";
import { type ConnectionFacts, Exchange } from "../../exchange/exchange.ts";
import { Relay } from "../../exchange/relay.ts";
import type { ClientSide, RawConnection } from "../../exchange/sides.ts";
import type { LocalResponse } from "../../exchange/stage.ts";
import type { Fields } from "../../http/fields.ts";
import type { RequestHead, ResponseHead, Scheme } from "../../http/messages.ts";
import { Head, parseRequestHead, reasonOfCode } from "../../http/parse-head.ts";
import { fieldLines } from "../../http/serialise.ts";
import { authorityText, parseConnectTarget } from "../../http/target.ts";
import { asProxyError, ProxyError } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import { borrowReads } from "./borrowed-reads.ts";
import { Connect } from "./connect.ts";
import { CONNECT_AT_MOST, type ConnectSide } from "./connect-side.ts";
import { earlyRefusal, recordEarlyEnd } from "./early-refusal.ts";
import { Input } from "./input.ts";
import { Leaving } from "./leaving.ts";
import { RequestBody } from "./request-body.ts";
import { readTarget, upgradeOf } from "./request-target.ts";
import { resetUnder } from "./reset.ts";
import { ResponseWriter } from "./response-writer.ts";
import type { ProxyServices } from "./services.ts";
import type { Deadline } from "./timers.ts";

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);
/** What the client gets to read after we said that we close, before it is cut off; and for how long. */
const LINGER = 2_000;
const LINGER_BYTES = 1_048_576;
const MAX_PIPELINED = 65_536;
const ESTABLISHED = "HTTP/1.1 200 Connection Established\r\n\r\n";

type State = "head" | "body" | "wait" | "closing" | "gone" | "handed-over";

export class ClientConnection implements ClientSide, ConnectSide {
  version: "1.0" | "1.1" = "1.1";
  readonly facts: ConnectionFacts;
  readonly services: ProxyServices;
  readonly socket: Duplex;
  /** What is under it, for a reset: the TCP connection, or the stream that a CONNECT came on. */
  private readonly raw: Duplex;
  private readonly scheme: Scheme | null;
  private readonly writer: ResponseWriter;
  private readonly leaving: Leaving;
  private readonly input = new Input();
  private readonly deadline: Deadline;
  private state: State = "head";
  private relay: Relay | null = null;
  private keep = true;
  private length = 0;
  private body: RequestBody | null = null;
  private paused = false;
  /** The rest of the request is not wanted any more. */
  private stopped = false;
  /** A part of a head is here: from its first byte it has the header timeout to be whole. */
  private headBegun = true;
  private consuming = false;
  private halfClosed = false;
  private discarded = 0;
  private readonly overLimit: boolean;
  private readonly onPreface: (() => void) | null;
  private readonly giveBack: (() => void) | null;

  /**
   * `scheme`: set inside CONNECT (https when intercepted, http in clear text), null on the proxy port itself. `onPreface`: takes
   * the socket over when HTTP/2 begins on it after all; null where it must not.
   */
  constructor(
    services: ProxyServices,
    socket: Duplex,
    raw: Duplex,
    facts: ConnectionFacts,
    scheme: Scheme | null,
    overLimit = false,
    onPreface: (() => void) | null = null,
  ) {
    this.services = services;
    this.socket = socket;
    this.raw = raw;
    this.facts = facts;
    this.scheme = scheme;
    this.overLimit = overLimit;
    this.onPreface = onPreface;
    this.writer = new ResponseWriter(socket, this);
    this.leaving = new Leaving(this.writer.out);
    this.deadline = services.wheel.start(this, services.settings.headerTimeout);
    (socket as Owned)[OWNER] = this;
    this.giveBack = borrowReads(socket, (n, shared) => {
      this.receive(n, shared);
      return !this.paused; // whoever started it again since
    });
    socket.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
    services.open.add(this);
  }

  // ---- reading --------------------------------------------------------------------------------------------------------

  /** The first `n` bytes of `b` are the client's. They are gone when this returns. */
  receive(n: number, b: Buffer): void {
    if (this.state === "closing" || this.stopped) {
      // Enough: what is still to come waits in the client's own buffers while it reads our answer.
      this.discarded += n;
      if (this.discarded > LINGER_BYTES) this.pause();
      return;
    }
    this.input.append(b, n);
    try {
      this.consume();
    } catch (error) {
      this.broke(error);
    }
    this.input.own();
  }

  private consume(): void {
    if (this.consuming) return;
    this.consuming = true;
    try {
      while (this.input.length > 0 && this.step());
    } finally {
      this.consuming = false;
    }
    if (this.halfClosed) this.brokenOff();
    if (this.input.length > MAX_PIPELINED && (this.state === "wait" || this.state === "body")) this.pause();
  }

  /** One head or one piece of a body. False: nothing more can be done with what is here. */
  private step(): boolean {
    if (this.state === "head") return this.readHead();
    if (this.state === "body") return this.readBody();
    if (this.state === "closing") this.input.clear();
    return false;
  }

  private readHead(): boolean {
    const input = this.input;
    if (this.writer.out.full) {
      // Who does not read its answers gets no more of them, or they would have to be kept here.
      this.pause();
      return false;
    }
    const limits = this.services.policy().defaults.limits;
    if (!input.worthParsing(limits.headers)) return false;
    const head = new Head();
    const result = parseRequestHead(input.bytes, input.from, input.to, head, limits.headers, limits.url);
    if (result === 0) {
      input.wait();
      if (!this.headBegun) this.deadline.at = this.services.wheel.now + this.services.settings.headerTimeout;
      this.headBegun = true;
      return false;
    }
    this.headBegun = false;
    if (result < 0) {
      if (this.onPreface === null || !isPreface(input))
        this.refuseConnection(new ProxyError(reasonOfCode(result)), null);
      else this.handToHttp2(this.onPreface);
      return false;
    }
    input.advance(result);
    this.begin(head);
    return this.state !== "handed-over";
  }

  /**
   * ALPN agreed on HTTP/2, and this is how it begins. Until here it might have been HTTP/1.1 all the same: net/http of Go offers
   * what it speaks with origins, and then sends its CONNECT in HTTP/1.1.
   */
  private handToHttp2(take: () => void): void {
    const { socket } = this;
    const rest = this.input.take();
    this.detach();
    socket.on("error", () => socket.destroy());
    socket.pause();
    socket.unshift(rest);
    try {
      take();
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  private begin(head: Head): void {
    this.version = head.minor === 0 ? "1.0" : "1.1";
    this.keep = !head.close && (head.minor === 1 || head.keepAlive) && !this.services.draining();
    this.length = head.chunked ? -1 : Math.max(0, head.length);
    if (this.overLimit)
      return this.refuseConnection(new ProxyError("busy", "too many connections of this client"), head);
    if (!KNOWN_METHODS.has(head.method)) return this.refuseConnection(new ProxyError("not-implemented"), head);
    if (head.method === "CONNECT") return this.connect(head);
    const target = readTarget(head, this.scheme, this.facts.connect, "encrypted" in this.socket);
    if (target.error !== null && target.request === null) return this.refuseConnection(target.error, head);
    this.exchange(head, target.request as RequestHead, target.error, target.hostReplaced);
  }

  private connect(head: Head): void {
    if (this.facts.connect !== null)
      return this.refuseConnection(new ProxyError("method-not-allowed", "CONNECT inside CONNECT"), head);
    if (this.length !== 0)
      return this.refuseConnection(new ProxyError("malformed-request", "CONNECT with content"), head);
    const authority = parseConnectTarget(head.target);
    if (authority === null)
      return this.refuseConnection(new ProxyError("malformed-request", "CONNECT wants host:port"), head);
    this.state = "wait";
    this.deadline.at = this.services.wheel.now + CONNECT_AT_MOST;
    new Connect(this, authority, head.fields).start();
  }

  private exchange(head: Head, request: RequestHead, error: ProxyError | null, hostReplaced: string | null): void {
    const services = this.services;
    const now = services.clock.now();
    const x = new Exchange(newId(now), now, services.clock.tick(), this.facts, services.policy(), request, this.length);
    if (hostReplaced !== null) {
      x.hostText = authorityText(request, request.scheme);
      x.note("host-replaced");
    }
    if (head.minor === 0 && head.expect) head.expect = false;
    x.upgrade = upgradeOf(head);
    const relay = new Relay(services, this, x, head.expect && this.length !== 0);
    this.relay = relay;
    this.body = this.length === 0 ? null : new RequestBody(this.length);
    this.state = this.length === 0 ? "wait" : "body";
    this.deadline.at = services.wheel.now + POLL;
    let refused = error;
    if (refused === null && hostReplaced !== null && services.settings.strictHost) {
      refused = new ProxyError("malformed-request", "Host differs from the target");
    }
    if (refused === null && request.method === "TRACE") refused = new ProxyError("method-not-allowed");
    if (refused === null) relay.start();
    else {
      x.principal = this.facts.connect?.client ?? null;
      if (this.length === 0) x.requestComplete = true;
      relay.refuse(refused);
    }
  }

  private readBody(): boolean {
    const { relay, body } = this;
    if (relay === null || body === null || !relay.ready) {
      if (this.input.length >= MAX_PIPELINED) this.pause();
      return false;
    }
    const read = body.read(this.input, relay, () => this.relay === relay && this.state === "body");
    if (read === "over") return false;
    if (body.droppedTrailers) relay.x.note("request-trailers-dropped");
    if (read === "broken") {
      relay.requestFailed(new ProxyError("malformed-request", "the chunked coding is broken"));
      return false;
    }
    if (read === "ended") {
      this.state = "wait";
      this.body = null;
      relay.requestEnd(body.trailers);
    } else if (read === "full") this.pause();
    return true;
  }

  private pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.socket.pause();
  }

  private unpause(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  /** The client sent FIN: what it asked for before is still answered. */
  ended(): void {
    this.halfClosed = true;
    if (this.state === "closing") this.close();
    else this.brokenOff();
  }

  /** After the FIN: what is incomplete stays so. A body that waits in the input has not been looked at yet. */
  private brokenOff(): void {
    if (this.state === "head") {
      if (this.writer.out.full) return; // what is here has not been looked at yet either
      if (this.input.length > 0) this.recordConnection(new ProxyError("client-gone", "the request broke off"), null);
      this.close();
    } else if (this.state === "body" && this.input.length === 0)
      this.relay?.requestFailed(new ProxyError("client-gone", "the request content broke off"));
  }

  closed(): void {
    if (this.state === "handed-over") return;
    const { relay, state } = this;
    this.relay = null;
    this.state = "gone";
    this.release();
    if (relay !== null) relay.requestFailed(new ProxyError("client-gone"));
    else if (state === "head" && this.input.length > 0)
      this.recordConnection(new ProxyError("client-gone", "the request broke off"), null);
    this.input.clear();
    // V8 keeps what node:tls hangs on a connection until it marks its old generation: not with all of this, too.
    this.giveBack?.();
    (this.socket as Owned)[OWNER] = null;
  }

  private release(): void {
    this.deadline.stop();
    this.services.open.delete(this);
  }

  expire(): void {
    const wheel = this.services.wheel;
    if (this.relay !== null) {
      this.deadline.at = wheel.now + POLL;
      this.relay.poll();
    } else if (!this.writer.out.idle) {
      this.deadline.at = wheel.now + POLL;
      if (this.leaving.stuck(wheel.now, this.services.settings.idleTimeout)) this.destroy();
    } else if (this.state === "head" && this.input.length > 0)
      this.refuseConnection(new ProxyError("request-timeout"), null);
    else this.destroy();
  }

  // ---- the client's side of an exchange -----------------------------------------------------------------------------------

  interim(status: number, phrase: string, fields: Fields): void {
    if (this.state !== "gone") this.writer.interim(status, phrase, fields);
  }

  head(response: ResponseHead, length: number | null): void {
    const { status } = response;
    const headOnly = this.relay?.x.received.method === "HEAD";
    const framing = this.writer.framingFor(status, length, headOnly, this.version);
    if (framing === "none" && length === null) this.keep = false;
    // Inside CONNECT nobody can answer a 407: the credential is that of the CONNECT, and it takes a new one.
    if (status === 407 && this.facts.connect !== null) this.keep = false;
    // A request that is still coming may be cut short by the end of its response: nothing can follow it.
    if (this.state === "body" || (this.halfClosed && this.input.length === 0) || this.services.draining())
      this.keep = false;
    this.writer.head(response, framing, this.connectionLines(status), length !== 0 && framing !== "keep");
  }

  /** The fields that are about this connection (RFC 9110 section 7.6.1). */
  private connectionLines(status: number): string {
    if (status === 101) return `Connection: Upgrade\r\nUpgrade: ${this.relay?.switchedTo ?? ""}\r\n`;
    if (!this.keep) return "Connection: close\r\n";
    return this.version === "1.0" ? "Connection: keep-alive\r\n" : "";
  }

  data(chunk: Uint8Array, last: boolean): boolean {
    return this.writer.data(chunk, last);
  }

  end(trailers: Fields | null): void {
    if (this.state === "gone") return;
    this.writer.end(trailers);
    this.next();
  }

  /** The exchange is over: the next request, or the end. */
  private next(): void {
    this.relay = null;
    if (this.state !== "wait" || !this.keep) return this.close();
    this.state = "head";
    const { now } = this.services.wheel;
    this.leaving.begin(now);
    this.deadline.at = now + this.services.settings.idleTimeout;
    this.unpause();
    if (this.halfClosed && this.input.length === 0) return this.close();
    if (this.input.length > 0) this.consume();
  }

  abort(): void {
    this.relay = null;
    if (this.state === "gone") return;
    // The missing last chunk says that the content is not whole: what was let through before still leaves.
    if (this.writer.chunked && !this.socket.destroyed) return this.close();
    this.state = "gone";
    this.reset();
    this.release();
  }

  /** Content which ends with the connection must not look complete. */
  private reset(): void {
    resetUnder(this.raw, this.socket);
  }

  pauseRequest(): void {
    this.pause();
  }

  resumeRequest(): void {
    if (this.state === "gone" || this.state === "closing" || this.state === "handed-over") return;
    this.unpause();
    if (this.input.length > 0) this.consume();
  }

  stopRequest(): void {
    this.keep = false;
    if (this.state === "body") this.state = "wait";
    this.stopped = true;
    this.body = null;
    this.input.clear();
    this.unpause();
  }

  takeSocket(): RawConnection | null {
    if (this.state === "gone") return null;
    this.writer.out.flush();
    this.detach();
    this.relay = null;
    const socket = this.socket;
    socket.on("error", () => socket.destroy());
    const read = (take: (chunk: Uint8Array) => boolean): void => {
      socket.on("data", (b: Buffer) => {
        if (!take(b)) socket.pause();
      });
      socket.resume();
    };
    return { socket, rest: this.input.take(), read, reset: () => resetUnder(this.raw, socket) };
  }

  /** Gives up the socket to somebody else: a tunnel, an upgrade, TLS. */
  private detach(): void {
    this.state = "handed-over";
    this.paused = false;
    this.giveBack?.();
    this.socket.off("data", onData).off("end", onEnd).off("error", onError).off("close", onClose);
    (this.socket as Owned)[OWNER] = null;
    this.release();
  }

  outgoingDrained(): void {
    try {
      if (this.relay !== null) this.relay.clientDrained();
      else if (this.state === "head") {
        this.unpause();
        this.consume();
      }
    } catch (error) {
      this.broke(error);
    }
  }

  // ---- the side of a CONNECT ----------------------------------------------------------------------------------------------

  established(): { socket: Duplex; rest: Buffer } | null {
    const { socket } = this;
    if (socket.destroyed) return null;
    const rest = this.input.take();
    this.writer.out.flush(); // of answers before
    this.detach();
    socket.pause();
    socket.write(ESTABLISHED, "latin1");
    return { socket, rest };
  }

  /** The connection stays usable. The reason stands in the status line as well, since most clients drop the body. */
  answerConnect({ status, phrase, fields, content }: LocalResponse, reason: string): void {
    if (this.state === "gone") return;
    const keep = this.keep && !this.halfClosed && !this.services.draining();
    const line = `${phrase} ${reason}`.replace(/[^\x20-\x7e]/g, "?").slice(0, 300);
    const close = keep ? "" : "Connection: close\r\n";
    this.keep = keep;
    this.writer.whole(`HTTP/1.1 ${status} ${line}\r\n${fieldLines(fields, content.length, null)}${close}\r\n`, content);
    this.next();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  /** Refuses what never became an exchange: answers, records, and closes, since nothing after it can be framed. */
  private refuseConnection(error: ProxyError, head: Head | null): void {
    const id = this.recordConnection(error, head);
    this.keep = false;
    const answer = earlyRefusal(this.services, error, head, id);
    this.writer.whole(answer.head, answer.content);
    this.close();
  }

  private recordConnection(error: ProxyError, head: Head | null): string {
    return recordEarlyEnd(this.services, this.facts, error, head);
  }

  /** Everything written leaves, then FIN; what the client still sends is read and dropped for a while. */
  private close(): void {
    if (this.state === "gone") return;
    this.state = "closing";
    this.input.clear();
    const { wheel } = this.services;
    this.leaving.begin(wheel.now);
    this.deadline.at = wheel.now + LINGER;
    this.writer.out.end(() => {
      if (this.halfClosed) this.destroy();
      else this.deadline.at = wheel.now + LINGER;
    });
    this.unpause();
  }

  /** The house drains: after the present exchange, or now when there is none. */
  drain(): void {
    this.keep = false;
    if (this.state === "head") this.close();
  }

  destroy(): void {
    if (this.state === "handed-over") return;
    if (this.relay !== null || !this.writer.out.idle) this.reset();
    else this.socket.destroy();
    this.closed();
  }

  /** A bug costs one connection. */
  broke(error: unknown): void {
    this.services.log.error({ err: error }, "a connection failed inside the proxy");
    const relay = this.relay;
    if (relay !== null) relay.requestFailed(asProxyError(error));
    else this.destroy();
  }
}

/** How HTTP/2 begins (RFC 9113 section 3.4): no request of HTTP/1.x does. */
const isPreface = (input: Input): boolean =>
  input.bytes.toString("latin1", input.from, Math.min(input.to, input.from + PREFACE.length)) === PREFACE;
const PREFACE = "PRI * HTTP/2.0";

const POLL = 1_000;
const OWNER = Symbol("client connection");
interface Owned extends Duplex {
  [OWNER]?: ClientConnection | null;
}
// Shared by all connections: no closure each.
function onData(this: Owned, b: Buffer): void {
  this[OWNER]?.receive(b.length, b);
}
function onEnd(this: Owned): void {
  this[OWNER]?.ended();
}
function onError(this: Owned): void {
  this.destroy();
}
function onClose(this: Owned): void {
  this[OWNER]?.closed();
}
