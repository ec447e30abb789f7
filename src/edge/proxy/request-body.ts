// Reads the content of one HTTP/1.x request out of the input, by its length or in chunks, and hands it to the relay.
import type { ClientEvents } from "../../exchange/sides.ts";
import { ChunkedReader } from "../../http/chunked.ts";
import type { Fields } from "../../http/fields.ts";
import type { Input } from "./input.ts";

/** `over`: the relay ended the exchange meanwhile. `full`: taken, but the other side has no room for more. */
export type BodyRead = "more" | "full" | "ended" | "broken" | "over";

export class RequestBody {
  private readonly length: number;
  private left: number;
  private readonly chunks: ChunkedReader | null;

  /** `length`: bytes, or -1 for chunks. */
  constructor(length: number) {
    this.length = length;
    this.left = length;
    this.chunks = length < 0 ? new ChunkedReader() : null;
  }

  get trailers(): Fields | null {
    return this.chunks?.trailers ?? null;
  }

  /** True when trailer fields were left out. */
  get droppedTrailers(): boolean {
    return (this.chunks?.dropped ?? 0) > 0;
  }

  /** Takes what the input has of it. `current`: whether the relay still has the exchange. */
  read(input: Input, relay: ClientEvents, current: () => boolean): BodyRead {
    return this.chunks === null
      ? this.readLength(input, relay, current)
      : this.readChunks(this.chunks, input, relay, current);
  }

  private readLength(input: Input, relay: ClientEvents, current: () => boolean): BodyRead {
    const b = input.bytes;
    const { from } = input;
    const to = Math.min(input.to, from + this.left);
    const whole = to - from === this.length;
    const room = relay.requestData(from === 0 && to === b.length ? b : b.subarray(from, to), whole);
    if (!current()) return "over";
    this.left -= to - from;
    input.advance(to);
    if (this.left === 0) return "ended";
    return room ? "more" : "full";
  }

  private readChunks(chunks: ChunkedReader, input: Input, relay: ClientEvents, current: () => boolean): BodyRead {
    let room = true;
    const next = chunks.read(input.bytes, input.from, input.to, (b, start, end) => {
      room = relay.requestData(b.subarray(start, end), false) && room;
    });
    if (!current()) return "over";
    if (next < 0) return "broken";
    input.advance(next);
    if (chunks.done) return "ended";
    return room ? "more" : "full";
  }
}
