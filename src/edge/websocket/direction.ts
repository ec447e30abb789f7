// What is known of one direction of a WebSocket: its messages are counted, digested and filtered, one whole message at a time.
import { BodyDigest } from "../../audit/body-digest.ts";
import type { BodyRecord, RecordedBody } from "../../audit/record.ts";
import type { Exchange } from "../../exchange/exchange.ts";
import { ProxyError } from "../../shared/errors.ts";
import { contentMessages, type MessageFilter } from "../../stages/content-messages.ts";

/** Bytes of a message when the policy sets no limit for the direction; a message is held until it is whole. */
export const DEFAULT_MESSAGE_LIMIT = 16 * 1024 * 1024;
/** Bytes of a message however large the policy's limit is: it stands in memory. */
export const LARGEST_MESSAGE = 64 * 1024 * 1024;

/** Bytes that are digested at once: about a millisecond. */
const PIECE = 512 * 1024;

export class Direction {
  readonly side: "request" | "response";
  /** Bytes of a message, decompressed. */
  readonly limit: number;
  private readonly exchange: Exchange;
  private filter: MessageFilter | null;
  /** Bytes of a message that the filter searches. */
  private readonly searched: number;
  private readonly digest: BodyDigest;
  private messages = 0;
  private broken = false;
  /** What of a message is not digested yet. */
  private undigested: Buffer | null = null;

  constructor(x: Exchange, side: "request" | "response") {
    const plan = x.decision?.plan ?? x.policy.defaults;
    const limit = plan.limits[side];
    this.side = side;
    this.limit = limit === Number.POSITIVE_INFINITY ? DEFAULT_MESSAGE_LIMIT : Math.min(limit, LARGEST_MESSAGE);
    this.exchange = x;
    this.filter = contentMessages(x, side);
    this.searched = plan.content?.scanLimit ?? Number.POSITIVE_INFINITY;
    this.digest = new BodyDigest(plan.record.bodies, null);
  }

  /**
   * Takes a message, in steps of a few milliseconds; `pass` gets what goes on instead. As for bodies, the digest is of what the
   * client sent and got. Throws a ProxyError when the message must not go on.
   */
  *take(message: Buffer, pass: (data: Buffer) => void): Generator<void, void> {
    if (message.length > this.limit) throw this.tooLarge();
    if (this.side === "request") yield* this.count(message);
    const passed = this.filter === null ? message : bufferOf(yield* this.filter.take(message));
    // A filter gives up at what is too long to be searched, where the policy lets that pass: the next message gets a new one.
    if (message.length > this.searched) this.filter = contentMessages(this.exchange, this.side);
    pass(passed);
    if (this.side === "response") yield* this.count(passed);
  }

  /** True: `take` has one step. */
  isShort(message: Buffer): boolean {
    return this.filter === null && message.length <= PIECE;
  }

  /** Looks at the data of a ping, a pong or a close frame. Throws a ProxyError when it must not go on. */
  control(data: Uint8Array): void {
    this.filter?.control(data);
  }

  tooLarge(): ProxyError {
    const reason = this.side === "request" ? "request-too-large" : "response-too-large";
    return new ProxyError(reason, `a message has more than ${this.limit} bytes`);
  }

  private *count(message: Buffer): Generator<void, void> {
    this.messages++;
    this.undigested = message;
    while (this.digestPiece()) yield;
  }

  /** False: there is no more. */
  private digestPiece(): boolean {
    const rest = this.undigested;
    if (rest === null) return false;
    this.digest.push(rest.subarray(0, PIECE), false);
    this.undigested = rest.length > PIECE ? rest.subarray(PIECE) : null;
    return this.undigested !== null;
  }

  /** The sender's close frame came: the direction is complete. */
  complete(): void {
    this.digest.end();
  }
  get isComplete(): boolean {
    return this.digest.complete;
  }
  /** Not all of it reached the other end. */
  cut(): void {
    this.broken = true;
  }

  /** Ends the digest, which has whole messages only. */
  record(): { readonly body: BodyRecord; readonly captured: RecordedBody | null } {
    while (this.digestPiece());
    const { bytes, sha256, complete, captured } = this.digest;
    return { body: { bytes, sha256, complete: complete && !this.broken, messages: this.messages }, captured };
  }
}

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
