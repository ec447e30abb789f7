// One end of a relayed WebSocket: reads frames from its connection at the pace of the other end, and writes frames to it.
import type { Duplex } from "node:stream";
import type { RawConnection } from "../../exchange/sides.ts";
import type { DeflateTerms } from "../../http/web-socket.ts";
import { unsentOf } from "../../shared/unsent.ts";
import type { Assembly, Holder } from "./assembly.ts";
import { closeCodeOf, type FrameReader, type Frames, framesOf, heldBy, missingIn } from "./frames.ts";
import { Pieces } from "./pieces.ts";
import type { Times } from "./times.ts";

/** What a peer tells its relay. */
export interface PeerEvents {
  message(data: Buffer, binary: boolean): void;
  ping(data: Buffer): void;
  pong(data: Buffer): void;
  /** A close frame came; 1005: without a code. Nothing else comes after it. */
  closeFrame(code: number, reason: Buffer): void;
  /** What came is no valid frame, or too large; nothing else comes. */
  invalid(code: number, detail: string): void;
  /** The connection takes no more from us and gives no more: `whole`: everything that had come was read. */
  ended(): void;
  /** All connections together hold too much, and this one most: of what comes, or of what it does not read. */
  tooMuch(what: string): void;
  /** Bytes came. */
  active(): void;
  /** What is written to this peer has left. */
  drained(): void;
  /** No message is on its way to this peer any more, after `end`. */
  flushed(): void;
  /** The connection is gone for good. */
  gone(): void;
}

export interface PeerOptions {
  readonly raw: RawConnection;
  /** True: it is the client, whose server end we are: it masks, we do not (RFC 6455 section 5.3). */
  readonly client: boolean;
  readonly deflate: DeflateTerms | null;
  /** Bytes of a message, at least 1. */
  readonly maxPayload: number;
  readonly assembly: Assembly;
  readonly times: Times;
  readonly events: PeerEvents;
}

/** Bytes written and not yet with the operating system, above which the other end is not read. */
const HIGH = 65_536;
const SMALLEST_PIECE = 4_096;
const LARGEST_PIECE = 65_536;

export class Peer implements Holder {
  private readonly socket: Duplex;
  private readonly raw: RawConnection;
  private readonly events: PeerEvents;
  private readonly frames: Omit<Frames, "reader">;
  /** null: nothing is read any more. */
  private reader: FrameReader | null;
  private readonly assembly: Assembly;
  /** What this end does not read, beside what it does not finish: other bytes, and given up in another way. */
  private readonly backlog = { held: 0, giveUp: (): void => this.giveUpUnread() };
  private readonly times: Times;
  /** Bytes of messages that are not whole, and of those that wait for their turn. */
  held = 0;
  private kept = 0;
  private readonly masked: boolean;
  /** What the reader gets at once is small, so that it cannot give out much more than the other end takes. */
  private readonly queue: Pieces;
  /** The reader works on a piece. */
  private busy = false;
  /** The other end is full. */
  private waiting = false;
  /** The connection was told to stop reading. */
  private stopped = false;
  /** Nothing that comes matters any more. */
  private deaf = false;
  private eof = false;
  private told = false;
  private flying = 0;
  /** Messages among what flies. */
  private sending = 0;
  /** A message could not be written. */
  private failed = false;
  /** Bytes that waited when it was looked at last. */
  private left = 0;
  private closing = false;
  private ending = false;
  private closed = false;
  /** Closes a connection that we ended and that does not go by itself. Stopped when it does: a timer keeps all of this in memory. */
  private linger: NodeJS.Timeout | undefined;

  constructor(options: PeerOptions) {
    const { raw, client, events } = options;
    this.raw = raw;
    this.socket = raw.socket;
    this.events = events;
    this.masked = !client;
    this.queue = new Pieces(Math.min(LARGEST_PIECE, Math.max(SMALLEST_PIECE, Math.ceil(options.maxPayload / 4_096))));
    const { reader, ...frames } = framesOf(raw.socket, client, options.deflate, options.maxPayload);
    this.reader = reader;
    this.frames = frames;
    this.assembly = options.assembly;
    this.times = options.times;
    this.listen(reader);
  }

  private listen(reader: FrameReader): void {
    const { events } = this;
    const heard = (act: () => void): void => {
      if (!this.deaf) act();
    };
    reader.on("message", (data: Buffer, binary: boolean) =>
      heard(() => {
        // It is whole now, and must not count twice when it goes on.
        this.weigh();
        events.message(data, binary);
      }),
    );
    reader.on("ping", (data: Buffer) => heard(() => events.ping(data)));
    reader.on("pong", (data: Buffer) => heard(() => events.pong(data)));
    reader.on("conclude", (code: number, reason: Buffer) =>
      heard(() => {
        this.ignore();
        events.closeFrame(code, reason);
      }),
    );
    reader.on("error", (error) =>
      heard(() => {
        this.ignore();
        events.invalid(closeCodeOf(error), error.message);
      }),
    );
  }

  /** Begins to read, with what had come together with the handshake. */
  start(): void {
    const { socket } = this;
    socket.on("end", () => this.finished());
    socket.on("error", () => {});
    socket.on("close", () => this.gone());
    if (socket.destroyed) return this.gone();
    if (this.raw.rest.length > 0) this.take(this.raw.rest);
    if (socket.readableEnded) this.finished();
    else this.raw.read((chunk) => this.take(chunk));
  }

  // ---- reading ----------------------------------------------------------------------------------------------------------

  private take(chunk: Uint8Array): boolean {
    if (this.deaf) return true;
    this.events.active();
    this.queue.add(chunk);
    this.pump();
    this.stopped = this.ready && !this.deaf;
    return !this.stopped;
  }

  /** True: something came that the reader can do something with. */
  private get ready(): boolean {
    return this.reader !== null && this.queue.has(missingIn(this.reader));
  }

  private pump(): void {
    if (this.busy || this.waiting) return;
    const { reader } = this;
    const piece = reader === null ? null : this.queue.next(missingIn(reader));
    if (piece === null || reader === null) return this.rested();
    this.busy = true;
    reader.write(piece, (error) => {
      this.busy = false;
      this.weigh();
      this.cleanUp();
      // What the error means is said by its event.
      if (!error) this.pump();
    });
  }

  /** Says what is held now. Of what is read no more nothing is kept. */
  private weigh(): void {
    if (this.deaf && !this.busy) this.reader = null;
    const held = this.kept + (this.reader === null ? 0 : heldBy(this.reader));
    const by = held - this.held;
    if (by === 0) return;
    this.held = held;
    this.assembly.changed(this, by);
  }

  /** So many bytes of what was given out wait for their turn. */
  keeps(bytes: number): void {
    this.kept = bytes;
    this.weigh();
  }

  giveUp(): void {
    this.ignore();
    this.events.tooMuch("unfinished messages");
  }

  /** Everything that came was read. */
  private rested(): void {
    this.cleanUp();
    if (this.eof && !this.told) {
      this.told = true;
      this.events.ended();
    } else if (this.stopped) {
      this.stopped = false;
      this.socket.resume();
    }
  }

  /** Nothing that comes matters from now on; it is still taken, so that what we write is not reset away. */
  ignore(): void {
    if (this.deaf) return;
    this.deaf = true;
    this.queue.clear();
    this.weigh();
    this.cleanUp();
    if (this.stopped && !this.socket.destroyed) {
      this.stopped = false;
      this.socket.resume();
    }
  }

  private finished(): void {
    this.eof = true;
    if (!this.busy && !this.ready) this.rested();
  }

  private gone(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.linger);
    this.cleanUp();
    this.weighUnread();
    this.finished();
    this.events.gone();
  }

  /** zlib's streams must not be closed under a reader that waits for them, nor lose their context before all is read. */
  private cleanUp(): void {
    if (this.closed && !this.busy && !this.ready) this.frames.compression?.cleanup();
  }

  get isHeld(): boolean {
    return this.waiting;
  }
  /** Stops giving out messages, because the other end is full. */
  hold(): void {
    this.waiting = true;
  }
  release(): void {
    if (!this.waiting) return;
    this.waiting = false;
    this.pump();
  }

  // ---- writing ----------------------------------------------------------------------------------------------------------

  get full(): boolean {
    return this.flying > HIGH;
  }
  get isClosed(): boolean {
    return this.closed;
  }
  /** True: nothing can be written. */
  private get mute(): boolean {
    return this.closing || this.socket.destroyed || this.socket.writableEnded;
  }

  send(data: Buffer, binary: boolean): void {
    if (this.mute) {
      this.failed = true;
      return;
    }
    const options = { binary, compress: this.frames.compresses, fin: true, mask: this.masked };
    this.sending++;
    this.frames.writer.send(data, options, this.counted(data.length, true));
    // Not before it is written: whoever is given up gets a close frame.
    this.weighUnread();
  }
  ping(data: Buffer): void {
    if (!this.mute) this.frames.writer.ping(data, this.masked, this.counted(data.length));
  }
  pong(data: Buffer): void {
    if (!this.mute) this.frames.writer.pong(data, this.masked, this.counted(data.length));
  }

  /** The last frame (RFC 6455 section 5.5.1); 1005: without a code. */
  close(code: number, reason: Buffer | string): void {
    if (this.mute) return;
    this.frames.writer.close(code === 1005 ? undefined : code, reason, this.masked, this.counted(reason.length));
    this.closing = true;
  }

  /** True: a message is on its way to the operating system. */
  get isSending(): boolean {
    return this.sending > 0 && !this.socket.destroyed;
  }
  /** True: a message never got as far as the operating system. */
  get lost(): boolean {
    return this.failed || (this.sending > 0 && this.socket.destroyed);
  }
  /** Bytes that wait to be written. */
  get unsent(): number {
    return this.flying === 0 ? 0 : unsentOf(this.socket);
  }
  /** True: bytes have left, or come, since it was looked at last. */
  moved(): boolean {
    const { left } = this;
    this.left = this.unsent;
    return left !== this.left;
  }

  private counted(bytes: number, message = false): (error?: Error) => void {
    const weight = bytes + 64;
    this.flying += weight;
    return (error) => {
      const wasFull = this.full;
      this.flying -= weight;
      this.weighUnread();
      if (message) this.gotAway(error);
      if (wasFull && !this.full) this.events.drained();
      if (this.ending && this.flying === 0) this.leave();
    };
  }

  private gotAway(error: Error | undefined): void {
    this.sending--;
    // A write that the end of the connection cut off is not always called an error.
    if (error || this.socket.destroyed) this.failed = true;
    if (this.ending && this.sending === 0) this.events.flushed();
  }

  /** Says what waits to be written now, where it is more than usual. */
  private weighUnread(): void {
    const held = this.full && !this.socket.destroyed ? this.flying : 0;
    const by = held - this.backlog.held;
    if (by === 0) return;
    this.backlog.held = held;
    this.assembly.changed(this.backlog, by);
  }

  /** What was written is what is too much: it cannot be waited for. */
  private giveUpUnread(): void {
    this.destroy();
    this.events.tooMuch("messages that are not read");
  }

  /**
   * Ends the connection once everything that was written has left; whoever does not close is closed soon. `patient`: who goes on
   * reading has all the time.
   */
  end(patient: boolean): void {
    this.ignore();
    if (this.ending || this.socket.destroyed) return;
    this.ending = true;
    if (this.flying === 0) return this.leave();
    this.moved();
    this.closeIn(this.times.unread, patient);
  }

  private leave(): void {
    this.socket.end();
    this.closeIn(this.times.linger);
  }

  private closeIn(milliseconds: number, patient = false): void {
    clearTimeout(this.linger);
    if (this.closed) return;
    const late = (): void => {
      if (patient && this.moved()) this.closeIn(milliseconds, true);
      else this.socket.destroy();
    };
    this.linger = setTimeout(late, milliseconds).unref();
  }

  destroy(): void {
    this.socket.destroy();
    this.weighUnread();
  }
}
