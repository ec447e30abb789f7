// The body step of the content stage for content in a coding.
import { createHash, type Hash } from "node:crypto";
import type { BodyNext, BodyStep } from "../exchange/stage.ts";
import type { Turns, Work } from "../exchange/turns.ts";
import type { Decoder, Decoders } from "../filters/decoder.ts";
import type { Fields } from "../http/fields.ts";
import { asProxyError, ProxyError } from "../shared/errors.ts";
import { CodedScan } from "./content-coded-scan.ts";
import type { StepJob } from "./content-plain-step.ts";

/** Coded bytes that wait, for the decoder or for their decision. */
interface Piece {
  readonly bytes: Uint8Array;
  /** Decoded bytes up to and with this piece; it leaves when they may. */
  plainEnd: number;
}

/** What a step needs of the house. */
interface StepServices {
  readonly decoders: Decoders;
  readonly turns: Turns;
}

/** Coded bytes that are taken in advance of the decoder, and after that the source pauses. */
const QUEUE = 256 * 1024;
/** Coded bytes that may wait for a decision without yielding content. */
const BARREN = 1024 * 1024;
/** Decoded bytes before the ratio counts. */
const RATIO_FROM = 1024 * 1024;

/**
 * Content in a coding: decoded and inspected, while its coded bytes wait beside. They leave as they came unless something is,
 * or may be, replaced: then the decoded content leaves instead.
 */
export class CodedStep implements BodyStep, Work {
  readonly holdsHead: boolean;
  readonly #job: StepJob;
  readonly #next: BodyNext;
  readonly #decoder: Decoder;
  readonly #turns: Turns;
  readonly #beside: CodedScan;
  readonly #digest: Hash = createHash("sha256");
  readonly #queue: Piece[] = [];
  #queued = 0;
  /** Decoded, and waiting for the decision. */
  readonly #held: Piece[] = [];
  #heldBytes = 0;
  /** Decoded bytes that are still to be searched; `#waits`: they wait for their turn, and the decoder for them. */
  #chunk: Uint8Array | null = null;
  readonly #later: Uint8Array[] = [];
  #waits = false;
  /** What comes after them. */
  #then: (() => void) | null = null;
  #coded = 0;
  #plain = 0;
  #sent = 0;
  #busy = false;
  #room = true;
  #sourceWaits = false;
  #ending: { trailers: Fields | null } | null = null;
  #over = false;
  /** True: the decoded content leaves. */
  #edited: boolean;
  /** True: the content cannot be decoded and may pass as it is. */
  #unread = false;

  constructor(job: StepJob, next: BodyNext, { decoders, turns }: StepServices, codings: readonly string[]) {
    this.#turns = turns;
    this.#job = job;
    this.#next = next;
    this.holdsHead = job.holdsHead;
    this.#beside = new CodedScan(job.side);
    this.#decoder = decoders.open(codings, (plain) => this.#take(plain));
    // Where the head does not wait, it already says that the coding is gone.
    this.#edited = job.edits && !job.holdsHead;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over) return true;
    if (this.#unread) return this.#send(chunk);
    this.#guard(() => {
      this.#beside.push(chunk);
    });
    if (this.#over) return true;
    this.#queue.push({ bytes: new Uint8Array(chunk), plainEnd: 0 });
    this.#queued += chunk.length;
    this.#pump();
    this.#sourceWaits = this.#queued >= QUEUE || !this.#room;
    return !this.#sourceWaits;
  }

  end(trailers: Fields | null): void {
    if (this.#over) return;
    this.#ending = { trailers };
    this.#pump();
  }

  #pump(): void {
    if (this.#busy || this.#over || !this.#room) return;
    const piece = this.#queue.shift();
    if (piece === undefined) {
      if (this.#ending !== null) this.#finish(this.#ending.trailers);
      return;
    }
    this.#busy = true;
    this.#queued -= piece.bytes.length;
    this.#coded += piece.bytes.length;
    if (this.#unread) {
      this.#busy = false;
      this.#send(piece.bytes);
      this.#proceed();
      return;
    }
    this.#decoder.write(piece.bytes, (error) => this.#decoded(piece, error));
  }

  #decoded(piece: Piece, error: Error | null): void {
    if (this.#over) return;
    if (this.#waits) {
      this.#then = () => this.#decoded(piece, error);
      return;
    }
    this.#busy = false;
    // What waits in the decoder belongs to content that comes later.
    piece.plainEnd = this.#plain + (this.#decoder.waits ? 1 : 0);
    if (!this.#edited) {
      this.#held.push(piece);
      this.#heldBytes += piece.bytes.length;
    }
    this.#guard(() => {
      if (error !== null) this.#undecodable(error);
      else this.#release();
      if (this.#heldBytes > Math.max(BARREN, this.#job.side.plan.hold * 4))
        throw new ProxyError("decode-limit", "too much coded content that yields nothing");
    });
    this.#proceed();
  }

  /** Goes on with the next piece, and lets the source go on when there is room. */
  #proceed(): void {
    if (this.#over) return;
    if (this.#sourceWaits && this.#room && this.#queued < QUEUE / 2) {
      this.#sourceWaits = false;
      this.#next.drained();
    }
    this.#pump();
  }

  /** Decoded bytes come from the decoder. */
  #take(plain: Uint8Array): void {
    if (this.#over || this.#unread) return;
    this.#plain += plain.length;
    this.#digest.update(plain);
    this.#guard(() => this.#limit());
    if (this.#over) return;
    if (this.#waits) {
      this.#later.push(new Uint8Array(plain));
      return;
    }
    this.#chunk = plain;
    this.#turns.take(this);
    if (this.#chunk === null || this.#over) return;
    this.#chunk = new Uint8Array(this.#chunk);
    this.#waits = true;
    this.#decoder.pause();
  }

  /** Searches the next piece of what was decoded. */
  step(): boolean {
    const chunk = this.#chunk;
    if (this.#over || chunk === null) return false;
    const { piece } = this.#job;
    this.#chunk = chunk.length > piece ? chunk.subarray(piece) : (this.#later.shift() ?? null);
    this.#guard(() => {
      this.#job.inspection.push(chunk.subarray(0, piece));
      this.#decide();
      if (this.#edited) this.#release();
      else if (!this.#job.edits) this.#job.inspection.skip();
    });
    if (this.#over) return false;
    if (this.#chunk !== null) return true;
    if (this.#waits) this.#goOn();
    return false;
  }

  /** Everything was searched that waited. */
  #goOn(): void {
    this.#waits = false;
    if (this.#room || !this.#edited) this.#decoder.resume();
    const then = this.#then;
    this.#then = null;
    then?.();
  }

  #limit(): void {
    const { side } = this.#job;
    if (this.#plain > side.sizeLimit)
      throw new ProxyError("decode-limit", `the decoded content has more than ${side.sizeLimit} bytes`);
    if (this.#plain > RATIO_FROM && this.#plain > this.#coded * side.plan.ratioLimit)
      throw new ProxyError(
        "decode-limit",
        `the content grows more than ${side.plan.ratioLimit} times when it is decoded`,
      );
  }

  /** Once the body is longer than what is held: with replacements possible, it leaves decoded. */
  #decide(): void {
    if (!this.#job.edits || this.#edited || this.#job.inspection.holding) return;
    if (this.#job.inspection.ended && !this.#job.inspection.changed) return;
    this.#edited = true;
    this.#held.length = 0;
    this.#heldBytes = 0;
    this.#job.adapt(true);
  }

  #release(): void {
    const { inspection } = this.#job;
    if (inspection.holding) return;
    if (this.#edited) {
      inspection.emit((bytes) => {
        this.#send(bytes);
      });
      return;
    }
    const safe = inspection.free ? Number.POSITIVE_INFINITY : inspection.safe;
    for (let piece = this.#held[0]; piece !== undefined && piece.plainEnd <= safe; piece = this.#held[0]) {
      this.#held.shift();
      this.#heldBytes -= piece.bytes.length;
      this.#send(piece.bytes);
    }
  }

  #send(bytes: Uint8Array): boolean {
    this.#sent += bytes.length;
    if (this.#next.write(bytes)) return true;
    // Coded bytes leave once a piece; decoded ones could be many more.
    if (this.#room && this.#edited) this.#decoder.pause();
    this.#room = false;
    this.#sourceWaits = true;
    return false;
  }

  #finish(trailers: Fields | null): void {
    this.#busy = true;
    if (this.#unread) {
      this.#complete(trailers);
      return;
    }
    this.#decoder.end((error) => {
      if (this.#waits) this.#then = () => this.#ended(error, trailers);
      else this.#ended(error, trailers);
    });
  }

  #ended(error: Error | null, trailers: Fields | null): void {
    this.#guard(() => {
      if (error !== null) this.#undecodable(error);
      else {
        this.#job.inspection.end();
        this.#decide();
        this.#release();
      }
      this.#complete(trailers);
    });
  }

  #complete(trailers: Fields | null): void {
    this.#guard(() => {
      const last = trailers === null ? null : this.#job.trailers(trailers);
      this.#close();
      this.#next.end(last);
    });
  }

  /** The coding is broken. Where that may pass, the coded bytes leave as they came. */
  #undecodable(error: Error): void {
    if (error instanceof ProxyError) throw error;
    const { side } = this.#job;
    side.unscannable(`its coding is broken (${error.message})`, side.undecodable);
    if (this.#edited) throw new ProxyError(side.undecodable, "the coding breaks after decoded content was sent");
    this.#unread = true;
    for (const piece of this.#held.splice(0)) this.#send(piece.bytes);
  }

  #guard(work: () => void): void {
    if (this.#over) return;
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const { side, inspection } = this.#job;
    if (!inspection.holding && !this.#edited) this.#release();
    this.#close();
    if (this.#sent > 0) side.x.note(`content-cut:${side.direction}:${this.#sent} bytes were out`);
    this.#next.fail(asProxyError(error));
  }

  /** Frees everything and writes down the digest of what was decoded. */
  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue.length = 0;
    this.#held.length = 0;
    this.#chunk = null;
    this.#later.length = 0;
    this.#then = null;
    this.#decoder.close();
    const decoded = { bytes: this.#plain, sha256: this.#digest.digest("hex") };
    if (this.#job.side.direction === "request") this.#job.side.x.sentDecoded = decoded;
    else this.#job.side.x.receivedDecoded = decoded;
  }

  resume(): void {
    if (this.#room) return;
    this.#room = true;
    if (!this.#waits) this.#decoder.resume();
    this.#proceed();
  }

  abort(): void {
    this.#close();
  }
}
