// A request with content that an HTTP/2 origin may refuse unprocessed (REFUSED_STREAM, or above the last stream of GOAWAY):
// the beginning of the content is kept until the origin says anything, so that all of it can go out once more (RFC 9113
// section 8.7). It stands between the exchange and whichever stream carries it.
import type { OriginEvents, OriginSide, RawConnection } from "../../../exchange/sides.ts";
import type { Fields } from "../../../http/fields.ts";
import type { ResponseHead } from "../../../http/messages.ts";

/** Bytes of content that are kept; a request that has sent more is not sent again. */
const MOST = 65_536;

export class Replay implements OriginEvents, OriginSide {
  private readonly events: OriginEvents;
  /** Null between two attempts. */
  private side: OriginSide | null = null;
  /** Null when it cannot go out again. */
  private kept: Buffer[] | null = [];
  private bytes = 0;
  private ending: { readonly trailers: Fields | null } | null = null;
  private told = false;
  private aborted = false;

  constructor(events: OriginEvents) {
    this.events = events;
  }

  /** The attempt is over before anything was said. False: what was sent is not here any more. */
  rewind(): boolean {
    if (this.kept === null) return false;
    this.side = null;
    return true;
  }

  // ---- towards the origin ---------------------------------------------------------------------------------------------

  data(chunk: Uint8Array): boolean {
    const { side, kept } = this;
    if (kept !== null) {
      this.bytes += chunk.length;
      // Between two attempts there is no other place for it; at most what was read already comes then.
      if (side === null || this.bytes <= MOST) kept.push(Buffer.from(chunk));
      else this.kept = null;
    }
    return side?.data(chunk) ?? false;
  }

  end(trailers: Fields | null): void {
    this.ending = { trailers };
    this.side?.end(trailers);
  }

  abort(): void {
    this.aborted = true;
    this.kept = null;
    this.side?.abort();
  }

  pauseResponse(): void {
    this.side?.pauseResponse();
  }
  resumeResponse(): void {
    this.side?.resumeResponse();
  }

  // ---- towards the exchange -------------------------------------------------------------------------------------------

  originOpened(side: OriginSide): void {
    if (this.aborted) return side.abort();
    this.side = side;
    if (this.told) return this.again(side);
    this.told = true;
    this.events.originOpened(this);
  }

  private again(side: OriginSide): void {
    let room = true;
    for (const piece of this.kept ?? []) room = side.data(piece);
    this.kept = null;
    if (this.ending !== null) side.end(this.ending.trailers);
    else if (room) this.events.originDrained();
  }

  responseInterim(status: number, phrase: string, fields: Fields): void {
    this.kept = null;
    this.events.responseInterim(status, phrase, fields);
  }
  responseHead(response: ResponseHead, length: number | null, open?: boolean): void {
    this.kept = null;
    this.events.responseHead(response, length, open);
  }
  responseData(chunk: Uint8Array, last: boolean): boolean {
    return this.events.responseData(chunk, last);
  }
  responseEnd(trailers: Fields | null): void {
    this.events.responseEnd(trailers);
  }
  responseUpgrade(response: ResponseHead, origin: RawConnection): void {
    this.events.responseUpgrade(response, origin);
  }
  originFailed(error: Parameters<OriginEvents["originFailed"]>[0]): void {
    this.kept = null;
    this.events.originFailed(error);
  }
  originDrained(): void {
    this.events.originDrained();
  }
}
