// The log port with pino behind it: JSON for machines, lines for people at a terminal; on stderr, never on stdout.
import { createRequire } from "node:module";
import { type DestinationStream, type Logger, pino } from "pino";
import type { KnownSecrets } from "../../shared/known-secrets.ts";
import type { Log } from "../../shared/log.ts";
import { LinesOut } from "./lines-out.ts";
import { Scrubber } from "./scrub.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

export interface LoggerOptions {
  readonly level: LogLevel;
  /** True: lines for people. Unset: when stderr is a terminal. */
  readonly pretty?: boolean;
  /** What is never written, in any spelling; asked for each line. */
  readonly secrets?: KnownSecrets;
  /** File descriptor; 2 (stderr) unless said. */
  readonly fd?: number;
}

export interface OwnedLog extends Log {
  setLevel(level: LogLevel): void;
  /** Resolves when what was logged is written, or after a second: a reader that is stuck does not keep the process. */
  flush(): Promise<void>;
}

/** What may wait for a slow reader of stderr; beyond it lines are dropped rather than traffic held up. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
const FLUSH_MS = 1_000;

/** Opens the log. Writing never waits for the reader. */
export function openLog(options: LoggerOptions): OwnedLog {
  const fd = options.fd ?? 2;
  const out = new LinesOut({ fd, mostWaiting: MAX_WAITING_BYTES });
  const pretty = options.pretty ?? (fd === 2 && process.stderr.isTTY === true);
  const stream: DestinationStream = pretty ? prettyOver(out) : out;
  const logger = pino({ level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  return new ScrubbedLog(logger, new Scrubber(options.secrets), () => out.flush(FLUSH_MS));
}

/**
 * Formats on the way, in the same turn: a line that was logged before a crash is not stuck in a stream. The library is loaded
 * here, so that a start without a terminal does not wait for it.
 */
function prettyOver(out: DestinationStream): DestinationStream {
  const colorize = !process.env.NO_COLOR;
  const { prettyFactory } = createRequire(import.meta.url)("pino-pretty") as typeof import("pino-pretty");
  const format = prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname" });
  return { write: (line) => out.write(format(line)) };
}

class ScrubbedLog implements OwnedLog {
  private readonly logger: Logger;
  private readonly scrubber: Scrubber;
  readonly flush: () => Promise<void>;

  constructor(logger: Logger, scrubber: Scrubber, flush: () => Promise<void>) {
    this.logger = logger;
    this.scrubber = scrubber;
    this.flush = flush;
  }

  debug(event: object, message: string): void {
    this.write("debug", event, message);
  }

  info(event: object, message: string): void {
    this.write("info", event, message);
  }

  warn(event: object, message: string): void {
    this.write("warn", event, message);
  }

  error(event: object, message: string): void {
    this.write("error", event, message);
  }

  setLevel(level: LogLevel): void {
    this.logger.level = level;
  }

  private write(level: "debug" | "info" | "warn" | "error", event: object, message: string): void {
    if (!this.logger.isLevelEnabled(level)) return;
    this.logger[level](this.scrubber.event(event), this.scrubber.text(message));
  }
}
