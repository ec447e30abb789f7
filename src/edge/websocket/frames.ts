// The door to the library that reads and writes frames: the three classes of `ws` that work without its client and server,
// which its types leave out, and what its errors mean on the wire.
import { createRequire } from "node:module";
import type { Duplex, Writable } from "node:stream";
import type { DeflateTerms } from "../../http/web-socket.ts";

type Sent = (error?: Error) => void;

/** What the library keeps of messages that are not whole. Not documented: `tried` fails when it is not there. */
interface Kept {
  readonly _bufferedBytes: number;
  readonly _messageLength: number;
  readonly _payloadLength: number;
  readonly _state: unknown;
}

/** Reads frames. Emits `message` (data, binary), `ping`, `pong` (data), `conclude` (code, reason), `error`. */
export type FrameReader = Writable & Kept;

/** Bytes that the reader holds: of a frame that is not whole, and of the fragments before it, inflated. */
export const heldBy = (reader: FrameReader): number => reader._bufferedBytes + reader._messageLength;

/** The state of a reader that has read the header of a frame. */
let inFrame: unknown;

/** Bytes without which the reader can do nothing: what is missing of a frame whose header it has read, or just one. */
export const missingIn = (reader: FrameReader): number =>
  reader._state === inFrame ? reader._payloadLength - reader._bufferedBytes : 1;

/** Writes frames, in order, also while it compresses. */
export interface FrameWriter {
  send(data: Buffer, options: { binary: boolean; compress: boolean; fin: boolean; mask: boolean }, sent: Sent): void;
  ping(data: Buffer, mask: boolean, sent: Sent): void;
  pong(data: Buffer, mask: boolean, sent: Sent): void;
  close(code: number | undefined, reason: Buffer | string, mask: boolean, sent: Sent): void;
}

export interface Compression {
  /** Frees the streams. Only when the reader is at rest and the socket is destroyed. */
  cleanup(): void;
}

interface Library {
  readonly Receiver: new (options: {
    isServer: boolean;
    extensions: Record<string, unknown>;
    maxPayload: number;
    maxFragments: number;
  }) => FrameReader;
  readonly Sender: new (socket: Duplex, extensions: Record<string, unknown>) => FrameWriter;
  readonly PerMessageDeflate: new (options: {
    isServer: boolean;
    maxPayload: number;
    zlibDeflateOptions: { level: number };
  }) => Compression & { accept(configurations: Record<string, (string | true)[]>[]): unknown };
}
let library: Library | null = null;
/** Loaded for the first WebSocket, so that a start does not wait for it. */
function loaded(): Library {
  library ??= tried(createRequire(import.meta.url)("ws") as unknown as Library);
  return library;
}

/** Sees that the library says what it holds, and learns what its readers call the state between a header and its data. */
function tried(found: Library): Library {
  const reader = new found.Receiver({ isServer: false, extensions: {}, maxPayload: 5, maxFragments: 1 });
  reader.write(Buffer.of(0x82, 5, 0));
  inFrame = reader._state;
  if (heldBy(reader) !== 1 || missingIn(reader) !== 4)
    throw new Error("the WebSocket library does not say what it holds");
  return found;
}

/** Pieces of one message: each costs an object until the message is whole. */
export const MAX_FRAGMENTS = 16_384;
/** Fast: what is compressed here was compressed before and will be read at once. */
const LEVEL = 3;

export interface Frames {
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
  readonly compression: Compression | null;
  /** False: messages are written as they are. */
  readonly compresses: boolean;
}

/** Frames of one connection. `server`: we are its server end. `maxPayload`: bytes of a message that is read, at least 1. */
export function framesOf(socket: Duplex, server: boolean, terms: DeflateTerms | null, maxPayload: number): Frames {
  const { Receiver, Sender } = loaded();
  const compression = terms === null ? null : compressionOf(terms, server, maxPayload);
  const extensions = compression === null ? {} : { "permessage-deflate": compression };
  const window = terms === null ? 0 : server ? terms.serverWindowBits : terms.clientWindowBits;
  const reader = new Receiver({ isServer: server, extensions, maxPayload, maxFragments: MAX_FRAGMENTS });
  return {
    reader,
    writer: new Sender(socket, extensions),
    compression,
    // zlib cannot write raw deflate with a window of 256 bytes, and nobody has to compress (RFC 7692 section 6).
    compresses: window > 8,
  };
}

function compressionOf(terms: DeflateTerms, server: boolean, maxPayload: number): Compression {
  const { PerMessageDeflate } = loaded();
  const compression = new PerMessageDeflate({ isServer: server, maxPayload, zlibDeflateOptions: { level: LEVEL } });
  compression.accept([
    {
      ...(terms.serverNoContextTakeover ? { server_no_context_takeover: [true] } : {}),
      ...(terms.clientNoContextTakeover ? { client_no_context_takeover: [true] } : {}),
      server_max_window_bits: [String(terms.serverWindowBits)],
      client_max_window_bits: [String(terms.clientWindowBits)],
    },
  ]);
  return compression;
}

/** The close code for what the reader could not take (RFC 6455 section 7.4.1). */
export function closeCodeOf(error: Error & { code?: string }): 1002 | 1007 | 1008 | 1009 {
  switch (error.code) {
    case "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH":
    case "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH":
      return 1009;
    case "WS_ERR_TOO_MANY_BUFFERED_PARTS":
      return 1008;
    case "WS_ERR_INVALID_UTF8":
      return 1007;
    default:
      return error.code?.startsWith("WS_ERR_") ? 1002 : 1007; // the others are zlib's: the data is not deflate
  }
}
