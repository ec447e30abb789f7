// What is left of a message that came whole when its session went before all of it was read. node:http2 throws the streams of
// a session away together with what waits in them; END_STREAM was there, so nothing is missing. At most the window of the
// stream, and handed on only as fast as it is taken.
import type { Http2Stream } from "node:http2";
import { type Guarded, isWhole } from "./stream-events.ts";

export class Remainder {
  private readonly pieces: Buffer[] = [];
  private readonly taker: Guarded;
  private readonly take: (piece: Buffer) => boolean;
  private readonly end: () => void;
  private paused: boolean;
  private scheduled = false;
  private over = false;

  /** Of `stream`, which is closed. `take`: false: no more until `resume`. */
  constructor(stream: Http2Stream, taker: Guarded, take: (piece: Buffer) => boolean, end: () => void) {
    this.taker = taker;
    this.take = take;
    this.end = end;
    this.paused = stream.isPaused();
    for (let piece = stream.read(); piece !== null; piece = stream.read()) this.pieces.push(piece as Buffer);
    this.schedule();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.schedule();
  }

  /** Nobody wants it any more. */
  drop(): void {
    this.over = true;
    this.pieces.length = 0;
  }

  /** Later, as a stream would: whoever asks for more may be in the middle of something. */
  private schedule(): void {
    if (this.paused || this.scheduled || this.over) return;
    this.scheduled = true;
    process.nextTick(run, this);
  }

  handOn(): void {
    this.scheduled = false;
    try {
      while (!this.paused && !this.over) {
        const piece = this.pieces.shift();
        if (piece === undefined) {
          this.over = true;
          this.end();
        } else if (!this.take(piece)) this.paused = true;
      }
    } catch (error) {
      this.taker.threw(error);
    }
  }
}

function run(remainder: Remainder): void {
  remainder.handOn();
}

/** True: END_STREAM came, and `missing` bytes, or however many, are still to be read. */
export const holdsTheRest = (stream: Http2Stream, missing: number | null): boolean =>
  isWhole(stream) && (missing === null || stream.readableLength === missing);
