// Races connections to the addresses of one host (RFC 8305 section 5): the next one begins when the last has failed or has not
// come about for a while, and those that have begun go on. node:net's `autoSelectFamily` gives each up when the next begins.
import type { Socket } from "node:net";
import { ProxyError, type Reason } from "../../shared/errors.ts";

/** A connection that is being opened. */
export interface Dialling {
  /** Rejects with ProxyError, or with the error of TLS. */
  readonly socket: Promise<Socket>;
  /** Closes it, at any point; the promise rejects if it has not settled. */
  abandon(): void;
}

export interface RaceOptions<A> {
  /** In the order in which they are tried. */
  readonly addresses: readonly A[];
  /** Begins one. `connected` is called in the turn in which TCP stands: the others are given up before they can connect, too. */
  readonly begin: (address: A, connected: () => void) => Dialling;
  /** True when the time of all of them together is over. */
  readonly late: () => boolean;
}

/** Milliseconds after which the next address begins, too: the default of RFC 8305 section 5. */
const HEAD_START = 250;
/** Sockets that one dial may hold at once. A host with more addresses, all of them dead, is as good as dead. */
const MOST = 16;
/** Where all fail, the first of these is the error: an address that answered says more than one that nobody reached. */
const TELLING: readonly Reason[] = ["origin-refused", "origin-connect-timeout", "busy"];

/** Two addresses or more. The promise resolves to the connection that stands first. */
export function race<A>(options: RaceOptions<A>): Dialling {
  const running = new Race(options);
  return { socket: running.socket, abandon: () => running.abandon() };
}

class Race<A> {
  readonly socket: Promise<Socket>;
  private readonly options: RaceOptions<A>;
  private readonly waiting: A[];
  /** Those that have begun and have not failed; once one has won, only that one. */
  private readonly open = new Set<Dialling>();
  private readonly errors: unknown[] = [];
  private over = false;
  private timer: NodeJS.Timeout | undefined;
  private resolve!: (socket: Socket) => void;
  private reject!: (error: unknown) => void;

  constructor(options: RaceOptions<A>) {
    this.options = options;
    this.waiting = options.addresses.slice(0, MOST);
    this.socket = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.next();
  }

  abandon(): void {
    this.end();
    for (const one of this.open) one.abandon();
  }

  /** Begins the next address. */
  private next(): void {
    clearTimeout(this.timer);
    const address = this.waiting.shift();
    if (address === undefined) return;
    const one = this.options.begin(address, () => this.won(one));
    this.open.add(one);
    one.socket.then(this.resolve, (error: unknown) => this.failed(one, error));
    if (this.waiting.length > 0) this.timer = setTimeout(() => this.next(), HEAD_START);
  }

  /** No other address begins. */
  private end(): void {
    this.over = true;
    this.waiting.length = 0;
    clearTimeout(this.timer);
  }

  /** TCP stands. What becomes of it now, in TLS too, is what becomes of the dial. */
  private won(winner: Dialling): void {
    this.end();
    for (const one of this.open) {
      if (one === winner) continue;
      this.open.delete(one);
      one.abandon();
    }
  }

  private failed(one: Dialling, error: unknown): void {
    // Who lost the race fails, too.
    if (!this.open.delete(one)) return;
    this.errors.push(error);
    if (this.over) return this.reject(error);
    if (this.options.late()) {
      this.reject(error);
      return this.abandon();
    }
    if (this.waiting.length > 0) return this.next();
    if (this.open.size === 0) this.reject(mostTelling(this.errors));
  }
}

function mostTelling(errors: readonly unknown[]): unknown {
  for (const reason of TELLING) {
    const found = errors.find((error) => error instanceof ProxyError && error.reason === reason);
    if (found !== undefined) return found;
  }
  return errors[0];
}
