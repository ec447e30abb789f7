// One HTTP/2 stream of a client: its exchange's client side. Content is read only as fast as it goes on, so that the
// window of the stream follows consumption; a response that breaks ends in RST_STREAM, never in END_STREAM.
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Relay } from "../../../exchange/relay.ts";
import type { ClientSide, RawConnection } from "../../../exchange/sides.ts";
import type { Fields } from "../../../http/fields.ts";
import type { ResponseHead } from "../../../http/messages.ts";
import { asProxyError, ProxyError } from "../../../shared/errors.ts";
import { codeName } from "./error-codes.ts";
import { plainHeaders, readTrailers, responseHeaders } from "./fields.ts";
import { bind, type Guarded, letGo, listener } from "./stream-events.ts";

const { NGHTTP2_INTERNAL_ERROR, NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = constants;

const RESET_CONTENT = 205;
const WITHOUT_CONTENT: ReadonlySet<number> = new Set([204, RESET_CONTENT, 304]);

/** What a stream tells its session. */
export interface StreamOwner {
  /** The stream is gone. `byClient`: the client reset it before its response was complete. */
  closed(stream: H2ClientStream, byClient: boolean): void;
  broke(error: unknown): void;
}

export class H2ClientStream implements ClientSide, Guarded {
  readonly version = "2";
  readonly stream: ServerHttp2Stream;
  relay: Relay | null = null;
  private readonly owner: StreamOwner;
  /** Content-Length of the request, -1 unknown. */
  private readonly length: number;
  private received = 0;
  private reading = false;
  /** Request content is thrown away: the response said it all. */
  private discarding = false;
  private requestEnded = false;
  /** With these bytes the declared length is reached: they wait for END_STREAM, since more would make the request invalid. */
  private tail: Buffer | null = null;
  private trailers: Fields | null = null;
  // the response
  private pending: { readonly response: ResponseHead; readonly length: number | null } | null = null;
  /** The end of the content, which waits for the record. */
  private last: Buffer | null = null;
  private over = false;
  private aborted = false;
  /** The reset is ours, and waits to leave; otherwise what is closed was reset by the client. */
  private resetByUs = false;
  /** Bytes of the response that were written, and not sent when the stream was reset. */
  unsent = 0;
  private toSend: Fields | null = null;
  /** It is listened for `drain`, which most streams never need. */
  private drains = false;
  /** What was left to send when the session last looked, and since when (its clock) it has been so much. */
  private left = -1;
  private leftSince = 0;

  constructor(owner: StreamOwner, stream: ServerHttp2Stream, length: number) {
    this.owner = owner;
    this.stream = stream;
    this.length = length;
    bind(stream, this);
    stream.on("close", H2ClientStream.onClose);
    // Trailers may come long before the content before them is read.
    if (length !== 0) stream.on("trailers", H2ClientStream.onTrailers);
    // Otherwise node:http2 sends RST_STREAM(NO_ERROR) after the response, which overtakes an END_STREAM that has to wait.
    else stream.pause();
  }

  private static readonly onClose = listener((side: H2ClientStream) => side.closed());
  private static readonly onTrailers = listener((side: H2ClientStream, _headers, _flags, raw) =>
    side.takeTrailers((raw as string[] | undefined) ?? []),
  );
  private static readonly onDrain = listener((side: H2ClientStream) => side.relay?.clientDrained());
  private static readonly onData = listener((side: H2ClientStream, chunk) => side.content(chunk as Buffer));
  private static readonly onEnd = listener((side: H2ClientStream) => side.contentEnded());
  private static readonly onWantTrailers = listener((side: H2ClientStream) => side.sendTrailers());

  threw(error: unknown): void {
    this.owner.broke(error);
    if (this.relay !== null && !this.over) this.relay.requestFailed(asProxyError(error));
    else this.stream.close(NGHTTP2_INTERNAL_ERROR);
  }

  // ---- the request's content ------------------------------------------------------------------------------------------

  private startReading(): void {
    this.reading = true;
    const { stream } = this;
    stream.on("data", H2ClientStream.onData);
    stream.on("end", H2ClientStream.onEnd);
    // Without content the end is there before anybody listens for it.
    if (stream.readableEnded) setImmediate(() => H2ClientStream.onEnd.call(stream));
  }

  private takeTrailers(raw: readonly string[]): void {
    const { trailers, dropped } = readTrailers(raw);
    if (dropped > 0) this.relay?.x.note("request-trailers-dropped");
    this.trailers = trailers;
  }

  private content(chunk: Buffer): void {
    const { relay } = this;
    if (this.discarding || relay === null) return;
    this.received += chunk.length;
    if (this.received === this.length) {
      this.tail = chunk;
      return;
    }
    if (!relay.requestData(chunk, false)) this.stream.pause();
  }

  private contentEnded(): void {
    const { relay, stream } = this;
    if (this.requestEnded || this.discarding || relay === null) return;
    // A reset ends the readable side as well; that is not the end of the content.
    if (stream.aborted || stream.rstCode !== NGHTTP2_NO_ERROR) return;
    if (this.length >= 0 && this.received !== this.length) return;
    const { tail } = this;
    this.tail = null;
    if (tail !== null) relay.requestData(tail, tail.length === this.length);
    this.requestEnded = true;
    relay.requestEnd(this.trailers);
  }

  pauseRequest(): void {
    this.stream.pause();
  }

  resumeRequest(): void {
    if (this.over || this.length === 0) return;
    if (!this.reading) this.startReading();
    else this.stream.resume();
  }

  stopRequest(): void {
    this.discarding = true;
    this.tail = null;
    this.stream.resume();
  }

  // ---- the response ---------------------------------------------------------------------------------------------------

  interim(status: number, _phrase: string, fields: Fields): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed || stream.headersSent || status === 101) return;
    stream.additionalHeaders({ ":status": status, ...plainHeaders(fields) });
  }

  head(response: ResponseHead, length: number | null): void {
    if (response.status > 599) {
      // RFC 9110 section 15: to be read as a 5xx; node:http2 cannot send it.
      this.relay?.x.note(`status-replaced:${response.status}`);
      response.status = 500;
    }
    this.pending = { response, length };
    // node:http2 ends it with its head, which so waits for the end.
    if (response.status === RESET_CONTENT) return;
    if (length === null) this.sendHead(false);
    else if (length > 0) setImmediate(sendSoon, this);
  }

  /** The turn is over and the content is not there yet: the head need not wait for it. */
  turnEnded(): void {
    if (this.pending !== null && this.last === null && !this.over) this.sendHead(false);
  }

  /**
   * `waitForTrailers`: END_STREAM waits until we ask for it. False only when all content is here: otherwise node:http2 would
   * send END_STREAM before RST_STREAM when the response is aborted.
   */
  private sendHead(endStream: boolean, waitForTrailers = true): void {
    const { pending, stream } = this;
    this.pending = null;
    if (pending === null || stream.destroyed || stream.closed) return;
    const { response, length } = pending;
    const bodiless = this.relay?.x.received.method === "HEAD" || WITHOUT_CONTENT.has(response.status);
    const options = {
      endStream: endStream || bodiless,
      waitForTrailers: waitForTrailers && !bodiless,
      sendDate: false,
    };
    if (options.waitForTrailers) stream.on("wantTrailers", H2ClientStream.onWantTrailers);
    stream.respond(responseHeaders(response, length, bodiless), options);
  }

  private sendTrailers(): void {
    const { stream } = this;
    if (this.over && !stream.destroyed && !stream.closed) stream.sendTrailers(plainHeaders(this.toSend ?? []));
  }

  data(chunk: Uint8Array, last: boolean): boolean {
    const { stream } = this;
    // A 205 has no content (RFC 9110 section 15.3.6), whatever the origin sends.
    if (stream.destroyed || stream.closed || this.pending?.response.status === RESET_CONTENT) return true;
    if (last) {
      this.last = Buffer.from(chunk);
      return true;
    }
    if (this.pending !== null) this.sendHead(false);
    const room = stream.write(Buffer.from(chunk));
    if (!room && !this.drains) {
      this.drains = true;
      stream.on("drain", H2ClientStream.onDrain);
    }
    return room;
  }

  end(trailers: Fields | null): void {
    const { stream, last } = this;
    this.over = true;
    this.toSend = trailers;
    this.last = null;
    if (stream.destroyed || stream.closed) return;
    // node:http2 keeps a stream until its content was read.
    if (!this.requestEnded && this.length !== 0) this.stopRequest();
    if (this.pending !== null) this.sendHead(last === null && trailers === null, trailers !== null);
    if (stream.writableEnded) return;
    if (last !== null) stream.end(last);
    else stream.end();
  }

  abort(): void {
    this.over = true;
    this.aborted = true;
    this.pending = null;
    this.last = null;
    const gone = this.relay?.x.failure?.reason === "client-gone";
    this.reset(gone ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
  }

  private reset(code: number): void {
    if (this.stream.closed) return;
    this.resetByUs = true;
    this.unsent = this.stream.writableLength;
    this.stream.close(code);
  }

  takeSocket(): RawConnection | null {
    return null;
  }

  /** The session's deadline came round at `now`. False: the client does not even take the end of the stream. */
  poll(now: number): boolean {
    const { stream, relay } = this;
    // After RST_STREAM(NO_ERROR) node:http2 would wait until everything was read and written.
    if (stream.closed && !this.resetByUs) {
      stream.destroy();
      return true;
    }
    if (!this.over) {
      relay?.poll();
      return true;
    }
    // The response is out, and the client goes on sending: no need to (RFC 9113 section 8.1). It is out when END_STREAM is,
    // which may wait behind another stream's content; RST_STREAM would overtake it.
    // Not before `writableFinished`: node:http2 keeps this one code back until then, and of a stream that is destroyed
    // meanwhile it writes empty DATA frames until memory is full (Node 20).
    if (stream.writableFinished && !stream.closed && stream.state.localClose === 1) this.reset(NGHTTP2_NO_ERROR);
    if (stream.writableLength !== this.left) {
      this.left = stream.writableLength;
      this.leftSince = now;
    }
    if (relay === null || now - this.leftSince <= idleLimit(relay)) return true;
    if (stream.closed) return false;
    this.leftSince = now;
    this.reset(NGHTTP2_CANCEL);
    return true;
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  private closed(): void {
    const { relay, stream } = this;
    const early = !this.over;
    this.unsent = Math.max(this.unsent, stream.writableLength);
    letGo(stream);
    this.over = true;
    this.pending = null;
    this.owner.closed(this, early || (!this.aborted && stream.rstCode === NGHTTP2_CANCEL));
    if (!early || relay === null) return;
    // Nothing more can be sent, so a refusal would have no status.
    relay.x.responseStarted = true;
    relay.requestFailed(this.whyClosed());
  }

  private whyClosed(): ProxyError {
    const { stream, received, length } = this;
    const lied = length >= 0 && !this.requestEnded && stream.rstCode === constants.NGHTTP2_PROTOCOL_ERROR;
    if (lied || (length >= 0 && received > length))
      return new ProxyError("malformed-request", "the content is not as long as content-length says");
    return new ProxyError("client-gone", `the stream was reset (${codeName(stream.rstCode)})`);
  }
}

const idleLimit = ({ x }: Relay): number => (x.decision?.plan ?? x.policy.defaults).limits.idle;

function sendSoon(stream: H2ClientStream): void {
  stream.turnEnded();
}
