// The port to the decoders of content codings (RFC 9110 section 8.4.1); edge/content implements it.

/** Undoes the codings of one body, in a stream. `done` is called once for each call, with an error when the content is broken. */
export interface Decoder {
  /** Everything that this chunk yields has been given out when `done` is called; the chunk must stay as it is until then. */
  write(chunk: Uint8Array, done: (error: Error | null) => void): void;
  /** The coded body is whole: an error when it breaks off, or goes on after its own end. */
  end(done: (error: Error | null) => void): void;
  /** True, between two calls, while bytes wait for others without which they yield nothing: what is in them was not seen. */
  readonly waits: boolean;
  /** Gives out no more, or little more, until `resume`. */
  pause(): void;
  resume(): void;
  /** Frees everything; nothing is called any more. */
  close(): void;
}

export interface Decoders {
  /** More codings on one content cannot be undone. */
  readonly most: number;
  /** True for a coding, in lower case, that can be undone. */
  knows(coding: string): boolean;
  /** A decoder for codings in the order in which they were applied. `out` gets borrowed bytes. */
  open(codings: readonly string[], out: (plain: Uint8Array) => void): Decoder;
}

/** Undoes codings in one go: for content that is short and here. */
export interface Unpacker {
  /**
   * The plain bytes of content in codings, in the order in which they were applied. `cut`: it is the beginning of a longer content,
   * and what comes out of it is wanted. null: a coding is unknown or broken, something cannot be read, or `limit` bytes are not enough.
   */
  unpack(codings: readonly string[], coded: Uint8Array, cut: boolean, limit: number): Uint8Array | null;
}

/** The codings of Content-Encoding values in the order in which they were applied, without `identity`. */
export function codingsOf(values: readonly string[]): string[] {
  const codings = values.flatMap((value) => value.split(",")).map((c) => c.trim().toLowerCase());
  return codings.filter((c) => c !== "" && c !== "identity").map((c) => (c === "x-gzip" ? "gzip" : c));
}
