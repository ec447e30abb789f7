// Records as lines of the journal, written byte by byte into one buffer: the same text as `rowText(rowOf(record))` (a property test
// says so), at half its cost and with nothing left behind for the collector. This runs on the serving thread for every exchange.
import type { AuditRecord, OriginRecord } from "./record.ts";
import { EMPTY_SHA256 } from "./record.ts";
import { jsonText, moreText, originText } from "./row.ts";

const SIZE = 64 * 1024;
/** A buffer that had to grow beyond this is not kept. */
const MAX_KEPT = 1024 * 1024;
/** Room for any number, for `null` and for what stands between values. */
const ROOM = 32;

const QUOTE = 34;
const COMMA = 44;
const ZERO = 48;
const OPEN = 91;
const BACKSLASH = 92;
const CLOSE = 93;

/** All exchanges of one origin connection share the object. */
const originBytes = new WeakMap<OriginRecord, Uint8Array>();

/** Collects lines; `take` hands out what is there and begins anew. */
export class LineBuffer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #at = 0;

  /** Adds the record's line, with its newline. */
  add(r: AuditRecord): void {
    const start = this.#at;
    try {
      this.#byte(OPEN);
      this.#values(r);
      // The comma behind the last value becomes the bracket.
      this.#bytes[this.#at - 1] = CLOSE;
      this.#byte(10);
    } catch (error) {
      this.#at = start;
      throw error;
    }
  }

  /** What was added since the last call; the bytes are borrowed until the next `add`. */
  take(): Uint8Array {
    const bytes = this.#bytes;
    const taken = bytes.subarray(0, this.#at);
    this.#at = 0;
    if (bytes.length > MAX_KEPT) this.#bytes = Buffer.allocUnsafeSlow(SIZE);
    return taken;
  }

  /** In the order of `ROW_KEYS`. */
  #values(r: AuditRecord): void {
    const { sent, received } = r;
    this.#number(Math.trunc(r.at));
    this.#text(r.kind);
    this.#text(r.client);
    this.#text(r.host);
    this.#text(r.method);
    this.#number(r.status);
    this.#text(r.decision);
    this.#text(r.rule);
    this.#text(r.reason);
    this.#number(r.uninspected ? 1 : 0);
    this.#text(r.path);
    this.#text(r.id);
    this.#number(sent.bytes);
    this.#number(received.bytes);
    this.#text(r.address);
    this.#text(sent.sha256 === EMPTY_SHA256 ? null : sent.sha256);
    this.#text(received.sha256 === EMPTY_SHA256 ? null : received.sha256);
    this.#text(r.parent);
    this.#text(r.scheme);
    this.#number(r.port);
    this.#number(sent.complete ? 1 : 0);
    this.#number(received.complete ? 1 : 0);
    this.#number(Math.round(r.timings.total * 100));
    this.#text(r.clientProtocol);
    this.#text(r.originProtocol);
    this.#text(r.sni);
    this.#origin(r);
    this.#more(r);
  }

  /** Makes room for `more` bytes and the rest of a value. */
  #reserve(more: number): void {
    const need = this.#at + more + ROOM;
    if (need <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(need, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#at++] = value;
  }

  #null(): void {
    this.#reserve(5);
    const bytes = this.#bytes;
    let at = this.#at;
    bytes[at++] = 110;
    bytes[at++] = 117;
    bytes[at++] = 108;
    bytes[at++] = 108;
    bytes[at++] = COMMA;
    this.#at = at;
  }

  /** Printable ASCII as it is; everything else as JSON and UTF-8 want it. */
  #text(text: string | null): void {
    if (typeof text !== "string") {
      this.#null();
      return;
    }
    this.#reserve(text.length);
    const bytes = this.#bytes;
    let at = this.#at;
    bytes[at++] = QUOTE;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code < 32 || code > 126 || code === QUOTE || code === BACKSLASH) {
        this.#escaped(text);
        return;
      }
      bytes[at++] = code;
    }
    bytes[at++] = QUOTE;
    bytes[at++] = COMMA;
    this.#at = at;
  }

  #escaped(text: string): void {
    const json = jsonText(text);
    this.#reserve(json.length * 3);
    this.#at += this.#bytes.write(json, this.#at, "utf8");
    this.#bytes[this.#at++] = COMMA;
  }

  #number(value: number | null): void {
    if (typeof value !== "number") {
      this.#null();
      return;
    }
    this.#reserve(0);
    if (value >= 0 && Number.isSafeInteger(value)) this.#digits(value);
    else this.#at += this.#bytes.write(JSON.stringify(value), this.#at, "latin1");
    this.#bytes[this.#at++] = COMMA;
  }

  #digits(value: number): void {
    const bytes = this.#bytes;
    let end = this.#at + 1;
    for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) end++;
    this.#at = end;
    for (let rest = value; ; ) {
      const tenth = Math.floor(rest / 10);
      bytes[--end] = ZERO + (rest - tenth * 10);
      if (tenth === 0) return;
      rest = tenth;
    }
  }

  #origin({ kind, origin }: AuditRecord): void {
    if (origin === null) {
      this.#null();
      return;
    }
    // Each tunnel has an origin of its own, which is not worth remembering.
    if (kind === "connect" && isPlain(origin)) {
      this.#ascii(`"[\\"${origin.address}\\",${origin.port},null,null,\\"${origin.resolvedBy}\\",null,null]",`);
      return;
    }
    let known = originBytes.get(origin);
    if (known === undefined) {
      known = Buffer.from(jsonText(originText(origin)), "utf8");
      originBytes.set(origin, known);
    }
    this.#reserve(known.length);
    this.#bytes.set(known, this.#at);
    this.#at += known.length;
    this.#bytes[this.#at++] = COMMA;
  }

  #ascii(text: string): void {
    this.#reserve(text.length);
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = 0; i < text.length; i++) bytes[at++] = text.charCodeAt(i);
    this.#at = at;
  }

  /** Usually there are timings, up to the last that was taken, and nothing else. */
  #more(r: AuditRecord): void {
    if (!onlyTimings(r)) {
      this.#text(moreText(r));
      return;
    }
    const t = r.timings;
    const times = [t.wait, t.dns, t.connect, t.tls, t.firstByte];
    let count = times.length;
    while (count > 0 && times[count - 1] === null) count--;
    if (count === 0) {
      this.#null();
      return;
    }
    this.#byte(QUOTE);
    this.#byte(OPEN);
    for (let i = 0; i < count; i++) this.#hundredths(times[i] as number | null);
    this.#bytes[this.#at - 1] = CLOSE;
    this.#byte(QUOTE);
    this.#byte(COMMA);
  }

  #hundredths(ms: number | null): void {
    this.#number(ms === null ? null : Math.round(ms * 100));
  }
}

/** An origin without TLS, where the client asked to go: of every tunnel. */
const isPlain = (o: OriginRecord): boolean =>
  o.address !== null &&
  o.tls === null &&
  o.fingerprint === null &&
  o.to === null &&
  o.via === null &&
  /^[\da-f.:]{2,45}$/.test(o.address);

/** Nothing that `moreText` would write behind the timings. */
const onlyTimings = (r: AuditRecord): boolean =>
  r.notes.length === 0 &&
  r.error === null &&
  r.sent.decoded === undefined &&
  r.received.decoded === undefined &&
  (r.sent.parts ?? null) === null &&
  (r.received.parts ?? null) === null &&
  (r.requestFields ?? null) === null &&
  (r.responseFields ?? null) === null &&
  r.requestBody === undefined &&
  r.responseBody === undefined &&
  (r.sent.messages ?? null) === null &&
  (r.received.messages ?? null) === null;
