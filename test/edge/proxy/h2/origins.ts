// HTTP/2 origins (node:http2) that say what they got.
import { once } from "node:events";
import http2, { type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { KeyAndCertificate } from "../../../support/certificates.ts";

export interface Seen {
  readonly headers: IncomingHttpHeaders;
  /** Flat, as received. */
  readonly raw: readonly string[];
  readonly session: ServerHttp2Session;
  content: Buffer;
  trailers: IncomingHttpHeaders | null;
  /** END_STREAM came, and no reset. */
  whole: boolean;
  code: number | null;
}

export interface H2Origin {
  readonly port: number;
  readonly seen: readonly Seen[];
  readonly sessions: readonly ServerHttp2Session[];
  /** Cuts all connections. */
  cut(): void;
  close(): Promise<void>;
}

export type H2Handler = (stream: ServerHttp2Stream, seen: Seen, number: number) => void;

/** Starts one on 127.0.0.1: with TLS (and h1 for those who want it), or in clear text when there is no certificate. */
export async function startH2Origin(
  handler: H2Handler,
  leaf: KeyAndCertificate | null,
  settings: http2.Settings = {},
  maxSendHeaderBlockLength = 65_536,
): Promise<H2Origin> {
  const seen: Seen[] = [];
  const sessions: ServerHttp2Session[] = [];
  const server =
    leaf === null
      ? http2.createServer({ settings, maxSendHeaderBlockLength })
      : http2.createSecureServer({ ...leaf, settings, maxSendHeaderBlockLength, allowHTTP1: false });
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  server.on("session", (session) => {
    sessions.push(session);
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers, _flags, raw?: string[]) => {
    const one: Seen = {
      headers,
      raw: raw ?? [],
      session: stream.session as ServerHttp2Session,
      content: Buffer.alloc(0),
      trailers: null,
      whole: false,
      code: null,
    };
    seen.push(one);
    stream.on("error", () => {});
    stream.on("trailers", (trailers) => {
      one.trailers = trailers;
    });
    stream.on("close", () => {
      one.code = stream.rstCode ?? 0;
    });
    stream.on("end", () => {
      one.whole = !stream.aborted && stream.rstCode === 0;
    });
    handler(stream, one, seen.length - 1);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    sessions,
    cut,
    close: async () => {
      for (const session of sessions) session.destroy();
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}

/** Reads the content to its end, then answers. */
export const answering =
  (
    headers: http2.OutgoingHttpHeaders,
    content: string | Buffer = "",
    trailers: http2.OutgoingHttpHeaders | null = null,
  ): H2Handler =>
  (stream, seen) => {
    const pieces: Buffer[] = [];
    stream.on("data", (b: Buffer) => pieces.push(b));
    stream.on("end", () => {
      seen.content = Buffer.concat(pieces);
      if (stream.destroyed || stream.closed) return;
      stream.respond({ ":status": 200, ...headers }, { waitForTrailers: trailers !== null });
      if (trailers !== null) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
      stream.end(content);
    });
  };
