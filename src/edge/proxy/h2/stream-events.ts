// From the events of an HTTP/2 stream to the side of the exchange that it belongs to. Functions are shared by all streams,
// and a stream that is over lets go of its side: node:http2 keeps the object of a stream until the next full garbage
// collection, and all that hangs on it as well.
import type { Http2Session, Http2Stream } from "node:http2";
import { Readable } from "node:stream";

const SIDE = Symbol("side");
const WHOLE = Symbol("whole");

interface Bound {
  [SIDE]?: Guarded | null;
  [WHOLE]?: boolean;
}

/** A side that outlives a bug of its own. */
export interface Guarded {
  /** Something threw while an event was worked on: it costs this stream, and nothing else. */
  threw(error: unknown): void;
}

/** Events of `stream` are for `side`, until `letGo`. Errors are not: `close` follows, and says it all. */
export function bind(stream: Http2Stream, side: Guarded): void {
  (stream as Http2Stream & Bound)[SIDE] = side;
  stream.on("error", ignore);
}

/** After the last event. */
export function letGo(stream: Http2Stream): void {
  (stream as Http2Stream & Bound)[SIDE] = null;
}

/**
 * After the last event of a session. node:http2 keeps one whose SETTINGS nobody acknowledged, and all that hangs on it, as long as
 * anything there holds its handle; and an error does that was made inside one of its events (V8 keeps `this` of each call).
 */
export function letGoOfSession(session: Http2Session): void {
  session.removeAllListeners().on("error", ignore);
}

function ignore(): void {}

/** A listener that serves every stream: it finds the side, and hands it up to three arguments of the event. */
export function listener<S extends Guarded>(run: (side: S, a: unknown, b: unknown, c: unknown) => void) {
  return function (this: unknown, a?: unknown, b?: unknown, c?: unknown): void {
    const side = (this as Bound)[SIDE];
    if (side === null || side === undefined) return;
    try {
      run(side as S, a, b, c);
    } catch (error) {
      side.threw(error);
    }
  };
}

/**
 * node:http2 ends the readable side for END_STREAM and for RST_STREAM(NO_ERROR) alike; only for the first the stream is
 * still open at that moment. Without this a message that was cut off would look complete.
 */
export function watchEnd(stream: Http2Stream): void {
  stream.push = watchedPush;
}

/** True: END_STREAM came. */
export const isWhole = (stream: Http2Stream): boolean => (stream as Http2Stream & Bound)[WHOLE] === true;

function watchedPush(this: Http2Stream & Bound, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (chunk === null && !this.closed) this[WHOLE] = true;
  return Readable.prototype.push.call(this, chunk, encoding);
}
