// The certificate of the other end of a TLS connection, also where Node does not give it.
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { childrenOf, decode, encode, isTagged } from "./der.ts";

/**
 * The certificate of the other end, or null. Not by `getPeerX509Certificate`: in Node 20 that takes the leaf out of the
 * connection's own chain when the other end is a server, so that the next to ask gets nothing or the issuer.
 */
export function peerCertificate(socket: TLSSocket): X509Certificate | null {
  const { raw } = socket.getPeerCertificate();
  if (raw !== undefined) return new X509Certificate(raw);
  return socket.isSessionReused() ? certificateOfSession(socket.getSession()) : null;
}

/**
 * A resumed connection has no chain, but its session holds the certificate that it began with: tag 3 of OpenSSL's
 * SSL_SESSION. What cannot be read counts as no certificate, and is refused.
 */
function certificateOfSession(session: Buffer | undefined): X509Certificate | null {
  if (session === undefined) return null;
  try {
    const peer = childrenOf(decode(session)).find((node) => isTagged(node, 3));
    const certificate = childrenOf(peer)[0];
    return certificate === undefined ? null : new X509Certificate(encode(certificate));
  } catch {
    return null;
  }
}
