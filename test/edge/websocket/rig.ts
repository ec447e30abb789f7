// A relay between two real connections on loopback, without the rest of the house: what tests of frames start with.
import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import type { AuditRecord } from "../../../src/audit/record.ts";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";
import { Assembly } from "../../../src/edge/websocket/assembly.ts";
import { joinWebSocket } from "../../../src/edge/websocket/join.ts";
import { TIMES, type Times } from "../../../src/edge/websocket/times.ts";
import type { RawConnection } from "../../../src/exchange/sides.ts";
import type { DeflateTerms } from "../../../src/http/web-socket.ts";
import { LoopTurns } from "../../../src/roles/turns.ts";
import { KnownSecrets } from "../../../src/shared/known-secrets.ts";
import { exchange, type Setup } from "../../stages/content-harness.ts";
import { CollectingSink } from "../../support/collecting-sink.ts";
import { PATIENCE } from "../../support/patience.ts";
import { type ReadFrame, readFrames } from "../../support/web-socket.ts";

/** One for all, as in a house. */
const TURNS = new LoopTurns();

export interface RigOptions extends Partial<Setup> {
  readonly deflate?: DeflateTerms | null;
  /** What came together with the handshake. */
  readonly clientRest?: Buffer;
  /** Shared with other rigs, as the connections of a house do. */
  readonly assembly?: Assembly;
  readonly originRest?: Buffer;
  /** Bytes of the client that the relay gets at once, as when each is a record of TLS. */
  readonly cut?: number;
  /** Instead of those of a house. */
  readonly times?: Partial<Times>;
}

/** The far end of one connection: the client or the origin as the test plays it. */
export class FarEnd {
  readonly socket: Socket;
  /** Bytes so far. */
  length = 0;
  private pieces: Buffer[] = [];
  /** The other side sent FIN. */
  ended = false;
  closed = false;

  constructor(socket: Socket, reading = true) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
    });
    socket.on("end", () => {
      this.ended = true;
    });
    if (reading) this.read();
  }

  read(): void {
    this.socket.on("data", (chunk: Buffer) => {
      this.length += chunk.length;
      this.pieces.push(chunk);
    });
  }

  get bytes(): Buffer {
    if (this.pieces.length !== 1) this.pieces = [Buffer.concat(this.pieces)];
    return this.pieces[0] as Buffer;
  }

  get frames(): ReadFrame[] {
    return readFrames(this.bytes);
  }

  async until(found: (frames: ReadFrame[]) => boolean, milliseconds = PATIENCE): Promise<ReadFrame[]> {
    for (const end = Date.now() + milliseconds; !found(this.frames); await wait(1))
      if (Date.now() > end) throw new Error(`only ${this.frames.map((f) => f.opcode)} (ended: ${this.ended})`);
    return this.frames;
  }

  async gone(milliseconds = PATIENCE): Promise<void> {
    for (const end = Date.now() + milliseconds; !this.ended && !this.closed; await wait(1))
      if (Date.now() > end) throw new Error("still open");
  }
}

export interface Rig {
  readonly client: FarEnd;
  readonly origin: FarEnd;
  readonly sink: CollectingSink;
  readonly open: Set<{ drain(): void; destroy(): void }>;
  record(): Promise<AuditRecord>;
  close(): Promise<void>;
}

export async function startRig(options: RigOptions = {}, reading = { client: true, origin: true }): Promise<Rig> {
  const failures: unknown[] = [];
  const wheel = new TimerWheel((error) => failures.push(error));
  const sink = new CollectingSink();
  const open = new Set<{ drain(): void; destroy(): void }>();
  const [clientFar, clientNear] = await pair();
  const [originFar, originNear] = await pair();
  const x = exchange({ rules: [], ...options });
  const agreement = { deflate: options.deflate ?? null };
  x.webSocket = agreement;
  const clock = { now: () => Date.now(), tick: () => performance.now() };
  joinWebSocket(
    {
      wheel,
      sink,
      clock,
      open,
      secrets: new KnownSecrets(),
      assembly: options.assembly ?? new Assembly(),
      turns: TURNS,
      times: { ...TIMES, ...options.times },
    },
    x,
    agreement,
    raw(clientNear, options.clientRest, options.cut),
    raw(originNear, options.originRest),
  );
  return {
    client: new FarEnd(clientFar, reading.client),
    origin: new FarEnd(originFar, reading.origin),
    sink,
    open,
    record: () => sink.next((record) => record.kind === "upgrade"),
    close: async () => {
      for (const socket of [clientFar, originFar, clientNear, originNear]) socket.destroy();
      wheel.close();
      if (failures.length > 0) throw failures[0];
    },
  };
}

function raw(socket: Socket, rest: Buffer = Buffer.alloc(0), cut = Number.POSITIVE_INFINITY): RawConnection {
  const read = (take: (chunk: Uint8Array) => boolean): void => {
    socket.on("data", (chunk: Buffer) => {
      // Borrowed: whoever keeps it must have copied.
      const lent = Buffer.from(chunk);
      for (let at = 0; at < lent.length; at += cut) if (!take(lent.subarray(at, at + cut))) socket.pause();
      lent.fill(0x55);
    });
    socket.resume();
  };
  return { socket, rest, read };
}

/** Two ends of one connection. */
async function pair(): Promise<[Socket, Socket]> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const far = net.connect({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    allowHalfOpen: true,
    noDelay: true,
  });
  const [[near]] = (await Promise.all([once(server, "connection"), once(far, "connect")])) as [[Socket], unknown];
  server.close();
  return [far, near];
}
