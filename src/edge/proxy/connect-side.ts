// What a CONNECT came on: an HTTP/1.1 connection, or one stream of an HTTP/2 connection. CONNECT, what is inside it and its
// tunnel know no more of either than this.
import type { Duplex } from "node:stream";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import type { LocalResponse } from "../../exchange/stage.ts";
import type { HttpVersion } from "../../http/messages.ts";
import type { ProxyServices } from "./services.ts";

/**
 * Milliseconds after which a CONNECT without an answer is broken off. Credentials, DNS and each dial on the way have deadlines of their
 * own, which answer and say why; this is for what has none.
 */
export const CONNECT_AT_MOST = 600_000;

export interface ConnectSide {
  readonly version: HttpVersion;
  readonly services: ProxyServices;
  readonly facts: ConnectionFacts;
  /** The bytes inside, once it is opened. Closed when the client has gone, at any moment; destroying it breaks it off. */
  readonly socket: Duplex;
  /** Answers 200 and gives up the bytes, paused, with what was read of them already. Null: the client has gone. */
  established(): { readonly socket: Duplex; readonly rest: Buffer } | null;
  /** Answers that it is refused. `reason`: for the status line, where the version has one. */
  answerConnect(response: LocalResponse, reason: string): void;
  /** Breaks it off without an answer. */
  abort(): void;
  /** A bug costs this CONNECT. */
  broke(error: unknown): void;
}
