// Writes responses of HTTP/1.x (RFC 9112 sections 4 and 6): heads, content in the framing that fits, and the end.
import type { Duplex } from "node:stream";
import type { Fields } from "../../http/fields.ts";
import type { ResponseHead } from "../../http/messages.ts";
import { type Framing, lastChunk, PHRASES, writeFields } from "../../http/serialise.ts";
import { type Drains, Outgoing } from "./outgoing.ts";

export class ResponseWriter {
  readonly out: Outgoing;
  /** True: the content is sent in chunks, so that a missing last chunk shows that it is not whole. */
  chunked = false;

  constructor(socket: Duplex, owner: Drains) {
    this.out = new Outgoing(socket, owner);
  }

  interim(status: number, phrase: string, fields: Fields): void {
    this.statusLine(status, phrase || (PHRASES[status] ?? ""));
    writeFields(this.out, fields, "none", null);
    this.out.text("\r\n");
    this.out.flush();
  }

  /**
   * The framing of a response, which `head` then writes. `headOnly`: an answer to HEAD. A content of unknown length goes in
   * chunks, or, to a client of HTTP/1.0, until the connection ends: `none` with `length` null.
   */
  framingFor(status: number, length: number | null, headOnly: boolean, version: "1.0" | "1.1"): Framing {
    this.chunked = false;
    if (headOnly || status === 304) return "keep";
    if (status === 204 || status < 200) return "none";
    if (length !== null) return length;
    this.chunked = version === "1.1";
    return this.chunked ? "chunked" : "none";
  }

  /** `options`: the connection's own field lines. `expectsMore`: content follows, so that the head need not leave alone. */
  head(response: ResponseHead, framing: Framing, options: string, expectsMore: boolean): void {
    const { status, phrase, fields } = response;
    this.statusLine(status, phrase);
    writeFields(this.out, fields, framing, null);
    this.out.text(options);
    this.out.text("\r\n");
    if (expectsMore) this.out.arm();
  }

  private statusLine(status: number, phrase: string): void {
    const { out } = this;
    out.text("HTTP/1.1 ");
    out.text(String(status));
    out.text(" ");
    out.text(phrase);
    out.text("\r\n");
  }

  /** Content, borrowed. `last`: it must not leave before `end`. False: there is no room for more. */
  data(chunk: Uint8Array, last: boolean): boolean {
    const { out } = this;
    if (this.chunked) return out.chunk(chunk);
    if (last) out.held = true;
    return out.bytes(chunk, 0, chunk.length);
  }

  end(trailers: Fields | null): void {
    if (this.chunked) this.out.text(lastChunk(trailers));
    this.chunked = false;
    this.out.flush();
  }

  /** A whole response in one go. */
  whole(head: string, content: Uint8Array): void {
    this.out.text(head);
    if (content.length > 0) this.out.bytes(content, 0, content.length);
    this.out.flush();
  }
}
