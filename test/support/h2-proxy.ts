// A client of the proxy's own port over HTTP/2: sessions, and CONNECTs on streams of them.
import { once } from "node:events";
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from "node:http2";
import net from "node:net";
import tls from "node:tls";

export interface ProxySessionOptions extends http2.SecureClientSessionOptions {
  /** Source address. */
  readonly from?: string;
}

/** The TCP connections under sessions, to cut them. */
export const tcpUnder = new WeakMap<ClientHttp2Session, net.Socket>();

/** A session with the proxy, TLS to it not verified. */
export async function proxySession(port: number, options: ProxySessionOptions = {}): Promise<ClientHttp2Session> {
  const { from = "127.0.0.1", ...rest } = options;
  const tcp = net.connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true }).on("error", () => {});
  const socket = tls.connect({
    socket: tcp,
    ALPNProtocols: ["h2"],
    rejectUnauthorized: false,
    ...(rest.cert === undefined ? {} : { cert: rest.cert }),
    ...(rest.key === undefined ? {} : { key: rest.key }),
  });
  await once(socket, "secureConnect");
  if (socket.alpnProtocol !== "h2") throw new Error("h2 was not chosen");
  const session = http2.connect("https://proxy.test", {
    maxSessionMemory: 1_000,
    ...rest,
    createConnection: () => socket,
  });
  session.on("error", () => {});
  tcpUnder.set(session, tcp);
  return session;
}

export interface Connected {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders;
  readonly stream: ClientHttp2Stream;
}

/** A CONNECT, and its answer. Rejects when it is reset instead. */
export async function connectOver(
  session: ClientHttp2Session,
  authority: string,
  headers: OutgoingHttpHeaders = {},
): Promise<Connected> {
  const request = { ":method": "CONNECT", ":authority": authority, ...headers };
  // `waitForTrailers`: otherwise node:http2 sends END_STREAM before RST_STREAM.
  const stream = session.request(request, { endStream: false, waitForTrailers: true });
  const answer = await new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
    stream.once("response", resolve);
    stream.once("close", () => reject(new Error(`closed with ${stream.rstCode}`)));
    stream.on("error", () => {});
  });
  return { status: Number(answer[":status"]), headers: answer, stream };
}

/** Waits until the stream is gone, however it ends; the code of its RST_STREAM. */
export function closeOf(stream: ClientHttp2Stream): Promise<number> {
  return new Promise((resolve) => {
    if (stream.destroyed) resolve(stream.rstCode ?? 0);
    else stream.once("close", () => resolve(stream.rstCode ?? 0));
  });
}
