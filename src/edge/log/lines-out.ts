// Where the lines of the log go: a descriptor that may be slow, full, stuck or closed. Who writes a line never waits for it,
// and neither does the end of the process: sonic-boom, which pino would use, tries for ever at the end to write to a full or
// broken pipe.
import { constants, fstatSync, openSync, write, writeSync } from "node:fs";

export interface LinesOutOptions {
  readonly fd: number;
  /** Bytes that may wait; a line that does not fit is lost. */
  readonly mostWaiting: number;
}

/** Bytes that go to the system at once. */
const PIECE = 64 * 1024;
const RETRY_MS = 100;
const NOTHING = Buffer.alloc(0);
const RETRIED = new Set(["EAGAIN", "EBUSY"]);

/** Pipes that were opened anew, by device and number. */
const pipes = new Map<string, number>();

/**
 * Whether a write waits is a property of the opened pipe, which all share who inherited it: each child that gets it makes
 * writes wait again, ours too. So a pipe is opened once more, for us alone. Otherwise (not on Linux, or nobody reads it) `fd`.
 */
function own(fd: number): number {
  try {
    const found = fstatSync(fd);
    if (!found.isFIFO()) return fd;
    const pipe = `${found.dev}:${found.ino}`;
    const opened = pipes.get(pipe) ?? openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
    pipes.set(pipe, opened);
    return opened;
  } catch {
    return fd;
  }
}

/** Those whose lines still wait, for the end of the process. */
const behind = new Set<LinesOut>();
process.on("exit", () => {
  for (const out of behind) out.rest();
});

/** A stream for pino: `write` neither waits nor throws. */
export class LinesOut {
  readonly #options: LinesOutOptions;
  readonly #fd: number;
  #lines: Buffer[] = [];
  #bytes = 0;
  /** What is being written, taken out of the lines. Empty: nothing is. */
  #piece: Buffer = NOTHING;
  /** The system has the piece, or what is left of it. */
  #underWay = false;
  /** Nobody can read any more. */
  #broken = false;
  #flushed: (() => void)[] = [];

  constructor(options: LinesOutOptions) {
    this.#options = options;
    this.#fd = own(options.fd);
  }

  write(line: string): void {
    const bytes = Buffer.from(line, "utf8");
    if (this.#broken || this.#bytes + bytes.length > this.#options.mostWaiting) return;
    this.#lines.push(bytes);
    this.#bytes += bytes.length;
    behind.add(this);
    if (this.#piece.length === 0) this.#next();
  }

  /** Resolves when what was written has left, or after `patience` milliseconds. */
  flush(patience: number): Promise<void> {
    if (!behind.has(this)) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, patience);
      this.#flushed.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** At the end of the process: what can be written at once is, the rest is lost. */
  rest(): void {
    const last = this.#underWay ? this.#lines : [this.#piece, ...this.#lines];
    try {
      for (const bytes of last) for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch {}
  }

  #next(): void {
    this.#piece = this.#take();
    if (this.#piece.length === 0) this.#done();
    else this.#writePiece();
  }

  /** About as much as one call may take: a whole line at least. */
  #take(): Buffer {
    let size = 0;
    let count = 0;
    while (count < this.#lines.length && (count === 0 || size + (this.#lines[count] as Buffer).length <= PIECE))
      size += (this.#lines[count++] as Buffer).length;
    return count === 0 ? NOTHING : Buffer.concat(this.#lines.splice(0, count), size);
  }

  #writePiece(): void {
    this.#underWay = true;
    write(this.#fd, this.#piece, 0, this.#piece.length, null, (error, written) => {
      this.#underWay = false;
      const code = error?.code ?? "";
      if (RETRIED.has(code)) return void setTimeout(() => this.#writePiece(), RETRY_MS).unref();
      // EPIPE: nobody reads stderr any more. That is no reason to stop serving; neither is a full disk, which costs these lines.
      if (code === "EPIPE") return this.#break();
      const gone = error === null ? written : this.#piece.length;
      this.#bytes -= gone;
      this.#piece = this.#piece.subarray(gone);
      if (this.#piece.length > 0) this.#writePiece();
      else this.#next();
    });
  }

  #break(): void {
    this.#broken = true;
    this.#piece = NOTHING;
    this.#lines = [];
    this.#bytes = 0;
    this.#done();
  }

  #done(): void {
    behind.delete(this);
    for (const resolve of this.#flushed.splice(0)) resolve();
  }
}
