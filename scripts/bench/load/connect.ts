// Connections through a proxy: CONNECT, TLS, and the check of whose certificate the client sees.
import { X509Certificate } from "node:crypto";
import net, { type Socket } from "node:net";
import tls, { type SecureContext, type TLSSocket } from "node:tls";
import type { Job } from "./job.ts";

const CONNECT_MS = 20_000;
/** An address of its own: proxies that look for loops take a client for themselves when the ports happen to be equal. */
const CLIENT = process.platform === "linux" ? { localAddress: "127.0.0.2" } : {};

export interface Way {
  readonly job: Job;
  readonly context: SecureContext;
  /** Common name of the CA whose certificate the client must see. */
  readonly issuer: string;
  /** `name:port` of the origin. */
  readonly authority: string;
  readonly host: string;
}

/** How this job reaches this port of the origin. */
export function wayTo(job: Job, port: number): Way {
  const host = job.way === "tunnel" ? "127.0.0.1" : "localhost";
  return {
    job,
    context: tls.createSecureContext({ ca: job.ca }),
    issuer: commonName(new X509Certificate(job.ca).subject),
    authority: `${host}:${port}`,
    host,
  };
}

/** Of a distinguished name in OpenSSL's one-line-an-attribute form. */
const commonName = (name: string): string => /^CN=(.*)$/m.exec(name)?.[1] ?? name;

/** A connection on which requests can be sent: to the proxy, or to the origin through it. */
export async function openConnection(way: Way, alpn: readonly string[] = ["http/1.1"]): Promise<Socket> {
  const socket = net.connect({ ...CLIENT, port: way.job.proxy, host: "127.0.0.1", noDelay: true });
  const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${CONNECT_MS} ms`)), CONNECT_MS);
  try {
    await event(socket, "connect");
    if (way.job.way === "plain") return socket;
    await askForTunnel(socket, way.authority);
    return await secure(socket, way, alpn);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function askForTunnel(socket: Socket, authority: string): Promise<void> {
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
  let text = "";
  while (!text.includes("\r\n\r\n")) {
    const [chunk] = (await event(socket, "data")) as [Buffer];
    text += chunk.toString("latin1");
  }
  socket.pause();
  if (!/^HTTP\/1\.[01] 200/.test(text)) throw new Error(`CONNECT was answered ${JSON.stringify(text.slice(0, 200))}`);
}

async function secure(socket: Socket, way: Way, alpn: readonly string[]): Promise<TLSSocket> {
  const name = net.isIP(way.host) > 0 ? {} : { servername: way.host };
  const wrapped = tls.connect({
    socket,
    secureContext: way.context,
    host: way.host,
    ALPNProtocols: [...alpn],
    ...name,
  });
  await event(wrapped, "secureConnect");
  const issuer = wrapped.getPeerCertificate().issuer?.CN;
  if (issuer !== way.issuer) throw new Error(`the certificate is from ${issuer}, not from ${way.issuer}`);
  return wrapped;
}

/** The first event of this name, or the error or end that came before it. */
function event(socket: Socket, name: string): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const done = (...values: unknown[]): void => {
      for (const [other, listener] of listeners) socket.off(other, listener);
      resolve(values);
    };
    const fail = (error?: unknown): void => {
      for (const [other, listener] of listeners) socket.off(other, listener);
      reject(error instanceof Error ? error : new Error(`closed before ${name}`));
    };
    const listeners: [string, (...values: unknown[]) => void][] = [
      [name, done],
      ["error", fail],
      ["close", fail],
      ["end", fail],
    ];
    for (const [other, listener] of listeners) socket.on(other, listener);
  });
}
