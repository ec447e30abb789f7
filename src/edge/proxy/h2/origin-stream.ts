// One request on an HTTP/2 session with an origin: its exchange's origin side. The end of a response counts only when
// END_STREAM came; a reset, with whatever code, is a broken response.
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";
import type { OpenRequest, OriginEvents, OriginSide } from "../../../exchange/sides.ts";
import { type Fields, firstValue } from "../../../http/fields.ts";
import { PHRASES } from "../../../http/serialise.ts";
import { asProxyError, ProxyError } from "../../../shared/errors.ts";
import { codeName } from "./error-codes.ts";
import { plainHeaders, readSection, readTrailers } from "./fields.ts";
import { holdsTheRest, Remainder } from "./remainder.ts";
import { bind, type Guarded, isWhole, letGo, listener, watchEnd } from "./stream-events.ts";

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM, NGHTTP2_HTTP_1_1_REQUIRED } = constants;
/** Informational responses for one request. */
const MAX_INTERIM = 16;

/**
 * Why a request may be sent once more. `refused`: the origin says that it did not process it; `stale`: the session went
 * before any answer; `http1`: the origin wants HTTP/1.1 for it (RFC 9113 section 7).
 */
export type Again = "refused" | "stale" | "http1";

export interface StreamHome {
  /** Monotonic milliseconds. */
  tick(): number;
  /** We reset it; `streamClosed` follows when the reset has left. */
  streamReset(stream: H2OriginStream): void;
  streamClosed(stream: H2OriginStream): void;
  /** The origin wants no more HTTP/2: nothing new goes here. */
  close(): void;
  /** Something came from the origin. */
  heard(): void;
  /** The session had served a request before this one. */
  readonly reused: boolean;
  /** Why the session ended, or null. */
  readonly failure: Error | null;
}

export class H2OriginStream implements OriginSide, Guarded {
  private readonly home: StreamHome;
  private readonly stream: ClientHttp2Stream;
  private readonly request: OpenRequest;
  private readonly again: (why: Again) => boolean;
  private readonly reused: boolean;
  private readonly sentAt: number;
  private events: OriginEvents | null;
  private requestEnded: boolean;
  /** Bytes of the request that were written, and not sent when the stream was reset. */
  unsent = 0;
  private toSend: Fields | null = null;
  private headSeen = false;
  private interims = 0;
  /** Content-Length of the response, or null. */
  private length: number | null = null;
  private received = 0;
  private trailers: Fields | null = null;
  /** The session is gone, and this is still to be read. */
  private remainder: Remainder | null = null;

  constructor(
    home: StreamHome,
    stream: ClientHttp2Stream,
    request: OpenRequest,
    events: OriginEvents,
    again: (why: Again) => boolean,
  ) {
    this.home = home;
    this.stream = stream;
    this.request = request;
    this.events = events;
    this.again = again;
    this.reused = home.reused;
    this.requestEnded = request.length === 0;
    this.sentAt = home.tick();
    bind(stream, this);
    watchEnd(stream);
    this.listen();
  }

  private listen(): void {
    const { stream } = this;
    stream.on("headers", H2OriginStream.onInterim);
    stream.on("response", H2OriginStream.onResponse);
    stream.on("trailers", H2OriginStream.onTrailers);
    stream.on("end", H2OriginStream.onEnd);
    stream.on("close", H2OriginStream.onClose);
    if (this.requestEnded) return;
    stream.on("drain", H2OriginStream.onDrain);
    stream.on("wantTrailers", H2OriginStream.onWantTrailers);
  }

  private static readonly onInterim = listener((side: H2OriginStream, headers, _flags, raw) =>
    side.interim(statusOf(headers), (raw as string[] | undefined) ?? []),
  );
  private static readonly onResponse = listener((side: H2OriginStream, headers, flags, raw) =>
    side.head(statusOf(headers), flags as number, (raw as string[] | undefined) ?? []),
  );
  private static readonly onTrailers = listener((side: H2OriginStream, _headers, _flags, raw) =>
    side.takeTrailers((raw as string[] | undefined) ?? []),
  );
  private static readonly onData = listener((side: H2OriginStream, chunk) => side.content(chunk as Buffer));
  private static readonly onEnd = listener((side: H2OriginStream) => side.ended());
  private static readonly onClose = listener((side: H2OriginStream) => side.closed());
  private static readonly onDrain = listener((side: H2OriginStream) => side.events?.originDrained());
  private static readonly onWantTrailers = listener((side: H2OriginStream) =>
    side.stream.sendTrailers(plainHeaders(side.toSend ?? [])),
  );

  threw(error: unknown): void {
    const { events } = this;
    this.abort();
    events?.originFailed(asProxyError(error));
  }

  // ---- the request ----------------------------------------------------------------------------------------------------

  data(chunk: Uint8Array): boolean {
    const { stream } = this;
    if (stream.destroyed || stream.closed || stream.writableEnded) return true;
    return stream.write(Buffer.from(chunk));
  }

  end(trailers: Fields | null): void {
    this.requestEnded = true;
    this.toSend = trailers;
    if (!this.stream.destroyed && !this.stream.writableEnded) this.stream.end();
  }

  abort(): void {
    this.events = null;
    this.remainder?.drop();
    this.giveUp();
  }

  /** Ends what is left of the stream. Of one that is closed already, node:http2 would wait until all of it was read and written. */
  private giveUp(): void {
    const { stream } = this;
    if (stream.destroyed) return;
    this.unsent = stream.writableLength;
    if (stream.closed) stream.destroy();
    else {
      stream.close(NGHTTP2_CANCEL);
      this.home.streamReset(this);
    }
  }

  // ---- the response ---------------------------------------------------------------------------------------------------

  private interim(status: number, raw: readonly string[]): void {
    const { events } = this;
    if (events === null || !(status >= 100 && status < 200)) return;
    if (status === 101 || ++this.interims > MAX_INTERIM)
      return this.fail(new ProxyError("origin-protocol", "too many or malformed informational responses"));
    this.request.exchange.originProtocol = "2";
    events.responseInterim(status, "", readSection(raw).fields);
  }

  private head(status: number, flags: number, raw: readonly string[]): void {
    const { events, stream } = this;
    if (events === null) return;
    if (this.headSeen || !(status >= 200))
      return this.fail(new ProxyError("origin-protocol", "the origin's response head is not valid"));
    this.headSeen = true;
    this.home.heard();
    const x = this.request.exchange;
    x.timings.firstByte = this.home.tick() - this.sentAt;
    x.originProtocol = "2";
    const { fields } = readSection(raw);
    this.noteGrpc(fields);
    const ends = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    const none = ends || x.forward.method === "HEAD" || status === 204 || status === 304;
    const declared = firstValue(fields, "content-length");
    this.length = none ? 0 : declared === null ? null : Number(declared);
    events.responseHead({ status, phrase: PHRASES[status] ?? "", fields }, this.length, !ends);
    stream.on("data", H2OriginStream.onData);
  }

  private content(chunk: Buffer): void {
    if (this.events === null) return;
    this.home.heard();
    if (!this.handOn(chunk, this.events)) this.stream.pause();
  }

  private handOn(chunk: Buffer, events: OriginEvents): boolean {
    this.received += chunk.length;
    return events.responseData(chunk, this.received === this.length);
  }

  private takeTrailers(raw: readonly string[]): void {
    const { trailers, dropped } = readTrailers(raw);
    if (dropped > 0) this.request.exchange.note("response-trailers-dropped");
    if (trailers !== null) this.noteGrpc(trailers);
    this.trailers = trailers;
  }

  /** The outcome of a gRPC call stands in trailers, or in the head when there is nothing else. */
  private noteGrpc(fields: Fields): void {
    const status = firstValue(fields, "grpc-status");
    if (status !== null && /^\d{1,3}$/.test(status)) this.request.exchange.note(`grpc-status:${status}`);
  }

  private ended(): void {
    const { events, stream } = this;
    if (events === null) return;
    if (this.isComplete) {
      this.events = null;
      // The rest of the request is of no use, also where the origin never gives it room.
      if (!stream.writableFinished) this.giveUp();
      events.responseEnd(this.trailers);
    } else if (stream.closed) this.giveUp();
  }

  /**
   * RST_STREAM(NO_ERROR) in the place of END_STREAM ends a response of which every declared byte came: node:http2 servers
   * that do not read the request send it (RFC 9113 section 8.1). Without a length nothing says that it is whole.
   */
  private get isComplete(): boolean {
    return this.headSeen && (this.length === null ? isWhole(this.stream) : this.received === this.length);
  }

  pauseResponse(): void {
    if (this.remainder === null) this.stream.pause();
    else this.remainder.pause();
  }

  resumeResponse(): void {
    if (this.remainder !== null) this.remainder.resume();
    else if (this.headSeen && !this.stream.destroyed) this.stream.resume();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  private fail(error: ProxyError): void {
    const { events } = this;
    this.abort();
    events?.originFailed(error);
  }

  private closed(): void {
    letGo(this.stream);
    this.unsent = Math.max(this.unsent, this.stream.writableLength);
    this.home.streamClosed(this);
    if (this.stream.rstCode === NGHTTP2_HTTP_1_1_REQUIRED) this.home.close();
    const { events } = this;
    if (events !== null && this.headSeen && holdsTheRest(this.stream, this.missing)) return this.finishLate(events);
    this.events = null;
    if (events === null) return;
    const why = this.whyAgain();
    if (why !== null && this.again(why)) return;
    events.originFailed(this.failure());
  }

  /** Bytes of the response that its length says are still to come; null: it has none. */
  private get missing(): number | null {
    return this.length === null ? null : this.length - this.received;
  }

  /** The session went, and all of the response is here. */
  private finishLate(events: OriginEvents): void {
    this.remainder = new Remainder(
      this.stream,
      this,
      (piece) => this.handOn(piece, events),
      () => {
        this.events = null;
        events.responseEnd(this.trailers);
      },
    );
  }

  private whyAgain(): Again | null {
    if (this.headSeen || this.interims > 0) return null;
    const code = this.stream.rstCode;
    if (code === NGHTTP2_REFUSED_STREAM) return "refused";
    if (code === NGHTTP2_HTTP_1_1_REQUIRED) return "http1";
    return this.reused && this.home.failure !== null ? "stale" : null;
  }

  private failure(): ProxyError {
    const code = this.stream.rstCode ?? NGHTTP2_NO_ERROR;
    const { failure } = this.home;
    if (failure instanceof ProxyError) return failure;
    if (PROTOCOL.has(code))
      return new ProxyError("origin-protocol", `the response of the origin is not valid HTTP/2 (${codeName(code)})`);
    const what = this.headSeen
      ? "the response of the origin broke off"
      : "the origin ended the stream without a response";
    return new ProxyError(
      "origin-incomplete",
      `${what} (${codeName(code)})`,
      failure === null ? {} : { cause: failure },
    );
  }
}

const statusOf = (headers: unknown): number => Number((headers as IncomingHttpHeaders)[":status"]);

const PROTOCOL: ReadonlySet<number> = new Set([
  constants.NGHTTP2_PROTOCOL_ERROR,
  constants.NGHTTP2_COMPRESSION_ERROR,
  constants.NGHTTP2_FLOW_CONTROL_ERROR,
  constants.NGHTTP2_FRAME_SIZE_ERROR,
  constants.NGHTTP2_STREAM_CLOSED,
]);
