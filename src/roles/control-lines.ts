// Cuts a stream of bytes into lines, with a bound on what an unfinished line may hold.

export class LineReader {
  readonly #max: number;
  #rest: Buffer = Buffer.alloc(0);
  constructor(max: number) {
    this.#max = max;
  }

  /** The lines that are complete now, without their ends; null when one is longer than the bound. */
  push(bytes: Buffer): string[] | null {
    let all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const lines: string[] = [];
    for (let end = all.indexOf(10); end >= 0; end = all.indexOf(10)) {
      if (end > this.#max) return null;
      lines.push(all.toString("utf8", 0, end));
      all = all.subarray(end + 1);
    }
    if (all.length > this.#max) return null;
    this.#rest = Buffer.from(all);
    return lines;
  }
}
