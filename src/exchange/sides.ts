// The two small interfaces behind which HTTP is spoken: the client's side and the origin's side of one exchange. The
// HTTP/1.1 engine, HTTP/2, and (in the tests, as the reference) node:http with undici implement them.
import type { Duplex } from "node:stream";
import type { Fields } from "../http/fields.ts";
import type { HttpVersion, ResponseHead } from "../http/messages.ts";
import type { ProxyError } from "../shared/errors.ts";
import type { Exchange } from "./exchange.ts";

/** The client's side of one exchange. Implemented by a connection or a stream. */
export interface ClientSide {
  readonly version: HttpVersion;
  /** An informational response (RFC 9110 section 15.2). */
  interim(status: number, phrase: string, fields: Fields): void;
  /** The final head. `length`: bytes of content; 0: none; null: unknown until it ends. Leaves with the content or soon. */
  head(response: ResponseHead, length: number | null): void;
  /**
   * Content, borrowed. `last`: with this chunk the declared length is reached; it must not leave before `end`.
   * False: wait for `clientDrained` of the exchange's handler.
   */
  data(chunk: Uint8Array, last: boolean): boolean;
  /** The response is complete and recorded: everything leaves. */
  end(trailers: Fields | null): void;
  /** Breaks the response so that it can never look complete (reset, or no last chunk). */
  abort(): void;
  /** Stop and go on reading request content. */
  pauseRequest(): void;
  resumeRequest(): void;
  /** No more request content is wanted: the response says it all. */
  stopRequest(): void;
  /**
   * After a 101: hands over the raw connection with what was read beyond the request, or null where the version has none.
   */
  takeSocket(): RawConnection | null;
}

/** A connection that speaks something else from now on. */
export interface RawConnection {
  readonly socket: Duplex;
  /** What was read already, owned. */
  readonly rest: Uint8Array;
  /** Starts reading: `take` gets borrowed chunks; when it returns false, reading stops until `socket.resume()`. */
  read(take: (chunk: Uint8Array) => boolean): void;
  /** Resets the connection under it, where `socket` itself cannot (TLS). */
  reset?(): void;
}

/** What the client's side calls. Implemented by the relay. */
export interface ClientEvents {
  /** False while content cannot be taken yet: keep it, and go on when `resumeRequest` is called. */
  readonly ready: boolean;
  /** Content, borrowed. `whole`: it is the entire content. False: stop reading until `resumeRequest`. */
  requestData(chunk: Uint8Array, whole: boolean): boolean;
  requestEnd(trailers: Fields | null): void;
  /** The request broke: its framing is wrong, it came too late, the client is gone. */
  requestFailed(error: ProxyError): void;
  clientDrained(): void;
}

/** The origin's side of one exchange. */
export interface OriginSide {
  data(chunk: Uint8Array): boolean;
  end(trailers: Fields | null): void;
  abort(): void;
  pauseResponse(): void;
  resumeResponse(): void;
}

/** How the request's content is framed towards the origin: 0 none, a length in bytes, or null for unknown (chunked). */
export type ContentLength = number | null;

/** What the origin's side calls. Implemented by the relay. */
export interface OriginEvents {
  /** The request head is on its way; content may follow. May be called during `open`. */
  originOpened(side: OriginSide): void;
  responseInterim(status: number, phrase: string, fields: Fields): void;
  /** `length`: bytes of content; 0: none; null: unknown. `open`: without content there may be trailers all the same (HTTP/2). */
  responseHead(response: ResponseHead, length: number | null, open?: boolean): void;
  /** Content, borrowed. `last`: the declared length is reached with it. False: pause until `resumeResponse`. */
  responseData(chunk: Uint8Array, last: boolean): boolean;
  responseEnd(trailers: Fields | null): void;
  /** The origin switched protocols (101). */
  responseUpgrade(response: ResponseHead, origin: RawConnection): void;
  originFailed(error: ProxyError): void;
  originDrained(): void;
}

export interface OpenRequest {
  readonly exchange: Exchange;
  /** Content of the request as it will be sent. */
  readonly length: ContentLength;
  /** The whole content, when it is known already (copied or owned), so that head and content leave in one write. */
  readonly expectContinue: boolean;
  /** The protocol the client wants to switch to, or null. */
  readonly upgrade: string | null;
}

/** Gets exchanges to origins. */
export interface Origins {
  /** Calls `originOpened` or `originFailed` of `events`, now or later. Returns what gives the attempt up. */
  open(request: OpenRequest, events: OriginEvents): { abandon(): void };
}
