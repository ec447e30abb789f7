// After a 101: whoever reads an origin's connection from then on, and what came before anybody did (TLS may give more of what
// it has decrypted after it was told to stop; that is at most one read of the connection).

export class NextReader {
  private take: ((chunk: Uint8Array) => boolean) | null = null;
  private late: Buffer[] = [];

  /** A chunk, borrowed. False: stop reading. */
  read(chunk: Uint8Array): boolean {
    if (this.take !== null) return this.take(chunk);
    this.late.push(Buffer.from(chunk));
    return false;
  }

  /** Gives everything to `take` from now on. False: it has no room for more, and resumes the connection itself. */
  handOver(take: (chunk: Uint8Array) => boolean): boolean {
    this.take = take;
    let room = true;
    for (const piece of this.late) room = take(piece);
    this.late = [];
    return room;
  }
}
