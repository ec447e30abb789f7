// One request on an HTTP/2 session with an origin: its exchange's origin side. The end of a response counts only when
// END_STREAM came; a reset, with whatever code, is a broken response.
import { type ClientHttp2Stream, constants } from "node:http2";
import type { OpenRequest, OriginEvents, OriginSide } from "../../../exchange/sides.ts";
import { type Fields, firstValue } from "../../../http/fields.ts";
import { PHRASES } from "../../../http/serialise.ts";
import { asProxyError, ProxyError } from "../../../shared/errors.ts";
import { codeName } from "./error-codes.ts";
import { plainHeaders, readSection, readTrailers } from "./fields.ts";

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
  streamClosed(stream: H2OriginStream): void;
  /** Something came from the origin. */
  heard(): void;
  /** The session had served a request before this one. */
  readonly reused: boolean;
  /** Why the session ended, or null. */
  readonly failure: Error | null;
}

export class H2OriginStream implements OriginSide {
  private readonly home: StreamHome;
  private readonly stream: ClientHttp2Stream;
  private readonly request: OpenRequest;
  private readonly again: (why: Again) => boolean;
  private readonly reused: boolean;
  private readonly sentAt: number;
  private events: OriginEvents | null;
  private requestEnded: boolean;
  private toSend: Fields | null = null;
  private headSeen = false;
  private interims = 0;
  /** Content-Length of the response, or null. */
  private length: number | null = null;
  private received = 0;
  private trailers: Fields | null = null;
  private whole = false;

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
    this.watchEnd();
    this.listen();
  }

  /**
   * node:http2 ends the readable side for END_STREAM and for RST_STREAM(NO_ERROR) alike; only for the first the stream is
   * still open at that moment. Without this a response that was cut off would look complete.
   */
  private watchEnd(): void {
    const { stream } = this;
    const push = stream.push;
    stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      if (chunk === null && !stream.closed) this.whole = true;
      return push.call(stream, chunk, encoding);
    };
  }

  private listen(): void {
    const { stream } = this;
    stream.on("headers", (headers, _flags, raw?: string[]) =>
      this.guard(() => this.interim(Number(headers[":status"]), raw ?? [])),
    );
    stream.on("response", (headers, flags, raw?: string[]) =>
      this.guard(() => this.head(Number(headers[":status"]), flags, raw ?? [])),
    );
    stream.on("trailers", (_headers, _flags, raw?: string[]) => this.takeTrailers(raw ?? []));
    stream.on("end", () => this.guard(() => this.ended()));
    stream.on("drain", () => this.guard(() => this.events?.originDrained()));
    stream.on("wantTrailers", () => stream.sendTrailers(plainHeaders(this.toSend ?? [])));
    stream.on("error", () => {}); // `close` follows, and says it all
    stream.on("close", () => this.guard(() => this.closed()));
  }

  /** A bug costs one stream. */
  private guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      const { events } = this;
      this.abort();
      events?.originFailed(asProxyError(error));
    }
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
    if (!this.stream.closed) this.stream.close(NGHTTP2_CANCEL);
  }

  // ---- the response ---------------------------------------------------------------------------------------------------

  private interim(status: number, raw: readonly string[]): void {
    const { events } = this;
    if (events === null || !(status >= 100 && status < 200)) return;
    if (status === 101 || ++this.interims > MAX_INTERIM)
      return this.fail(new ProxyError("origin-protocol", "too many or malformed informational responses"));
    const { fields } = readSection(raw);
    const passed: Fields = [];
    for (let i = 0; i < fields.length; i += 2)
      if (fields[i] !== "alt-svc" && fields[i] !== "content-length")
        passed.push(fields[i] as string, fields[i + 1] as string);
    events.responseInterim(status, "", passed);
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
    events.responseHead({ status, phrase: PHRASES[status] ?? "", fields }, this.length);
    stream.on("data", (chunk: Buffer) => this.guard(() => this.content(chunk)));
  }

  private content(chunk: Buffer): void {
    const { events } = this;
    if (events === null) return;
    this.home.heard();
    this.received += chunk.length;
    if (!events.responseData(chunk, this.received === this.length)) this.stream.pause();
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
    if (events === null || !this.whole || !this.headSeen) return;
    if (this.length !== null && this.received !== this.length) return;
    this.events = null;
    // The answer is complete and the rest of the request is of no use.
    if (!this.requestEnded && !stream.closed) stream.close(NGHTTP2_NO_ERROR);
    events.responseEnd(this.trailers);
  }

  pauseResponse(): void {
    this.stream.pause();
  }

  resumeResponse(): void {
    if (this.headSeen && !this.stream.destroyed) this.stream.resume();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  private fail(error: ProxyError): void {
    const { events } = this;
    this.abort();
    events?.originFailed(error);
  }

  private closed(): void {
    this.home.streamClosed(this);
    const { events } = this;
    this.events = null;
    if (events === null) return;
    const why = this.whyAgain();
    if (why !== null && this.again(why)) return;
    events.originFailed(this.failure());
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

const PROTOCOL: ReadonlySet<number> = new Set([
  constants.NGHTTP2_PROTOCOL_ERROR,
  constants.NGHTTP2_COMPRESSION_ERROR,
  constants.NGHTTP2_FLOW_CONTROL_ERROR,
  constants.NGHTTP2_FRAME_SIZE_ERROR,
  constants.NGHTTP2_STREAM_CLOSED,
]);
