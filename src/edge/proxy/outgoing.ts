// What leaves through a socket: pieces are copied into pooled slabs, and a slab is written when it is full, when a short
// piece says that nothing more is waiting behind it, or at the end of the turn. At most two writes are in flight, so that
// memory is bounded and backpressure is one boolean.
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { HeadSink } from "../../http/serialise.ts";

const LARGE = 131_072;
const SMALL = 8_192;
/** The plaintext of a full TLS record: a piece at least this long probably has more behind it. */
const RECORD = 16_384;
const largeSlabs: Buffer[] = [];
const smallSlabs: Buffer[] = [];

const takeSmall = (): Buffer => smallSlabs.pop() ?? Buffer.allocUnsafeSlow(SMALL);
const takeLarge = (): Buffer => largeSlabs.pop() ?? Buffer.allocUnsafeSlow(LARGE);
function give(slab: Buffer): void {
  if (slab.length === SMALL) {
    if (smallSlabs.length < 256) smallSlabs.push(slab);
  } else if (largeSlabs.length < 32) largeSlabs.push(slab);
}

/** Told when there is room again after `bytes` or `text` returned false. */
export interface Drains {
  outgoingDrained(): void;
}

export class Outgoing implements HeadSink {
  private slab: Buffer | null = null;
  private used = 0;
  private flying = 0;
  /** The slabs in flight, the oldest first. */
  private readonly slabs: Buffer[] = [];
  private armed = false;
  private blocked = false;
  private ended = false;
  private after: (() => void) | null = null;
  /** While true, nothing leaves but what overflows a slab: the end of a message waits for its record. */
  held = false;
  /** Writes that have left so far: while the number grows, the other side reads. */
  landings = 0;
  private readonly socket: Duplex;
  private readonly owner: Drains;
  /** What a write passes on is with the operating system when the call returns, unless there is no room: TCP without TLS. */
  private readonly prompt: boolean;

  constructor(socket: Duplex, owner: Drains) {
    this.socket = socket;
    this.owner = owner;
    this.prompt = socket instanceof Socket && !(socket instanceof TLSSocket);
  }

  /** True when nothing waits and nothing is in flight. */
  get idle(): boolean {
    return this.used === 0 && this.flying === 0;
  }

  /** True while the other side has to read before more is to be written: `outgoingDrained` follows. */
  get full(): boolean {
    return this.blocked;
  }

  /** True while something has not been given to the socket yet. */
  get waits(): boolean {
    return this.used > 0;
  }

  /** Latin-1 text (heads, chunk sizes). Does not flush: content or `flush` follows. */
  text(text: string): void {
    const n = text.length;
    if (n > LARGE) {
      this.copy(Buffer.from(text, "latin1"), 0, n);
      return;
    }
    this.room(n);
    this.used = put(this.slab as Buffer, this.used, text);
  }

  /** A field line. Does not flush either. */
  line(name: string, value: string): void {
    const n = name.length + value.length + 4;
    if (n > LARGE) return this.text(`${name}: ${value}\r\n`);
    this.room(n);
    const slab = this.slab as Buffer;
    let at = put(slab, this.used, name);
    slab[at++] = 58;
    slab[at++] = 32;
    at = put(slab, at, value);
    slab[at++] = 13;
    slab[at++] = 10;
    this.used = at;
  }

  /** Content, copied. False: pause the source. */
  bytes(b: Uint8Array, start: number, end: number): boolean {
    const n = end - start;
    this.copy(b, start, end);
    this.more(n);
    return !this.blocked;
  }

  /** A chunk of the chunked coding (RFC 9112 section 7.1), copied. False: pause the source. */
  chunk(b: Uint8Array): boolean {
    this.text(`${b.length.toString(16)}\r\n`);
    this.held = true; // it leaves together with its line end
    this.bytes(b, 0, b.length);
    this.held = false;
    this.text("\r\n");
    this.more(b.length);
    return !this.blocked;
  }

  /** A piece of `n` bytes is whole: it leaves now when it is short, at the end of the turn when more may be behind it. */
  more(n: number): void {
    if (this.used === 0 || this.held) return;
    if (n < RECORD) {
      if (this.flying === 0) this.send();
    } else this.arm();
  }

  /** Leaves at the end of this turn at the latest. */
  arm(): void {
    if (this.armed || this.flying > 0) return;
    this.armed = true;
    if (armed.push(this) === 1) setImmediate(turnEnds);
  }

  /** The turn in which `arm` was called is over. A bug costs this connection, and not those behind it. */
  turnEnded(): void {
    this.armed = false;
    try {
      if (this.flying === 0 && this.used > 0 && !this.held) this.send();
    } catch (error) {
      this.socket.destroy(error as Error);
    }
  }

  /** What waits leaves now. */
  flush(): void {
    this.held = false;
    if (this.used > 0 && this.flying < 2) this.send();
  }

  /** Flushes; when everything has left, the writing side of the socket is ended and `after` is called. */
  end(after?: () => void): void {
    this.ended = true;
    this.after = after ?? null;
    this.flush();
    this.finish();
  }

  private finish(): void {
    if (!this.ended || this.used > 0 || this.flying > 0) return;
    this.ended = false;
    this.socket.end();
    this.after?.();
  }

  private room(n: number): void {
    if (this.slab === null) {
      this.slab = n <= SMALL ? takeSmall() : takeLarge();
      this.used = 0;
    } else if (this.slab.length - this.used < n) {
      if (this.slab.length === SMALL) this.grow();
      if (this.slab.length - this.used < n) {
        this.send();
        this.slab = takeLarge();
        this.used = 0;
      }
    }
  }

  /** A small slab is full and more is coming: go on in a large one. */
  private grow(): void {
    const small = this.slab as Buffer;
    const large = takeLarge();
    small.copy(large, 0, 0, this.used);
    give(small);
    this.slab = large;
  }

  private copy(b: Uint8Array, start: number, end: number): void {
    while (start < end) {
      if (this.slab === null) {
        this.slab = end - start <= SMALL ? takeSmall() : takeLarge();
        this.used = 0;
      } else if (this.slab.length === SMALL && SMALL - this.used < end - start) this.grow();
      const slab = this.slab;
      const n = Math.min(end - start, slab.length - this.used);
      if (n <= 64) for (let i = 0; i < n; i++) slab[this.used + i] = b[start + i] as number;
      else slab.set(start === 0 && n === b.length ? b : b.subarray(start, start + n), this.used);
      start += n;
      this.used += n;
      if (this.used === slab.length && start < end) this.send();
    }
  }

  private send(): void {
    const slab = this.slab as Buffer;
    const piece = this.used === slab.length ? slab : slab.subarray(0, this.used);
    this.slab = null;
    this.used = 0;
    if (this.prompt && this.flying === 0 && this.sent(piece)) return give(slab);
    if (++this.flying >= 2) this.blocked = true;
    this.slabs.push(slab);
    // Behind a piece that is on its way already: the end of nothing is the end of that.
    this.socket.write(this.prompt && this.flying === 1 ? NOTHING : piece, this.landed);
  }

  /** True: the piece has left already. A callback would say so a turn later, and cost a microsecond. */
  private sent(piece: Buffer): boolean {
    this.socket.write(piece);
    return this.socket.writableLength === 0;
  }

  /** Writes end in the order in which they began. One function for all of them. */
  private readonly landed = (): void => {
    give(this.slabs.shift() as Buffer);
    this.flying--;
    this.landings++;
    if (this.flying === 0 && this.used > 0 && !this.held) this.send();
    if (this.blocked && this.flying < 2) {
      this.blocked = false;
      this.owner.outgoingDrained();
    }
    this.finish();
  };
}

const NOTHING = Buffer.alloc(0);

/** Longer texts are written by Node, shorter ones faster here. */
const SHORT = 64;

/** Writes the text, for which there is room. Returns where it ends. */
function put(slab: Buffer, at: number, text: string): number {
  const n = text.length;
  if (n > SHORT) return at + slab.write(text, at, n, "latin1");
  for (let i = 0; i < n; i++) slab[at + i] = text.charCodeAt(i);
  return at + n;
}

/** Whose bytes leave at the end of this turn: one after the other, so that whoever reads them is woken once for many. */
let armed: Outgoing[] = [];

function turnEnds(): void {
  const now = armed;
  armed = [];
  for (const out of now) out.turnEnded();
}
