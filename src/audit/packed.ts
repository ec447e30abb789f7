// What of a row no query compares in SQL, packed into one blob with the record's hash: binding and reading thirty columns cost more
// than all else that storing a record does. Words are their numbers here.
import { AT, type Row, type RowKey, type Value } from "./row.ts";

/** The values with a column of their own, which conditions and sums use. */
export const COLUMN_KEYS = [
  "at",
  "kind",
  "client",
  "host",
  "method",
  "status",
  "decision",
  "rule",
  "reason",
  "uninspected",
  "path",
  "address",
  "sentBytes",
  "receivedBytes",
  "total",
] as const satisfies readonly RowKey[];

/** All others, in the order in which they are packed: first what queries look at. */
export const PACKED_KEYS = [
  "id",
  "sentSha",
  "receivedSha",
  "more",
  "parent",
  "scheme",
  "port",
  "sentComplete",
  "receivedComplete",
  "clientProtocol",
  "originProtocol",
  "sni",
  "origin",
] as const satisfies readonly RowKey[];

const TEXTS: readonly number[] = [AT.id, AT.more, AT.parent];
const DIGESTS: readonly number[] = [AT.sentSha, AT.receivedSha];
const PLACES = PACKED_KEYS.map((key) => AT[key]);
/** How each is packed: 0 number, 1 text, 2 digest. */
const FORMS = PLACES.map((place) => (TEXTS.includes(place) ? 1 : DIGESTS.includes(place) ? 2 : 0));

const HASH_BYTES = 32;
const HEX = Uint8Array.from({ length: 128 }, (_, code) => "0123456789abcdef".indexOf(String.fromCharCode(code)) & 255);
/** A number that is no whole number from 0 on. */
const FLOAT = 1;
const MAX_WHOLE = Number.MAX_SAFE_INTEGER - 2;

const SIZE = 16 * 1024;
/** A buffer that had to grow beyond this is not kept. */
const MAX_KEPT = 1024 * 1024;

/** A growing buffer of packed rows. */
export class Packer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #at = 0;

  /** What was handed out is no longer needed: the buffer is filled from its beginning again. */
  reset(): void {
    this.#at = 0;
    if (this.#bytes.length > MAX_KEPT) this.#bytes = Buffer.allocUnsafeSlow(SIZE);
  }

  /** The hash (hex) and the row's packed values. Borrowed until `reset`. Throws RangeError when the hash is none. */
  pack(row: Row, hash: string): Uint8Array {
    const start = this.#at;
    this.#reserve(HASH_BYTES);
    if (!this.#hex(hash)) throw new RangeError("a hash has 64 hex digits");
    for (let i = 0; i < PLACES.length; i++) {
      const value = row[PLACES[i] as number] as Value;
      const form = FORMS[i] as number;
      this.#reserve(16);
      if (form === 0) this.#number(value as number | null);
      else if (form === 1) this.#text(value as string | null);
      else this.#digest(value as string | null);
    }
    return this.#bytes.subarray(start, this.#at);
  }

  /** Bytes handed out before stay as they are: they keep the old buffer. */
  #reserve(more: number): void {
    const need = this.#at + more;
    if (need <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(need, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }

  /** 0: null, 1: eight bytes of a double follow, else the number and 2, seven bits in each byte, the lowest first. */
  #number(value: number | null): void {
    if (value === null) this.#bytes[this.#at++] = 0;
    else if (value >= 0 && value <= MAX_WHOLE && Number.isInteger(value)) this.#whole(value + 2);
    else {
      this.#bytes[this.#at++] = FLOAT;
      this.#at = this.#bytes.writeDoubleBE(value, this.#at);
    }
  }

  #whole(value: number): void {
    const bytes = this.#bytes;
    let rest = value;
    while (rest >= 128) {
      const high = Math.floor(rest / 128);
      bytes[this.#at++] = 128 + (rest - high * 128);
      rest = high;
    }
    bytes[this.#at++] = rest;
  }

  /** 0: null, else the length in bytes and 1, and UTF-8. */
  #text(text: string | null): void {
    if (text === null) {
      this.#bytes[this.#at++] = 0;
      return;
    }
    this.#reserve(text.length + 16);
    const start = this.#at;
    this.#whole(text.length + 1);
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 127) {
        this.#at = start;
        this.#utf8(Buffer.from(text, "utf8"));
        return;
      }
      bytes[at++] = code;
    }
    this.#at = at;
  }

  #utf8(text: Uint8Array): void {
    this.#reserve(text.length + 16);
    this.#whole(text.length + 1);
    this.#bytes.set(text, this.#at);
    this.#at += text.length;
  }

  /** 0: null, 1: 32 bytes follow, 2: it is no digest, and text follows. */
  #digest(hex: string | null): void {
    if (hex === null) {
      this.#bytes[this.#at++] = 0;
      return;
    }
    this.#reserve(HASH_BYTES + 1);
    const tag = this.#at++;
    this.#bytes[tag] = 1;
    if (this.#hex(hex)) return;
    this.#bytes[tag] = 2;
    this.#text(hex);
  }

  /** Packs 64 lower-case hex digits; false, and nothing is packed: it is something else. */
  #hex(text: string): boolean {
    if (text.length !== HASH_BYTES * 2) return false;
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = 0; i < text.length; i += 2) {
      const high = HEX[text.charCodeAt(i)] as number;
      const low = HEX[text.charCodeAt(i + 1)] as number;
      // Neither 255 (no digit) nor undefined (no ASCII) is below 16.
      if (!(high < 16 && low < 16)) return false;
      bytes[at++] = (high << 4) | low;
    }
    this.#at = at;
    return true;
  }
}

/** Reads what a Packer packed. Any bytes can be read; what is not packed so throws RangeError. */
class Unpacker {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get ended(): boolean {
    return this.#at === this.#bytes.length;
  }

  hex(): string {
    return this.#bytes.toString("hex", this.#at, this.#skip(HASH_BYTES));
  }

  value(form: number): Value {
    if (form === 0) return this.#number();
    if (form === 1) return this.#text();
    const tag = this.#byte();
    if (tag > 2) throw damaged();
    return tag === 0 ? null : tag === 1 ? this.hex() : this.#text();
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw damaged();
    return byte;
  }

  #skip(count: number): number {
    this.#at += count;
    if (!(this.#at <= this.#bytes.length)) throw damaged();
    return this.#at;
  }

  #number(): number | null {
    const whole = this.#whole();
    if (whole === 0) return null;
    if (whole !== FLOAT) return whole - 2;
    return this.#bytes.readDoubleBE(this.#skip(8) - 8);
  }

  #whole(): number {
    let value = 0;
    for (let unit = 1; unit <= 2 ** 49; unit *= 128) {
      const byte = this.#byte();
      if (byte < 128) return value + byte * unit;
      value += (byte - 128) * unit;
    }
    throw damaged();
  }

  #text(): string | null {
    const length = this.#whole();
    if (length === 0) return null;
    const start = this.#at;
    return this.#bytes.toString("utf8", start, this.#skip(length - 1));
  }
}

const damaged = (): RangeError => new RangeError("a packed record is damaged");

/** The hash (hex) of a packed record; of one that is damaged whatever stands there, so that the chain goes on and `verify` tells. */
export const hashOf = (packed: Uint8Array): string => Buffer.from(packed).toString("hex", 0, HASH_BYTES);

/** Sets the packed values in the row, and returns the hash. Throws RangeError when the bytes are not what a Packer packs. */
export function unpack(packed: Uint8Array, row: Row): string {
  const from = new Unpacker(packed);
  const hash = from.hex();
  for (let i = 0; i < PLACES.length; i++) row[PLACES[i] as number] = from.value(FORMS[i] as number);
  if (!from.ended) throw damaged();
  return hash;
}

/** One packed value, for conditions; null also where the bytes are damaged. */
export function packedValue(packed: Uint8Array, key: (typeof PACKED_KEYS)[number]): Value {
  try {
    const from = new Unpacker(packed);
    from.hex();
    for (let i = 0; ; i++) {
      const value = from.value(FORMS[i] as number);
      if (PACKED_KEYS[i] === key) return value;
    }
  } catch {
    return null;
  }
}
