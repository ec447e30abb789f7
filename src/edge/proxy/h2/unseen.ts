// Streams of a client that node:http2 reset by itself, since their heads are not valid (RFC 9113 section 8.1.1): it shows
// nothing of them, and only their numbers are missing. Numbers may be missing by right (section 5.1.1: clients that take back
// requests which had to wait leave many out), so what is told is what is certain: the resets that were written while no other
// stream was open, and a head that is known to have begun and never became a stream.
import type { ServerHttp2Session } from "node:http2";
import type { Duplex } from "node:stream";
import { bytesWritten, rejectedStreams } from "./rejected.ts";

/** A moment at which no stream was open and nothing waited to leave: what is written from then on is known. */
interface Quiet {
  readonly bytes: number;
  /** Bytes of our own SETTINGS frame, when it was still to be written; else 0. */
  readonly settings: number;
  readonly acks: number;
  readonly pongs: number;
  /** Resets since then that were told. */
  told: number;
}

export class UnseenStreams {
  /** SETTINGS and PING frames that came, and were or will be answered. */
  acks = 0;
  pongs = 0;
  private readonly session: ServerHttp2Session;
  private readonly socket: Duplex;
  private readonly found: (count: number) => void;
  /** Null while streams are open. */
  private quiet: Quiet | null;
  /** The number of the last stream that was shown to us or told of; and of the last whose head is known to have begun. */
  private seenUpTo = 0;
  private begun = 0;

  /**
   * Of a session over `socket`, to which `writtenBefore` bytes had been written, and which begins with a SETTINGS frame of
   * `settingsLength` bytes. `found` is told of them.
   */
  constructor(
    session: ServerHttp2Session,
    socket: Duplex,
    writtenBefore: number,
    settingsLength: number,
    found: (count: number) => void,
  ) {
    this.session = session;
    this.socket = socket;
    this.quiet = { bytes: writtenBefore, settings: settingsLength, acks: 0, pongs: 0, told: 0 };
    this.found = found;
  }

  /** This stream was shown; it is open, and what is written from here on is not known. */
  shown(id: number): void {
    const before = this.seenUpTo;
    if (id > before + 2) {
      const began = this.begun > before && this.begun < id ? 1 : 0;
      // Streams begin at 1, and before that nothing was shown.
      const skipped = Math.ceil((id - before) / 2) - 1;
      this.tell(Math.min(skipped, Math.max(began, this.resets() ?? 0)));
    }
    this.seenUpTo = Math.max(before, id);
    this.quiet = null;
  }

  /** No stream is open. */
  settle(): void {
    const { session } = this;
    if (this.quiet !== null || session.destroyed || session.state.outboundQueueSize !== 0) return;
    this.look();
    this.quiet = { bytes: bytesWritten(this.socket), settings: 0, acks: this.acks, pongs: this.pongs, told: 0 };
  }

  /** Resets that were not told of, as far as they are known for certain; null: what was written explains itself in no way. */
  private resets(): number | null {
    const { quiet, session } = this;
    if (quiet === null) return null;
    const written = {
      bytes: bytesWritten(this.socket) - quiet.bytes,
      queued: session.destroyed ? 0 : (session.state.outboundQueueSize ?? 0),
    };
    const known = { settings: quiet.settings, acks: this.acks - quiet.acks, pongs: this.pongs - quiet.pongs };
    const all = rejectedStreams(written, known);
    return all === null ? null : Math.max(0, all - quiet.told);
  }

  /** Looks how far heads have come; one that began may still be under way. */
  look(): number {
    const last = this.session.destroyed ? 0 : (this.session.state.lastProcStreamID ?? 0);
    const known = this.begun;
    this.begun = Math.max(known, last);
    return last > this.seenUpTo ? known : 0;
  }

  /** A head that began before the last look (or before the end) and never became a stream. `over`: nothing more comes. */
  lookForMissing(over: boolean): void {
    const known = this.look();
    const last = over ? this.begun : known;
    if (last <= this.seenUpTo) return;
    const most = Math.ceil((last - this.seenUpTo) / 2);
    this.seenUpTo = last;
    this.tell(Math.min(most, Math.max(1, this.resets() ?? 1)));
  }

  private tell(count: number): void {
    if (count === 0) return;
    if (this.quiet !== null) this.quiet.told += count;
    this.found(count);
  }
}
