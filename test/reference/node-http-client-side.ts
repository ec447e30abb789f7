// The client's side of an exchange, a second time: node:http's server instead of our own engine. What it leaves to node:http
// (framing, chunks, keep-alive, draining) is what the two implementations are compared in.
import type http from "node:http";
import type { Relay } from "../../src/exchange/relay.ts";
import type { ClientSide, RawConnection } from "../../src/exchange/sides.ts";
import { type Fields, firstValue } from "../../src/http/fields.ts";
import type { ResponseHead } from "../../src/http/messages.ts";
import { ProxyError } from "../../src/shared/errors.ts";

const FRAMING = /^(?:content-length|transfer-encoding)$/i;

/** Flat fields without those that frame the content. */
export const withoutFraming = (fields: Fields): Fields =>
  fields.filter((_, i) => !FRAMING.test(fields[i - (i % 2)] as string));

export class NodeHttpClientSide implements ClientSide {
  readonly version: "1.0" | "1.1";
  /** Set once the relay is made. */
  relay: Relay | null = null;
  private readonly request: http.IncomingMessage;
  private readonly response: http.ServerResponse;
  private reading = false;
  private stopped = false;
  private held: Buffer | null = null;

  constructor(request: http.IncomingMessage, response: http.ServerResponse) {
    this.version = request.httpVersion === "1.0" ? "1.0" : "1.1";
    this.request = request;
    this.response = response;
    response.sendDate = false;
    response.on("drain", () => this.relay?.clientDrained());
    response.on("close", () => {
      if (!response.writableFinished) this.relay?.requestFailed(new ProxyError("client-gone"));
    });
  }

  interim(status: number, phrase: string, fields: Fields): void {
    if (status === 100) return this.response.writeContinue();
    let text = `HTTP/1.1 ${status} ${phrase}\r\n`;
    for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
    this.response.socket?.write(`${text}\r\n`, "latin1");
  }

  head(head: ResponseHead, length: number | null): void {
    const { status } = head;
    const headOnly = this.request.method === "HEAD" || status === 304;
    const fields = withoutFraming(head.fields);
    const said = firstValue(head.fields, "content-length");
    if (headOnly) {
      if (said !== null) fields.push("Content-Length", said);
    } else if (status !== 204) {
      if (length !== null) fields.push("Content-Length", String(length));
      else if (this.version === "1.1") fields.push("Transfer-Encoding", "chunked");
      else fields.push("Connection", "close");
    }
    if (this.stopped) fields.push("Connection", "close");
    this.response.writeHead(status, head.phrase, fields);
  }

  data(chunk: Uint8Array, last: boolean): boolean {
    const owned = Buffer.from(chunk);
    if (last) {
      this.held = owned;
      return true;
    }
    return this.response.write(owned);
  }

  end(trailers: Fields | null): void {
    if (trailers !== null) {
      const pairs: [string, string][] = [];
      for (let i = 0; i < trailers.length; i += 2) pairs.push([trailers[i] as string, trailers[i + 1] as string]);
      this.response.addTrailers(pairs);
    }
    if (this.held === null) this.response.end();
    else this.response.end(this.held);
    if (this.stopped) this.request.resume();
  }

  abort(): void {
    this.response.destroy();
    this.request.socket.destroy();
  }

  pauseRequest(): void {
    this.request.pause();
  }

  resumeRequest(): void {
    if (this.stopped) return;
    if (!this.reading) this.read();
    this.request.resume();
  }

  private read(): void {
    const { request } = this;
    this.reading = true;
    request.on("data", (chunk: Buffer) => {
      if (!this.stopped && this.relay?.requestData(chunk, false) === false) request.pause();
    });
    request.on("end", () => {
      if (this.stopped || this.relay?.x.requestLength === 0) return;
      this.relay?.requestEnd(request.rawTrailers.length === 0 ? null : request.rawTrailers.slice());
    });
    request.on("error", () => this.relay?.requestFailed(new ProxyError("client-gone")));
  }

  stopRequest(): void {
    this.stopped = true;
    this.request.resume();
  }

  /** Upgrades are not part of the comparison: node:http hands them over before there is a response to write. */
  takeSocket(): RawConnection | null {
    return null;
  }
}
