// The bytes inside a CONNECT that came on a stream of HTTP/2, as the Duplex that a TCP connection would be (RFC 9113 section
// 8.5): FIN is END_STREAM, a reset is RST_STREAM, and the stream's window follows what is read. The stream itself will not do:
// its end does not tell END_STREAM from RST_STREAM, and destroying it may look like an end.
import { constants, type ServerHttp2Stream } from "node:http2";
import { Duplex } from "node:stream";
import { codeName } from "./error-codes.ts";
import { bind, type Guarded, isWhole, letGo, listener, watchEnd } from "./stream-events.ts";

const { NGHTTP2_CONNECT_ERROR } = constants;
/** Bytes that may wait in here, in each direction; the window of the stream holds more. */
const WAITING = 65_536;

export class StreamBytes extends Duplex implements Guarded {
  /** How many were written to it. */
  bytesWritten = 0;
  /** END_STREAM has gone out, or waits for nothing but the connection. */
  endSent = false;
  /** The reset is ours, and waits to leave; otherwise what is closed was reset by the client, or ended in order. */
  resetByUs = false;
  /** Bytes that were handed to the stream, and not sent when it was reset. */
  unsent = 0;
  private readonly stream: ServerHttp2Stream;
  /** END_STREAM came with the head: there is nothing to read. */
  private readonly empty: boolean;
  private reading = false;
  /** The end in order was read. */
  private whole = false;
  private readonly streamGone: () => void;
  /** Everything was written and END_STREAM is asked for; tells the Duplex when it is sent. */
  private ending: ((error?: Error | null) => void) | null = null;

  /** `endsWithHead`: the head of the CONNECT ended the client's side. `closed`: the stream is gone. */
  constructor(stream: ServerHttp2Stream, endsWithHead: boolean, closed: () => void) {
    super({ allowHalfOpen: true, readableHighWaterMark: WAITING, writableHighWaterMark: WAITING });
    this.stream = stream;
    this.empty = endsWithHead;
    this.streamGone = closed;
    bind(stream, this);
    watchEnd(stream);
    stream.on("close", StreamBytes.onClose).on("wantTrailers", StreamBytes.onWantTrailers);
    // Whoever has it may not listen yet, or not any more; `close` says it all.
    this.on("error", () => {});
  }

  private static readonly onData = listener((side: StreamBytes, chunk) => {
    if (!side.push(chunk)) side.stream.pause();
  });
  private static readonly onEnd = listener((side: StreamBytes) => side.readEnded());
  private static readonly onClose = listener((side: StreamBytes) => side.streamClosed());
  private static readonly onWantTrailers = listener((side: StreamBytes) => side.sendEnd());

  threw(error: unknown): void {
    this.destroy(error as Error);
  }

  // ---- from the client --------------------------------------------------------------------------------------------------

  override _read(): void {
    const { stream } = this;
    if (this.reading) {
      stream.resume();
      return;
    }
    this.reading = true;
    stream.on("data", StreamBytes.onData).on("end", StreamBytes.onEnd);
    if (this.empty) this.readEnded();
  }

  private readEnded(): void {
    // Otherwise it was reset, and `close` follows.
    if (this.whole || !(this.empty || isWhole(this.stream))) return;
    this.whole = true;
    this.push(null);
  }

  // ---- to the client ----------------------------------------------------------------------------------------------------

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.send(Buffer.from(chunk), done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  /** `bytes`: a copy, since a stream that is reset says that it is done with them before HTTP/2 lets go of them. */
  private send(bytes: Buffer, done: (error?: Error | null) => void): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return done(this.wasReset());
    if (bytes.length === 0) return done();
    this.bytesWritten += bytes.length;
    stream.write(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return done(this.wasReset());
    this.ending = done;
    stream.end();
  }

  /** All content has left. Asked for also when the stream is closed before, and then it is no end. */
  private sendEnd(): void {
    const { stream, ending } = this;
    if (ending === null || stream.destroyed || stream.closed) return;
    this.ending = null;
    this.endSent = true;
    stream.sendTrailers({}); // nothing but END_STREAM: node:http2 makes an empty DATA frame of it
    ending();
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  /** END_STREAM came, and went out. */
  get inOrder(): boolean {
    return this.endSent && (this.empty || isWhole(this.stream));
  }

  /** RST_STREAM with this code. */
  reset(code: number): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    this.resetByUs = true;
    this.unsent = stream.writableLength;
    stream.close(code);
  }

  private streamClosed(): void {
    this.unsent = Math.max(this.unsent, this.stream.writableLength);
    letGo(this.stream);
    this.streamGone();
    // In order on both sides: what is still to be read is here, and the Duplex ends by itself.
    if (!this.endSent || !this.whole) this.destroy(this.wasReset());
  }

  private wasReset(): Error {
    return Object.assign(new Error(`the stream was reset (${codeName(this.stream.rstCode)})`), { code: "ECONNRESET" });
  }

  /** Breaks it off, so that it never looks complete, unless an end in order is under way. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (error !== null || (!this.endSent && this.ending === null)) this.reset(NGHTTP2_CONNECT_ERROR);
    done(error);
  }
}
