// A stream that was answered before it became an exchange or a CONNECT: it is looked after until it is gone.
import { constants, type ServerHttp2Stream } from "node:http2";
import type { LocalResponse } from "../../../exchange/stage.ts";
import { plainHeaders } from "./fields.ts";

export class AnsweredStream {
  /** Too short to matter. */
  readonly unsent = 0;
  private readonly stream: ServerHttp2Stream;
  private readonly until: number;

  /** Answers. `headOnly`: without content. `until`: when the client must have taken it, on the clock of `poll`. */
  constructor(stream: ServerHttp2Stream, response: LocalResponse, headOnly: boolean, until: number) {
    this.stream = stream;
    this.until = until;
    stream.on("error", () => {});
    // The client reset it in the same breath.
    if (stream.destroyed || stream.closed) return;
    stream.respond({ ":status": response.status, ...plainHeaders(response.fields) }, { endStream: headOnly });
    if (!headOnly) stream.end(response.content);
    stream.resume();
  }

  /** False: the client does not even take the end of the stream. */
  poll(now: number): boolean {
    const { stream } = this;
    // The response is out, with its END_STREAM, and the client goes on sending: no need to (RFC 9113 section 8.1).
    if (stream.writableFinished && !stream.closed && stream.state.localClose === 1)
      stream.close(constants.NGHTTP2_NO_ERROR);
    return now <= this.until;
  }
}
