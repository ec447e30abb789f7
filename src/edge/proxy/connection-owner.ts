// What connections to origins tell the pool that they are of.
import type { ProxyError } from "../../shared/errors.ts";
import type { OriginConnection } from "./origin-connection.ts";
import type { TimerWheel } from "./timers.ts";

export interface ConnectionOwner {
  /** The connection ended its exchange cleanly and may serve another. */
  idle(connection: OriginConnection): void;
  closed(connection: OriginConnection): void;
  /**
   * A connection that was used before died before the first byte of a response. `asked`: the request may have reached the origin.
   * True: it went elsewhere.
   */
  stale(connection: OriginConnection, asked: boolean): boolean;
  failed(connection: OriginConnection, error: Error): ProxyError;
  readonly wheel: TimerWheel;
  tick(): number;
}
