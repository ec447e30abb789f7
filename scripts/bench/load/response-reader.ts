// Reads HTTP/1.1 responses of a proxy, of which each is checked: status, framing and content. Small on purpose; it is a load
// generator's, so it takes what honest servers send and fails on everything else.

const NUMBER = /\r\ncontent-length: *(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;
const CLOSE = /\r\n(?:proxy-)?connection: *close/i;
const LONGEST_HEAD = 64 * 1024;

type State = "head" | "length" | "size" | "chunk" | "chunk-end" | "trailers" | "close" | "done";

/** One response after another: `begin`, `feed` until it says true, look at the fields, `begin` again. */
export class ResponseReader {
  status = 0;
  /** Bytes of content so far. */
  received = 0;
  /** The server closes after this response. */
  closes = false;
  private state: State = "done";
  private kept: Buffer | null = null;
  private left = 0;
  private onContent: (view: Buffer) => void = () => {};

  begin(onContent: (view: Buffer) => void): void {
    this.status = 0;
    this.received = 0;
    this.closes = false;
    this.state = "head";
    this.onContent = onContent;
  }

  /** True: the response has ended. Throws when the bytes are not a response, or more than one. */
  feed(chunk: Buffer): boolean {
    let rest = this.kept === null ? chunk : Buffer.concat([this.kept, chunk]);
    this.kept = null;
    while (rest.length > 0 && this.state !== "done") {
      const next = this.step(rest);
      if (next === null) {
        this.kept = rest;
        return false;
      }
      rest = next;
    }
    if (this.state === "done" && rest.length > 0) throw new Error(`${rest.length} bytes after the response`);
    return this.state === "done";
  }

  /** The server has closed. True: that ended the response. */
  end(): boolean {
    if (this.state === "close") this.state = "done";
    return this.state === "done";
  }

  private step(bytes: Buffer): Buffer | null {
    switch (this.state) {
      case "head":
        return this.head(bytes);
      case "length":
      case "chunk":
      case "close":
        return this.content(bytes);
      case "size":
        return this.line(bytes, (line) => {
          this.left = Number.parseInt(line, 16);
          if (Number.isNaN(this.left)) throw new Error(`bad chunk size ${JSON.stringify(line.slice(0, 40))}`);
          this.state = this.left === 0 ? "trailers" : "chunk";
        });
      case "chunk-end":
        return this.line(bytes, () => {
          this.state = "size";
        });
      default:
        return this.line(bytes, (line) => {
          if (line === "") this.state = "done";
        });
    }
  }

  private head(bytes: Buffer): Buffer | null {
    const end = bytes.indexOf("\r\n\r\n");
    if (end < 0) {
      if (bytes.length > LONGEST_HEAD) throw new Error("response head too long");
      return null;
    }
    const text = bytes.toString("latin1", 0, end);
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1];
    if (status === undefined) throw new Error(`no status line: ${JSON.stringify(text.slice(0, 80))}`);
    this.status = Number(status);
    if (this.status >= 200) this.frame(text);
    return bytes.subarray(end + 4);
  }

  private frame(head: string): void {
    this.closes = CLOSE.test(head) || (head.startsWith("HTTP/1.0") && !/\r\nconnection: *keep-alive/i.test(head));
    const length = NUMBER.exec(head)?.[1];
    if (CHUNKED.test(head)) this.state = "size";
    else if (this.status === 204 || this.status === 304 || length === "0") this.state = "done";
    else if (length !== undefined) {
      this.left = Number(length);
      this.state = "length";
    } else {
      this.closes = true;
      this.state = "close";
    }
  }

  private content(bytes: Buffer): Buffer {
    const own = this.state === "close" || bytes.length <= this.left ? bytes : bytes.subarray(0, this.left);
    this.received += own.length;
    this.onContent(own);
    if (this.state === "close") return bytes.subarray(own.length);
    this.left -= own.length;
    if (this.left === 0) this.state = this.state === "chunk" ? "chunk-end" : "done";
    return bytes.subarray(own.length);
  }

  private line(bytes: Buffer, take: (line: string) => void): Buffer | null {
    const end = bytes.indexOf("\r\n");
    if (end < 0) {
      if (bytes.length > LONGEST_HEAD) throw new Error("line too long");
      return null;
    }
    take(bytes.toString("latin1", 0, end));
    return bytes.subarray(end + 2);
  }
}
