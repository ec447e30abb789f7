// A request on its way to a connection, and what is remembered of origins so that it takes the shortest one.
import type { OpenRequest, OriginEvents } from "../../exchange/sides.ts";
import type { NextProxy } from "../../policy/types.ts";
import type { Again } from "./h2/origin-stream.ts";
import { Replay } from "./h2/replay.ts";

/** One request that wants a connection. It may be sent a second time where the first cannot have mattered. */
export class Opening {
  readonly request: OpenRequest;
  readonly events: OriginEvents;
  readonly via: NextProxy | null;
  key = "";
  /** Without content, and without effect at the origin (RFC 9110 section 9.2.1). */
  readonly safe: boolean;
  readonly upgrade: boolean;
  /** The client speaks HTTP/2, so that it is offered first: gRPC needs it, and its trailers pass. */
  readonly prefersHttp2: boolean;
  /** The client spoke HTTP/2 in clear text without asking, so the origin is spoken to likewise (RFC 9113 section 3.3). */
  readonly priorKnowledge: boolean;
  onlyHttp1 = false;
  abandoned = false;
  /** How to stop what was begun for it. */
  giveUp: (() => void) | null = null;
  /** The connection that it was sent on, when that was one that waited in the pool. */
  connection: { abort(): void } | null = null;
  private tried = false;
  /** The beginning of the content, where it may have to go out once more. */
  private readonly replay: Replay | null;

  constructor(request: OpenRequest, events: OriginEvents, via: NextProxy | null, safeMethod: boolean) {
    const { received, forward, connection } = request.exchange;
    this.request = request;
    this.via = via;
    this.upgrade = request.upgrade !== null;
    this.safe = request.length === 0 && safeMethod && !this.upgrade;
    const toOrigin = received.scheme === "http" && forward.scheme === "http" && via === null;
    // On the proxy port HTTP/2 was agreed with us, and nothing is known of the origin.
    const clear = toOrigin && connection.connect !== null;
    this.priorKnowledge = received.version === "2" && clear;
    this.prefersHttp2 = received.version === "2" && (forward.scheme === "https" || clear);
    this.replay = this.prefersHttp2 && request.length !== 0 ? new Replay(events) : null;
    this.events = this.replay ?? events;
  }

  /** Part of the pool's key: what was negotiated for one flavour may not suit another. */
  get flavour(): string {
    return this.priorKnowledge ? "h2c" : this.prefersHttp2 ? "h2" : "h1";
  }

  /** No HTTP/2 session serves it: what asks for an upgrade would lose that there (RFC 9113 section 8.2.2). */
  get needsHttp1(): boolean {
    return this.upgrade || this.onlyHttp1;
  }

  /** The protocols to offer in TLS, in order of preference. */
  get alpn(): readonly string[] {
    if (this.needsHttp1) return ["http/1.1"];
    return this.prefersHttp2 ? ["h2", "http/1.1"] : ["http/1.1", "h2"];
  }

  /** Once; with content only what was certainly not processed, while all of the content is still here. */
  mayGoAgain(why: Again): boolean {
    if (this.tried || this.abandoned) return false;
    if (this.request.length !== 0 && (why !== "refused" || this.replay?.rewind() !== true)) return false;
    if (why === "stale" && !this.safe) return false;
    this.tried = true;
    return true;
  }

  abandon(): void {
    this.abandoned = true;
    if (this.connection !== null) this.connection.abort();
    else this.giveUp?.();
  }
}

/** A dial, the request that began it, and those that wait for the session that it may bring. Nobody left: it is given up. */
export class Joined {
  private readonly all: Opening[] = [];
  private readonly abandon: () => void;

  constructor(first: Opening, abandon: () => void) {
    this.abandon = abandon;
    this.add(first);
  }

  add(o: Opening): void {
    this.all.push(o);
    o.giveUp = () => this.left();
  }

  /** The dial is over: from here on nobody's leaving can stop it. Returns who is still there. */
  end(): readonly Opening[] {
    for (const one of this.all) one.giveUp = null;
    return this.all.filter((one) => !one.abandoned);
  }

  private left(): void {
    if (this.all.every((one) => one.abandoned)) this.abandon();
  }
}

const REMEMBERED = 2_000;

/** Which origins do not speak HTTP/2, so that requests do not wait for each other's dial. */
export class Versions {
  private readonly old = new Set<string>();

  isHttp1(key: string): boolean {
    return this.old.size > 0 && this.old.has(key);
  }

  http1(key: string): void {
    if (this.old.size >= REMEMBERED) this.old.clear();
    this.old.add(key);
  }

  forget(): void {
    this.old.clear();
  }
}

const MOST = 262_144;

/** What an origin sent before anybody could read it (an HTTP/2 origin begins with its settings). */
export class EarlyBytes {
  private readonly pieces: Buffer[] = [];
  length = 0;

  /** Copies from the shared buffer. False: that is more than a beginning. */
  take(n: number, shared: Uint8Array): boolean {
    if (this.length < MOST) {
      this.pieces.push(Buffer.from(shared.subarray(0, n)));
      this.length += n;
    }
    return this.length < MOST;
  }

  bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }
}
