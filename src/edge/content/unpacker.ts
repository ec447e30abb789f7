// Undoes the codings of a short body in one go: what is kept of a body for its record, which is looked at before it is written.
import * as zlib from "node:zlib";
import type { Unpacker } from "../../filters/decoder.ts";
import { MOST_STACKED } from "./decoders.ts";
import { hasZlibHeader } from "./zlib-decoder.ts";
import { ZstdFrames } from "./zstd-frames.ts";

/** Plain bytes of one coding. Throws where it is broken, or gives more than `limit` bytes. */
type Unpack = (coded: Uint8Array, cut: boolean, limit: number) => Uint8Array;
/** With `info: true` the functions of node:zlib give the engine beside, which knows how far it read. */
type Sync = (coded: Uint8Array, options: zlib.ZlibOptions & zlib.BrotliOptions) => unknown;

const CODINGS: Readonly<Record<string, Unpack>> = {
  gzip: byZlib(zlib.gunzipSync, zlib.constants.Z_SYNC_FLUSH),
  deflate: (coded, cut, limit) => (hasZlibHeader(coded) ? inflate : inflateRaw)(coded, cut, limit),
  br: byZlib(zlib.brotliDecompressSync, zlib.constants.BROTLI_OPERATION_FLUSH),
  zstd: unpackZstd,
};
const inflate = byZlib(zlib.inflateSync, zlib.constants.Z_SYNC_FLUSH);
const inflateRaw = byZlib(zlib.inflateRawSync, zlib.constants.Z_SYNC_FLUSH);

/** The unpacker of this process. */
export const contentUnpacker: Unpacker = {
  unpack(codings, coded, cut, limit) {
    if (codings.length > MOST_STACKED) return null;
    try {
      let plain = coded;
      for (const coding of codings.toReversed()) {
        const undo = Object.hasOwn(CODINGS, coding) ? CODINGS[coding] : undefined;
        if (undo === undefined) return null;
        plain = undo(plain, cut, limit);
      }
      return plain;
    } catch {
      return null;
    }
  },
};

function byZlib(sync: Sync, flush: number): Unpack {
  return (coded, cut, limit) => {
    const options = { maxOutputLength: limit, info: true, ...(cut ? { finishFlush: flush } : {}) };
    const { buffer, engine } = sync(coded, options) as { buffer: Buffer; engine: { bytesWritten: number } };
    // When there is more behind the end, nobody has looked at it.
    if (engine.bytesWritten < coded.length) throw new Error("data after the end of the coded content");
    return buffer;
  };
}

/** A block that was cut yields nothing, although much can be read in it: such content counts as broken. */
function unpackZstd(coded: Uint8Array, _cut: boolean, limit: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  let size = 0;
  const frames = new ZstdFrames((plain) => {
    size += plain.length;
    if (size > limit) throw new Error("more than the limit");
    pieces.push(new Uint8Array(plain));
  });
  try {
    frames.push(coded);
    while (frames.next());
  } finally {
    frames.close();
  }
  if (!frames.whole) throw new Error("unexpected end of file");
  return Buffer.concat(pieces);
}
