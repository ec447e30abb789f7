// How our parser and chunk reader read a stream: the messages, and how it ended. Driven as the engine drives them.
import { METHODS } from "node:http";
import { ChunkedReader } from "../../src/http/chunked.ts";
import { Head, parseRequestHead, parseResponseHead } from "../../src/http/parse-head.ts";
import { parseAbsoluteTarget, parseConnectTarget } from "../../src/http/target.ts";

export interface ReadMessage {
  /** What the first line says. */
  readonly line: string;
  /** Flat: name, value. */
  readonly fields: readonly string[];
  body: string;
  complete: boolean;
}

export interface Reading {
  readonly messages: readonly ReadMessage[];
  /** `more`: everything so far is good; `error …`: refused; `closed`, `upgrade`, `connect`: nothing further is read. */
  readonly status: string;
}

const MAX_HEAD = 65_536;

/** Reads the content of one message. */
class Body {
  private readonly chunked: ChunkedReader | null;
  private left: number;
  private readonly message: ReadMessage;

  constructor(head: Head, message: ReadMessage) {
    this.chunked = head.chunked ? new ChunkedReader() : null;
    this.left = Math.max(0, head.length);
    this.message = message;
    message.complete = !head.chunked && this.left === 0;
  }

  /** Returns the index after what it took, or -1. */
  read(b: Buffer, i: number): number {
    const take = (from: Buffer, start: number, end: number): void => {
      this.message.body += from.toString("latin1", start, end);
    };
    if (this.chunked !== null) {
      const after = this.chunked.read(b, i, b.length, take);
      this.message.complete = this.chunked.done;
      return after;
    }
    const end = Math.min(b.length, i + this.left);
    take(b, i, end);
    this.left -= end - i;
    this.message.complete = this.left === 0;
    return end;
  }
}

/** Reads requests. `cuts`: the bytes arrive in pieces that end there; what is not understood yet is kept. */
export function readRequests(bytes: Buffer, cuts: readonly number[] = []): Reading {
  const messages: ReadMessage[] = [];
  let body: Body | null = null;
  let last: string | null = null;
  let kept = Buffer.alloc(0);
  for (const piece of pieces(bytes, cuts)) {
    const b = Buffer.concat([kept, piece]);
    let i = 0;
    while (i < b.length) {
      const message = messages.at(-1);
      if (body === null || message === undefined) {
        const head = new Head();
        const after = parseRequestHead(b, i, b.length, head, MAX_HEAD, MAX_HEAD);
        if (after === 0) break;
        if (after < 0) return { messages, status: `error ${after}` };
        if (!METHODS.includes(head.method)) return { messages, status: "error method" };
        if (!isTarget(head)) return { messages, status: "error target" };
        const next = {
          line: `${head.method} ${head.target} 1.${head.minor}`,
          fields: head.fields,
          body: "",
          complete: false,
        };
        messages.push(next);
        if (head.method === "CONNECT") return { messages, status: "connect" };
        // What follows a request to upgrade is HTTP or not, as the answer says: both readings end there.
        last = head.close || head.minor === 0 ? "closed" : head.upgrade !== null ? "upgrade" : null;
        body = new Body(head, next);
        i = after;
      } else {
        i = body.read(b, i);
        if (i < 0) return { messages, status: "error body" };
      }
      if (messages.at(-1)?.complete === true) {
        body = null;
        if (last !== null) return { messages, status: last };
      }
    }
    kept = b.subarray(i);
  }
  return { messages, status: "more" };
}

/** The forms of RFC 9112 section 3.2 that the engine takes. */
function isTarget({ method, target }: Head): boolean {
  if (method === "CONNECT") return parseConnectTarget(target) !== null;
  if (target.startsWith("/")) return true;
  return target === "*" || parseAbsoluteTarget(target) !== null;
}

function* pieces(bytes: Buffer, cuts: readonly number[]): Generator<Buffer> {
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    yield bytes.subarray(from, to);
    from = to;
  }
}

/** Reads the response to a GET, to the end of the connection. */
export function readResponse(bytes: Buffer): Reading {
  let i = 0;
  let head: Head;
  for (let interim = 0; ; interim++) {
    head = new Head();
    const after = parseResponseHead(bytes, i, bytes.length, head, MAX_HEAD);
    if (after === 0) return { messages: [], status: "more" };
    if (after < 0) return { messages: [], status: `error ${after}` };
    i = after;
    if (head.status >= 200) break;
    if (head.status === 101 || head.chunked || head.length > 0 || interim === 16)
      return { messages: [], status: "error interim" };
  }
  const message = {
    line: `${head.status} ${head.phrase} 1.${head.minor}`,
    fields: head.fields,
    body: "",
    complete: false,
  };
  const messages = [message];
  const none = head.status === 204 || head.status === 304;
  if (!none && !head.chunked && head.length < 0) {
    message.body = bytes.toString("latin1", i);
    message.complete = true;
    return { messages, status: "more" };
  }
  if (none) message.complete = true;
  else i = new Body(head, message).read(bytes, i);
  if (i < 0) return { messages, status: "error body" };
  return { messages, status: message.complete && i < bytes.length ? "error bytes after the response" : "more" };
}
