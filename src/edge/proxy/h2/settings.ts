// The settings and bounds of HTTP/2 sessions (RFC 9113 section 6.5). Push is off, and extended CONNECT (RFC 8441) is not
// advertised.
import http2, {
  type ClientSessionOptions,
  type ClientSessionRequestOptions,
  type SecureClientSessionOptions,
  type ServerOptions,
} from "node:http2";
import type { Limits } from "../../../policy/types.ts";

/**
 * Bytes of content that may be under way on a stream, and on a session: enough for 20 Mbit/s at 100 ms, times streams. Only that
 * of the stream holds back who sends faster than is read: node:http2 opens the other again for all that arrives.
 */
export const STREAM_WINDOW = 262_144;
export const SESSION_WINDOW = 2_097_152;
export const MAX_STREAMS = 100;
/**
 * Bytes that were written to the streams of a session and never sent, because the streams were reset. node:http2 counts them as
 * memory of the session for as long as it lasts, and refuses every stream when the sum is above `maxSessionMemory`: a session
 * that comes near takes no new streams.
 */
export const MOST_UNSENT = 8_388_608;
/** Fields of a section; cookie crumbs count one each. */
const MAX_FIELDS = 400;

/**
 * Bytes of a field section that we send, as nghttp2 estimates it (12 more for each field). What goes out is bounded where it
 * came in; nghttp2's own 64 KiB are less than that, and it ends the session over them.
 */
const MAX_SENT_SECTION = 4_194_304;

/** Towards a client. What is a little over the limit for field sections is answered 431; what is far over it is reset. */
export function serverOptions(limits: Limits): ServerOptions {
  return {
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      initialWindowSize: STREAM_WINDOW,
      maxHeaderListSize: Math.max(2 * Math.min(limits.headers, 1_048_576), 65_536),
      enableConnectProtocol: false,
    },
    maxHeaderListPairs: MAX_FIELDS,
    maxSendHeaderBlockLength: MAX_SENT_SECTION,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    maxSettings: 32,
    maxSessionMemory: 16,
    strictFieldWhitespaceValidation: true,
  } as ServerOptions;
}

/** Bytes of the SETTINGS frame that a session with these options begins with. */
export const settingsFrameLength = (options: ServerOptions): number =>
  9 + http2.getPackedSettings(options.settings ?? {}).length;

/**
 * For each request. In full, since node:http2 adds what is missing to a copy, and that is a tenth of what a request costs in
 * Node 20; these are its defaults. From Node 24 on nobody may say a `weight`.
 */
const PRIORITY = {
  ...(Number.parseInt(process.versions.node, 10) < 24 ? { weight: 16 } : {}),
  parent: 0,
  exclusive: false,
  silent: false,
};

export const WITHOUT_CONTENT: ClientSessionRequestOptions = { endStream: true, waitForTrailers: false, ...PRIORITY };
/** END_STREAM waits until we ask for it: an upload that is aborted must not look complete. */
export const WITH_CONTENT: ClientSessionRequestOptions = { endStream: false, waitForTrailers: true, ...PRIORITY };

/** Towards an origin. */
export function clientOptions(): ClientSessionOptions | SecureClientSessionOptions {
  return {
    settings: { enablePush: false, initialWindowSize: STREAM_WINDOW, maxHeaderListSize: 131_072 },
    maxHeaderListPairs: MAX_FIELDS,
    maxSendHeaderBlockLength: MAX_SENT_SECTION,
    maxReservedRemoteStreams: 0,
    maxSessionMemory: 32,
  };
}
