// A CONNECT that came on a stream of HTTP/2 (RFC 9113 section 8.5).
import { constants, type ServerHttp2Stream } from "node:http2";
import type { ConnectionFacts } from "../../../exchange/exchange.ts";
import type { LocalResponse } from "../../../exchange/stage.ts";
import { CONNECT_AT_MOST, type ConnectSide } from "../connect-side.ts";
import type { ProxyServices } from "../services.ts";
import { plainHeaders } from "./fields.ts";
import { StreamBytes } from "./stream-bytes.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CONNECT_ERROR } = constants;
/** `waitForTrailers`: otherwise node:http2 would send END_STREAM before the RST_STREAM of what breaks off. */
const OPTIONS = { waitForTrailers: true, sendDate: false };

export class ConnectStream implements ConnectSide {
  readonly version = "2";
  readonly services: ProxyServices;
  readonly facts: ConnectionFacts;
  readonly socket: StreamBytes;
  private readonly stream: ServerHttp2Stream;
  private readonly began: number;
  private opened = false;
  /** Since when it has been over, with its stream still there; the wheel's clock. */
  private overSince = -1;

  /** `gone`: the stream is. `answered`: it had an answer by then. */
  constructor(
    services: ProxyServices,
    facts: ConnectionFacts,
    stream: ServerHttp2Stream,
    endsWithHead: boolean,
    gone: (side: ConnectStream, answered: boolean) => void,
  ) {
    this.services = services;
    this.facts = facts;
    this.stream = stream;
    this.began = services.wheel.now;
    this.socket = new StreamBytes(stream, endsWithHead, () => gone(this, stream.headersSent));
  }

  established(): { socket: StreamBytes; rest: Buffer } | null {
    const { stream, socket } = this;
    if (socket.destroyed || stream.destroyed || stream.closed) return null;
    this.opened = true;
    stream.respond({ ":status": 200 }, OPTIONS);
    socket.pause();
    return { socket, rest: Buffer.alloc(0) };
  }

  answerConnect({ status, fields, content }: LocalResponse): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    const headers = { ":status": status, "content-length": content.length, ...plainHeaders(fields) };
    stream.respond(headers, OPTIONS);
    this.socket.end(content);
    this.socket.resume();
  }

  abort(): void {
    this.socket.destroy();
  }

  broke(error: unknown): void {
    this.services.log.error({ err: error }, "a CONNECT failed inside the proxy");
    this.socket.destroy();
  }

  /** The session's deadline came round at `now`. False: the client does not even take the end of the stream. */
  poll(now: number): boolean {
    const { stream, socket } = this;
    const { idleTimeout } = this.services.settings;
    // After RST_STREAM(NO_ERROR) node:http2 would wait until everything was read and written.
    if (stream.closed && !socket.resetByUs && !socket.inOrder) stream.destroy();
    else if (!stream.headersSent && !stream.closed) {
      if (now - this.began > CONNECT_AT_MOST) socket.destroy();
    } else if (!this.opened || socket.destroyed) return this.pollEnded(now, idleTimeout);
    return true; // inside an opened one everybody has deadlines of their own
  }

  private pollEnded(now: number, patience: number): boolean {
    const { stream, socket } = this;
    if (this.overSince < 0) this.overSince = now;
    const late = now - this.overSince > patience;
    if (stream.closed) return !late;
    // We have ended and the client goes on: no need to (RFC 9113 section 8.1). END_STREAM is out; it may have had to wait.
    if (socket.endSent && stream.state.localClose === 1) socket.reset(NGHTTP2_NO_ERROR);
    else if (late) {
      this.overSince = now;
      socket.reset(NGHTTP2_CONNECT_ERROR);
    }
    return true;
  }

  /** Bytes that were not sent when it was reset. */
  get unsent(): number {
    return this.socket.unsent;
  }
}
