// Streams of a client that node:http2 reset by itself, since their heads are not valid (RFC 9113 section 8.1.1): it shows
// nothing of them, and only their numbers are missing.
import type { ServerHttp2Session } from "node:http2";
import type { Duplex } from "node:stream";
import { bytesWritten, rejectedStreams } from "./rejected.ts";

export class UnseenStreams {
  /** SETTINGS and PING frames that came, and were or will be answered. */
  acks = 0;
  pongs = 0;
  private readonly session: ServerHttp2Session;
  private readonly socket: Duplex;
  private readonly found: (count: number) => void;
  /** What was written before the session, and the length of the frame that it begins with: until the first stream. */
  private readonly writtenBefore: number;
  private readonly settingsLength: number;
  /** The number of the last stream that was shown to us; and of the last whose head is known to have begun. */
  private seenUpTo: number | null = null;
  private begun = 0;

  /** Of a session over `socket`, to which `writtenBefore` bytes had been written. `found` is told of them. */
  constructor(
    session: ServerHttp2Session,
    socket: Duplex,
    writtenBefore: number,
    settingsLength: number,
    found: (count: number) => void,
  ) {
    this.session = session;
    this.socket = socket;
    this.writtenBefore = writtenBefore;
    this.settingsLength = settingsLength;
    this.found = found;
  }

  /** This stream was shown: those before it that were not are missing. */
  shown(id: number): void {
    const before = this.seenUpTo;
    this.seenUpTo = Math.max(before ?? 0, id);
    const skipped = (id - (before ?? -1)) / 2 - 1;
    if (skipped > 0) this.tell(before === null ? Math.min(skipped, this.rejected()) : skipped);
  }

  /** Before the first stream, numbers may be left out by right: some clients begin at 3. */
  private rejected(): number {
    const bytes = bytesWritten(this.socket) - this.writtenBefore;
    const { acks, pongs, settingsLength, session } = this;
    return rejectedStreams(
      { bytes, queued: session.state.outboundQueueSize ?? 0 },
      { settings: settingsLength, acks, pongs },
    );
  }

  /** Looks how far heads have come; one that began may still be under way. */
  look(): number {
    const last = this.session.destroyed ? 0 : (this.session.state.lastProcStreamID ?? 0);
    const known = this.begun;
    this.begun = Math.max(known, last);
    return last > (this.seenUpTo ?? 0) ? known : 0;
  }

  /** A head that began before the last look (or before the end) and never became a stream. `over`: nothing more comes. */
  lookForMissing(over: boolean): void {
    const known = this.look();
    const last = over ? this.begun : known;
    if (last <= (this.seenUpTo ?? 0)) return;
    let missing = Math.ceil((last - (this.seenUpTo ?? last - 2)) / 2);
    if (this.seenUpTo === null && !over) missing = Math.max(1, Math.min((last + 1) / 2, this.rejected()));
    this.seenUpTo = last;
    this.tell(missing);
  }

  private tell(count: number): void {
    if (count > 0) this.found(count);
  }
}
