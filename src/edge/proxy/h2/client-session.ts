// HTTP/2 towards the client: one session over a decrypted (or clear-text) connection inside CONNECT, or over TLS to a proxy
// port; each stream is an exchange of its own or, on the port, a CONNECT. Bounds: streams, field sections, windows, time, and
// what a client may ask of us for nothing.
import http2, { type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import { connectionRecord } from "../../../audit/build.ts";
import { type ConnectContext, type ConnectionFacts, Exchange } from "../../../exchange/exchange.ts";
import { refusal } from "../../../exchange/refusal.ts";
import { Relay } from "../../../exchange/relay.ts";
import { firstValue } from "../../../http/fields.ts";
import type { Authority, RequestHead } from "../../../http/messages.ts";
import { asProxyError, ProxyError } from "../../../shared/errors.ts";
import { newId } from "../../../shared/ids.ts";
import { Connect } from "../connect.ts";
import type { ProxyPort, ProxyServices } from "../services.ts";
import type { Deadline } from "../timers.ts";
import { AbuseCounter, type Nuisance } from "./abuse.ts";
import { AnsweredStream } from "./answered-stream.ts";
import { H2ClientStream, type StreamOwner } from "./client-stream.ts";
import { ConnectStream } from "./connect-stream.ts";
import { readSection, type Section } from "./fields.ts";
import { closeIfGone } from "./probe.ts";
import { bytesWritten } from "./rejected.ts";
import { contentLength, readConnect, readProxyRequest, readRequest } from "./request.ts";
import { MOST_UNSENT, SESSION_WINDOW, serverOptions, settingsFrameLength } from "./settings.ts";
import { whenSettled } from "./settled.ts";
import { UnseenStreams } from "./unseen.ts";

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INTERNAL_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants;
/** Milliseconds between looks at the streams; and for what is left to leave after GOAWAY. */
const POLL = 1_000;
const LINGER = 2_000;
/** Streams that were never shown to us and get a record each; more in one go share one. */
const UNSEEN_RECORDS = 100;

/**
 * Takes over a connection whose client speaks HTTP/2 (ALPN, or prior knowledge in clear text). `raw`: the connection under its
 * TLS, or the same one. `port`: null inside CONNECT.
 */
export function openHttp2Session(
  services: ProxyServices,
  socket: Duplex,
  raw: Duplex,
  facts: ConnectionFacts,
  port: ProxyPort | null,
): void {
  if ((facts.connect === null) !== (port !== null))
    throw new Error("HTTP/2 is either inside CONNECT or on a proxy port");
  whenSettled(services, socket, () => {
    new H2ClientSession(services, socket, raw, facts, port);
  });
}

/** What has a stream of the session, until the stream is gone. */
interface Carried {
  /** The session's deadline came round at `now`. False: the client does not even take the end of the stream. */
  poll(now: number): boolean;
  /** Bytes that were written to the stream, and not sent when it was reset. */
  readonly unsent: number;
}

export class H2ClientSession implements StreamOwner {
  private readonly services: ProxyServices;
  private readonly facts: ConnectionFacts;
  /** Null on a proxy port. */
  private readonly connect: ConnectContext | null;
  private readonly port: ProxyPort | null;
  private readonly socket: Duplex;
  private readonly session: ServerHttp2Session;
  /** What `close` of the session is by itself: see `drain`. */
  private readonly closeSession: () => void;
  private readonly streams = new Set<Carried>();
  private readonly abuse = new AbuseCounter();
  /** The connection under `socket`. */
  private readonly raw: Duplex;
  private readonly deadline: Deadline;
  private readonly missing: UnseenStreams;
  /** Bytes that were written to streams which were reset before they were sent. */
  private unsent = 0;
  private idleSince: number;
  private served = false;
  private closing = false;
  private gone = false;

  constructor(services: ProxyServices, socket: Duplex, raw: Duplex, facts: ConnectionFacts, port: ProxyPort | null) {
    this.services = services;
    this.facts = facts;
    this.connect = facts.connect;
    this.port = port;
    this.socket = socket;
    this.raw = raw;
    this.idleSince = services.wheel.now;
    socket.prependListener("close", () => this.missing.lookForMissing(true));
    // HTTP/2 has no half-open connections.
    socket.on("end", () => this.hangUp());
    // Before the TLS on it hears of it: see hangUp.
    raw.prependListener("close", () => this.hangUp());
    const options = serverOptions(services.policy().defaults.limits);
    const written = bytesWritten(socket);
    this.session = http2.performServerHandshake(socket, options);
    this.closeSession = this.session.close.bind(this.session);
    // A GOAWAY of the client comes here as well.
    this.session.close = () => this.drain();
    this.missing = new UnseenStreams(this.session, socket, written, settingsFrameLength(options), (n) =>
      this.unseen(n),
    );
    // A TLSSocket that no tls.Server made never says that it is secure; here it is, and the session waits for the event.
    if (this.session.connecting) socket.emit("secureConnect");
    this.session.setLocalWindowSize(SESSION_WINDOW);
    this.deadline = services.wheel.start(this, POLL);
    services.open.add(this);
    this.listen();
  }

  private listen(): void {
    const { session, missing } = this;
    session.on("stream", (stream, _headers, flags, raw?: string[]) => this.opened(stream, flags, raw ?? []));
    session.on("ping", () => {
      missing.pongs++;
      this.bear("ping");
    });
    session.on("remoteSettings", () => {
      missing.acks++;
      setImmediate(() => missing.look());
      this.bear("settings");
    });
    session.on("localSettings", () => setImmediate(() => missing.look()));
    session.on("error", (error: NodeJS.ErrnoException) => this.failed(error));
    session.on("close", () => this.ended());
  }

  // ---- streams --------------------------------------------------------------------------------------------------------

  private opened(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    this.missing.shown(stream.id ?? 0);
    if (this.closing) return this.refuseLate(stream);
    this.served = true;
    try {
      this.begin(stream, (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0, raw);
    } catch (error) {
      this.broke(error);
      stream.on("error", () => {});
      stream.close(NGHTTP2_INTERNAL_ERROR);
    }
  }

  private begin(stream: ServerHttp2Stream, endsWithHead: boolean, raw: readonly string[]): void {
    const section = readSection(raw);
    const { connect } = this;
    if (this.port?.overLimit === true) return this.tooMany(stream, section);
    if (connect === null && section.pseudo.method === "CONNECT") return this.open(stream, section, endsWithHead);
    const length = contentLength(section, endsWithHead);
    const bounds = this.services.policy().defaults.limits;
    const { request, error } =
      connect === null
        ? readProxyRequest(section, bounds)
        : readRequest(section, connect.intercepted ? "https" : "http", connect, bounds);
    if (request === null || length === null)
      return this.refuseStream(
        stream,
        error ?? new ProxyError("malformed-request", "content-length is no length"),
        section,
      );
    this.exchange(stream, request, error, length);
  }

  /** It came while our GOAWAY was on its way, which says that it was not looked at. */
  private refuseLate(stream: ServerHttp2Stream): void {
    stream.on("error", () => {});
    // Not at once: see `drain`.
    setImmediate(() => stream.close(NGHTTP2_REFUSED_STREAM));
    if (this.gone) return;
    this.record(new ProxyError("shutting-down", "a new stream on an HTTP/2 session that is being closed"), null);
    this.bear("reset");
  }

  /** A CONNECT on a proxy port. */
  private open(stream: ServerHttp2Stream, section: Section, endsWithHead: boolean): void {
    const { services, facts, port } = this;
    let authority: Authority;
    try {
      authority = readConnect(section, services.policy().defaults.limits);
    } catch (error) {
      return this.refuseStream(stream, asProxyError(error), section);
    }
    if (port?.enter() === false) return this.tooMany(stream, section);
    const side = new ConnectStream(services, facts, stream, endsWithHead, (gone, answered) => {
      port?.leave();
      this.left(gone);
      // Once it is open a reset is how many clients end it.
      if (!answered && !this.gone) this.bear("reset");
    });
    this.streams.add(side);
    new Connect(side, authority, section.fields).start();
  }

  private exchange(stream: ServerHttp2Stream, request: RequestHead, error: ProxyError | null, length: number): void {
    const { services } = this;
    const now = services.clock.now();
    const x = new Exchange(newId(now), now, services.clock.tick(), this.facts, services.policy(), request, length);
    const side = new H2ClientStream(this, stream, length);
    const expect = firstValue(request.fields, "expect");
    const relay = new Relay(services, side, x, expect !== null && length !== 0);
    side.relay = relay;
    this.streams.add(side);
    let refused = error;
    if (refused === null && request.method === "TRACE") refused = new ProxyError("method-not-allowed");
    if (refused === null && expect !== null && expect.toLowerCase() !== "100-continue")
      refused = new ProxyError("expectation-failed");
    if (refused === null) return relay.start();
    x.principal = this.connect?.client ?? null;
    if (length === 0) x.requestComplete = true;
    relay.refuse(refused);
  }

  /** The client has too many connections, or CONNECTs that count as such. */
  private tooMany(stream: ServerHttp2Stream, section: Section): void {
    this.answerEarly(stream, new ProxyError("busy", "too many connections of this client"), section);
    if (this.port?.overLimit === true) this.drain();
  }

  /** Refuses what never became an exchange: nothing in it could be decided on. */
  private refuseStream(stream: ServerHttp2Stream, error: ProxyError, section: Section): void {
    // Counted first: whatever becomes of the answer.
    const enough = this.abuse.add("malformed", this.services.wheel.now);
    this.answerEarly(stream, error, section);
    if (enough) this.calm("malformed");
  }

  private answerEarly(stream: ServerHttp2Stream, error: ProxyError, section: Section): void {
    const { services } = this;
    const id = this.record(error, error.status);
    const facts = { id, accept: firstValue(section.fields, "accept"), rule: null, message: error.message };
    const local = refusal(error, facts, services.refusalOptions());
    const until = services.wheel.now + services.settings.idleTimeout;
    const answered = new AnsweredStream(stream, local, section.pseudo.method === "HEAD", until);
    this.streams.add(answered);
    stream.once("close", () => this.left(answered));
  }

  private left(side: Carried): void {
    this.streams.delete(side);
    if (this.streams.size === 0) {
      this.idleSince = this.services.wheel.now;
      setImmediate(settled, this);
    }
    this.unsent += side.unsent;
    if (this.unsent > MOST_UNSENT) this.drain();
  }

  /** The last stream has gone, and what it wrote has left unless the client is slow. */
  settled(): void {
    if (this.streams.size > 0 || this.gone) return;
    if (this.closing) this.endInOrder();
    else this.missing.settle();
  }

  closed(side: H2ClientStream, byClient: boolean): void {
    this.left(side);
    if (byClient && !this.gone) this.bear("reset");
    // Inside CONNECT nobody can answer a 407: it takes a new CONNECT.
    if (this.connect !== null && side.relay?.x.failure?.reason === "wrong-credential") this.drain();
  }

  broke(error: unknown): void {
    this.services.log.error({ err: error }, "an HTTP/2 stream failed inside the proxy");
  }

  /** So many streams were reset by node:http2 itself. */
  private unseen(count: number): void {
    const error = new ProxyError("malformed-request", "the head of an HTTP/2 stream is not valid, or came too early");
    if (count > UNSEEN_RECORDS) this.record(error, null, [`streams:${count}`]);
    else for (let i = 0; i < count; i++) this.record(error, null);
    for (let i = 0; i < Math.min(count, 1_000); i++) {
      if (!this.abuse.add("malformed", this.services.wheel.now)) continue;
      this.calm("malformed");
      return;
    }
  }

  // ---- bounds ---------------------------------------------------------------------------------------------------------

  private bear(kind: Nuisance): void {
    if (this.abuse.add(kind, this.services.wheel.now)) this.calm(kind);
  }

  /** Too much: GOAWAY and the end (RFC 9113 section 10.5). */
  private calm(kind: Nuisance): void {
    if (this.gone || this.session.destroyed) return;
    this.gone = true;
    this.record(new ProxyError("rate-limited", `HTTP/2 is misused by this client: too many of ${kind}`), null);
    this.session.goaway(NGHTTP2_ENHANCE_YOUR_CALM);
    // Whether or not it reads on, it is closed soon.
    this.closing = true;
    this.idleSince = this.services.wheel.now;
    setImmediate(() => this.session.destroy(undefined, NGHTTP2_ENHANCE_YOUR_CALM));
  }

  expire(): void {
    const { wheel, settings } = this.services;
    this.deadline.at = wheel.now + POLL;
    this.missing.lookForMissing(false);
    closeIfGone(this.raw);
    for (const stream of [...this.streams]) if (!stream.poll(wheel.now)) return this.destroy();
    if (this.streams.size > 0) return;
    this.missing.settle();
    // The client said goodbye (GOAWAY with an error), or was sent away: what is left is to close.
    if (this.session.destroyed) this.drain();
    const idle = wheel.now - this.idleSince;
    if (this.closing) {
      if (idle > LINGER) this.destroy();
      else this.endInOrder();
    } else if (idle > (this.served ? settings.idleTimeout : settings.headerTimeout)) this.drain();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  /**
   * GOAWAY; the streams that are open finish. `close` of the session would say it too, but would then reset what the client
   * opens meanwhile while its head is still being read: nghttp2 goes on in memory that is freed (Node 20), and the process ends
   * sooner or later.
   */
  drain(): void {
    if (this.closing) return;
    this.closing = true;
    this.idleSince = this.services.wheel.now;
    if (!this.session.destroyed) this.session.goaway();
    setImmediate(() => this.endInOrder());
  }

  /** Once nothing is open and GOAWAY has left, so that nghttp2 ignores what the client may still open. */
  private endInOrder(): void {
    const { session } = this;
    if (this.gone || session.destroyed || session.closed) return;
    if (this.streams.size === 0 && (session.state.outboundQueueSize ?? 0) === 0) this.closeSession();
  }

  destroy(): void {
    this.gone = true;
    this.session.destroy();
    this.socket.destroy();
    this.ended();
  }

  /**
   * The connection is over. The session goes first: where TLS goes while the session writes, and has still to read, node:http2
   * reads what is no longer there, and the process ends (an assertion of Node's).
   */
  private hangUp(): void {
    this.missing.lookForMissing(true);
    if (!this.session.destroyed) this.session.destroy(null as unknown as undefined, NGHTTP2_CANCEL);
    this.socket.destroy();
  }

  private failed(error: NodeJS.ErrnoException): void {
    if (this.gone || error.code === "ECONNRESET" || error.code === "EPIPE") return;
    this.record(new ProxyError("malformed-request", `HTTP/2 with the client failed: ${error.message}`), null);
  }

  private ended(): void {
    this.gone = true;
    this.deadline.stop();
    this.services.open.delete(this);
  }

  private record(error: ProxyError, status: number | null, notes: readonly string[] = []): string {
    const { services, facts, connect } = this;
    const now = services.clock.now();
    const id = newId(now);
    services.sink.append(
      connectionRecord({
        id,
        parent: connect?.record ?? null,
        at: now,
        client: connect?.client ?? facts.assignedClient,
        address: facts.clientAddress,
        decision: "deny",
        reason: error.reason,
        status,
        total: 0,
        clientProtocol: "2",
        sni: connect?.sni ?? null,
        authority: connect?.authority ?? null,
        notes,
        error: error.message,
      }),
    );
    return id;
  }
}

function settled(session: H2ClientSession): void {
  session.settled();
}
