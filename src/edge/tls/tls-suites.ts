// The TLS that we speak: versions 1.2 and 1.3, forward secrecy and AEAD only (RFC 9325 sections 3.1.1 and 4.2).

import { constants } from "node:crypto";

export const MIN_VERSION = "TLSv1.2";
export const MAX_VERSION = "TLSv1.3";

const TLS13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const ECDHE = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** Towards clients. */
export const SERVER_CIPHERS = `${TLS13}:${ECDHE}`;
/** Towards origins; level 2 refuses RSA keys below 2048 bits and SHA-1 signatures in their chains. */
export const ORIGIN_CIPHERS = `${TLS13}:${ECDHE}:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=2`;

/**
 * Of contexts that clients speak to: a second handshake on a connection (TLS 1.2) could name somebody else after names were
 * compared, costs us more than the client, and is forbidden under HTTP/2 (RFC 9113 section 9.2.1).
 */
export const SERVER_OPTIONS: number = constants.SSL_OP_NO_RENEGOTIATION;
