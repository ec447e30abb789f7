// Digests of the whole parts of a multipart body (RFC 2046 section 5.1) while it streams, in bounded memory.
import { createHash, type Hash } from "node:crypto";

/** Parts beyond this many are not listed. */
const MAX_PARTS = 256;
const MAX_PART_HEAD = 16 * 1024;

/** The boundary of a `multipart/form-data` content type, or null (RFC 2046: 1 to 70 characters). */
export function multipartBoundary(contentType: string | null): string | null {
  if (contentType === null || !/^\s*multipart\/form-data\s*;/i.test(contentType)) return null;
  const found = /;\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))/i.exec(contentType);
  const boundary = found?.[1]?.replace(/\\(.)/g, "$1") ?? found?.[2] ?? "";
  return boundary.length >= 1 && boundary.length <= 70 ? boundary : null;
}

type State = "preamble" | "head" | "content" | "done";

/** Push borrowed chunks in any split; `parts` holds the SHA-256 (hex) of the content of every part that ended. */
export class MultipartDigests {
  readonly parts: string[] = [];
  /** "\r\n--boundary": what ends a part's content. */
  readonly #delimiter: Buffer;
  #state: State = "preamble";
  /** Bytes that may be the beginning of a delimiter, or of a part's head. Starts with CRLF, as if a line had just ended. */
  #held: Buffer = Buffer.from("\r\n");
  #hash: Hash | null = null;

  constructor(boundary: string) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`, "latin1");
  }

  push(chunk: Uint8Array): void {
    if (this.#state === "done") return;
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let rest = this.#held.length === 0 ? view : Buffer.concat([this.#held, view]);
    this.#held = Buffer.alloc(0);
    for (;;) {
      const after: Buffer | null = this.#state === "head" ? this.#head(rest) : this.#body(rest);
      if (after === null) return;
      rest = after;
    }
  }

  /** Up to the next delimiter line. Returns what follows it, or null when more is needed. */
  #body(bytes: Buffer): Buffer | null {
    if (this.#state === "done") return null;
    const delimiter = this.#delimiter;
    const at = bytes.indexOf(delimiter);
    if (at < 0) {
      const keep = Math.min(bytes.length, delimiter.length - 1);
      this.#content(bytes.subarray(0, bytes.length - keep));
      this.#held = Buffer.from(bytes.subarray(bytes.length - keep));
      return null;
    }
    // The delimiter counts only when "--" or the end of its line follows (transport padding allowed).
    const line = lineEnd(bytes, at + delimiter.length);
    if (line === "more") {
      this.#content(bytes.subarray(0, at));
      this.#held = Buffer.from(bytes.subarray(at));
      return null;
    }
    if (line === "no") {
      this.#content(bytes.subarray(0, at + 2));
      return bytes.subarray(at + 2);
    }
    this.#content(bytes.subarray(0, at));
    this.#endPart();
    this.#state = line.last || this.parts.length >= MAX_PARTS ? "done" : "head";
    // The CRLF of the delimiter line stays: a part without fields begins with an empty line.
    return bytes.subarray(line.end);
  }

  /** Past the part's fields. */
  #head(bytes: Buffer): Buffer | null {
    const end = bytes.indexOf("\r\n\r\n");
    if (end >= 0 && end <= MAX_PART_HEAD) {
      this.#state = "content";
      this.#hash = createHash("sha256");
      // Empty content: its delimiter's CRLF is the second half of the blank line for sloppy writers, but not for RFC 2046.
      return bytes.subarray(end + 4);
    }
    if (end >= 0 || bytes.length > MAX_PART_HEAD) this.#state = "done";
    else this.#held = Buffer.from(bytes);
    return null;
  }

  #content(bytes: Buffer): void {
    if (this.#hash !== null && bytes.length > 0) this.#hash.update(bytes);
  }

  #endPart(): void {
    if (this.#hash === null) return;
    this.parts.push(this.#hash.digest("hex"));
    this.#hash = null;
  }
}

/** What follows a delimiter: `end` is where its closing CRLF begins. */
function lineEnd(bytes: Buffer, from: number): "more" | "no" | { last: boolean; end: number } {
  if (from + 2 > bytes.length) return "more";
  if (bytes[from] === 0x2d && bytes[from + 1] === 0x2d) return { last: true, end: from + 2 };
  let at = from;
  while (at < bytes.length && (bytes[at] === 0x20 || bytes[at] === 0x09)) at++;
  if (at - from > 256) return "no";
  if (at + 2 > bytes.length) return "more";
  return bytes[at] === 0x0d && bytes[at + 1] === 0x0a ? { last: false, end: at } : "no";
}
