// What the relay needs of the house that drives it.
import type { Clock } from "../shared/clock.ts";
import type { ProxyError } from "../shared/errors.ts";
import type { Log } from "../shared/log.ts";
import type { Exchange } from "./exchange.ts";
import type { Pipeline } from "./pipeline.ts";
import type { Origins, RawConnection } from "./sides.ts";
import type { LocalResponse } from "./stage.ts";

/** What the relay asks of the house. */
export interface RelayServices {
  readonly pipeline: Pipeline;
  readonly origins: Origins;
  readonly clock: Clock;
  readonly log: Log;
  /** Coarse monotonic milliseconds, cheap to read. */
  readonly coarse: { readonly now: number };
  /** The response that tells the client of a refusal. */
  refusal(x: Exchange, error: ProxyError): LocalResponse;
  /** Joins the two raw connections after a 101. */
  upgraded(x: Exchange, client: RawConnection, origin: RawConnection): void;
  /** Called once for each exchange, after its record was taken. */
  done(x: Exchange): void;
}
