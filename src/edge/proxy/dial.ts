// Opens connections to checked addresses, and to nothing else: the address that was checked is the address that is dialled
// (invariant 1). Several addresses race (address-race.ts).
import net from "node:net";
import tls from "node:tls";
import type { Authority } from "../../http/messages.ts";
import { Head, parseResponseHead } from "../../http/parse-head.ts";
import { authorityText } from "../../http/target.ts";
import { ProxyError } from "../../shared/errors.ts";
import { type Dialling, race } from "./address-race.ts";
import type { TimerWheel } from "./timers.ts";

/** An address that the guard let pass. */
export interface CheckedAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

/** Reads go to a buffer that all connections share; see node:net `onread`. */
export interface OnRead {
  readonly buffer: Uint8Array;
  callback(n: number, buffer: Uint8Array): boolean;
}

export interface DialOptions {
  readonly addresses: readonly CheckedAddress[];
  readonly port: number;
  /** Milliseconds for TCP and TLS together. */
  readonly timeout: number;
  readonly wheel: TimerWheel;
  readonly onread: OnRead | null;
  /** TLS options (from the TLS edge), or null for plain TCP. */
  readonly tls: tls.ConnectionOptions | null;
  /** Called when TCP stands, before TLS. */
  readonly connected?: () => void;
}

/** Dials. The promise rejects with ProxyError (or with the TLS error, which the TLS edge classifies). */
export function dial(options: DialOptions): Dialling {
  const { addresses, timeout, wheel } = options;
  const first = addresses[0];
  if (first === undefined) return { socket: Promise.reject(new ProxyError("origin-unresolved")), abandon: () => {} };
  if (addresses.length === 1) return dialOne(first, options);
  const end = wheel.now + timeout;
  const begin = (address: CheckedAddress, won: () => void): Dialling => {
    const connected = (): void => {
      won();
      options.connected?.();
    };
    return dialOne(address, { ...options, addresses: [address], timeout: end - wheel.now, connected });
  };
  return race({ addresses, begin, late: () => wheel.now >= end });
}

/** Where TLS is wanted it begins with the connection, so in a race only one address is ever told of it. */
function dialOne({ address }: CheckedAddress, options: DialOptions): Dialling {
  const base = {
    host: address,
    port: options.port,
    noDelay: true,
    // The other side may end its half first: a tunnel goes on in the other direction.
    allowHalfOpen: true,
    lookup: refuseLookup,
    autoSelectFamily: false,
    onread: options.onread as unknown,
  } as net.TcpNetConnectOpts;
  const socket =
    options.tls === null ? net.connect(base) : tls.connect({ ...options.tls, ...(base as tls.ConnectionOptions) });
  return { socket: settle(socket, options), abandon: () => socket.destroy() };
}

/** The checked addresses and no others: an address needs no lookup, and a name is never resolved again. */
const refuseLookup: net.LookupFunction = (name, _wanted, callback) =>
  callback(new ProxyError("address-prohibited", `${name} is no address that was checked`), "", 0);

function settle(socket: net.Socket, options: DialOptions): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    let stage: "connect" | "tls" = "connect";
    const fail = (error: Error): void => {
      deadline.stop();
      socket.off("error", onError);
      socket.off("close", onClose);
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const onError = (error: Error): void => fail(stage === "connect" ? connectError(error) : error);
    const onClose = (): void =>
      fail(new ProxyError(stage === "connect" ? "origin-unreachable" : "origin-tls", "the connection was closed"));
    const expire = (): void =>
      fail(
        new ProxyError("origin-connect-timeout", stage === "connect" ? undefined : "the TLS handshake took too long"),
      );
    const deadline = options.wheel.start({ expire }, options.timeout);
    socket.on("error", onError);
    socket.on("close", onClose);
    const done = (): void => {
      deadline.stop();
      socket.off("error", onError);
      socket.off("close", onClose);
      resolve(socket);
    };
    socket.once("connect", () => {
      const { remoteAddress } = socket;
      // Reset before anybody could ask who it is: nothing is known to be wrong with the address, and nothing was sent.
      if (remoteAddress === undefined)
        return fail(new ProxyError("origin-unreachable", "the connection was reset at once"));
      if (!options.addresses.some((a) => sameAddress(a.address, remoteAddress))) {
        return fail(new ProxyError("address-prohibited", "the connection went to an address that was not checked"));
      }
      options.connected?.();
      stage = "tls";
      if (options.tls === null) done();
    });
    if (options.tls !== null) socket.once("secureConnect", done);
  });
}

/** Node shows an IPv4 peer of a dual-stack socket as ::ffff:a.b.c.d; IPv6 text may differ in form only. */
function sameAddress(checked: string, dialled: string): boolean {
  if (dialled === checked || dialled === `::ffff:${checked}`) return true;
  if (!net.isIPv6(checked) || !net.isIPv6(dialled)) return false;
  const list = new net.BlockList();
  list.addAddress(checked, "ipv6");
  return list.check(dialled, "ipv6");
}

/** A failed TCP connection, in the words of the table. */
export function connectError(error: Error): ProxyError {
  if (error instanceof ProxyError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (code === "ECONNREFUSED") return new ProxyError("origin-refused", undefined, { cause: error });
  if (code === "ETIMEDOUT") return new ProxyError("origin-connect-timeout", undefined, { cause: error });
  if (code === "EMFILE" || code === "ENFILE")
    return new ProxyError("busy", "no file descriptor is free", { cause: error });
  return new ProxyError("origin-unreachable", code === "" ? undefined : `the origin cannot be reached (${code})`, {
    cause: error,
  });
}

/** A next proxy that answered and opened no tunnel. */
export class TunnelRefused extends ProxyError {
  /** The status that it gave. */
  readonly answered: number;
  /** The phrase is the next proxy's: it may say why, and is shown without what a terminal could take for more than text. */
  constructor({ status, phrase }: Head) {
    const said = phrase.replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
    const answer = `the next proxy answered ${status} ${said}`.trimEnd();
    super("next-proxy-refused", status === 407 ? "the next proxy wants other credentials" : answer);
    this.answered = status;
  }
}

/**
 * Asks a next proxy for a tunnel (RFC 9110 section 9.3.6) on a connected socket without `onread`. `chain`: the value of Via.
 * Resolves to what came behind the answer. Rejects with ProxyError.
 */
export function askForTunnel(
  socket: net.Socket,
  to: Authority,
  chain: string,
  authorization: string | null,
  timeout: number,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const finish = (error: ProxyError | null, rest?: Buffer): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("error", onFailed).off("end", onFailed).off("close", onFailed);
      socket.pause();
      if (error === null) return resolve(rest as Buffer);
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const onFailed = (): void => finish(new ProxyError("origin-incomplete", "the next proxy closed the connection"));
    const timer = setTimeout(
      () => finish(new ProxyError("origin-connect-timeout", "the next proxy did not answer in time")),
      timeout,
    );
    const onData = (b: Buffer): void => {
      held = Buffer.concat([held, b]);
      for (;;) {
        const head = new Head();
        const end = parseResponseHead(held, 0, held.length, head, 32_768);
        if (end === 0) return;
        if (end < 0) return finish(new ProxyError("origin-protocol", "the next proxy's answer is not valid"));
        held = held.subarray(end);
        if (head.status >= 100 && head.status < 200) continue;
        if (head.status > 299) return finish(new TunnelRefused(head));
        return finish(null, Buffer.from(held));
      }
    };
    socket.on("data", onData).on("error", onFailed).on("end", onFailed).on("close", onFailed);
    const name = authorityText(to);
    const credential = authorization ? `Proxy-Authorization: ${authorization}\r\n` : "";
    // Fields of others are bytes that were read as Latin-1.
    socket.write(`CONNECT ${name} HTTP/1.1\r\nHost: ${name}\r\nVia: ${chain}\r\n${credential}\r\n`, "latin1");
  });
}
