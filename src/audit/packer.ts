// Writes runs of packed records; `packed.ts` says what they are, and reads them.
import { type LineValues, NULL, NUMBER, PLAIN } from "./line-values.ts";
import { FLOAT, FORMS, HASH_BYTES, LENGTH_BYTES } from "./packed.ts";

const COUNT = FORMS.length;
const HEX = Uint8Array.from({ length: 256 }, (_, code) => "0123456789abcdef".indexOf(String.fromCharCode(code)) & 255);
const MAX_WHOLE = Number.MAX_SAFE_INTEGER - 2;
/** Room for any number. */
const ROOM = 16;

const SIZE = 64 * 1024;
/** A buffer that had to grow beyond this is not kept. */
const MAX_KEPT = 1024 * 1024;

/** A growing run. */
export class Packer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
  #at = 0;
  #count = 0;

  /** Records in it. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of it. */
  get length(): number {
    return this.#at;
  }

  /** Adds a record: its hash (64 hex digits at the beginning of `hash`) and the values of its line, in which words are numbers. */
  add(line: LineValues, hash: Uint8Array): void {
    const start = this.#at;
    this.#reserve(LENGTH_BYTES + HASH_BYTES);
    this.#at += LENGTH_BYTES;
    if (!this.#hex(hash, 0, HASH_BYTES * 2)) throw new RangeError("a hash has 64 hex digits");
    for (let i = 0; i < COUNT; i++) {
      const kind = line.kinds[i] as number;
      this.#reserve(ROOM);
      if (kind === NULL) this.#bytes[this.#at++] = 0;
      else if (kind === NUMBER) this.#number(line.numbers[i] as number);
      else if (FORMS[i] === 1) this.#text(line, i);
      else this.#digest(line, i);
    }
    this.#bytes.writeUInt32BE(this.#at - start - LENGTH_BYTES, start);
    this.#count++;
  }

  /** Adds a record of which these bytes are left: it is damaged for whoever reads it. */
  addDamaged(bytes: Uint8Array): void {
    // A record without bytes would be the last of its run.
    const left = bytes.length > 0 ? bytes : Uint8Array.of(0);
    this.#reserve(LENGTH_BYTES + left.length);
    this.#at = this.#bytes.writeUInt32BE(left.length, this.#at);
    this.#bytes.set(left, this.#at);
    this.#at += left.length;
    this.#count++;
  }

  /** The run, and begins anew; the bytes are borrowed until the next `add`. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#at);
    if (this.#bytes.length > MAX_KEPT) this.#bytes = Buffer.allocUnsafeSlow(SIZE);
    this.#at = 0;
    this.#count = 0;
    return taken;
  }

  #reserve(more: number): void {
    const need = this.#at + more;
    if (need <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(need, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }

  /** 0: null, 1: eight bytes of a double follow, else the number and 2, seven bits in each byte, the lowest first. */
  #number(value: number): void {
    if (value >= 0 && value <= MAX_WHOLE && Number.isInteger(value)) this.#whole(value + 2);
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
  #text(line: LineValues, place: number): void {
    if (line.kinds[place] === PLAIN) this.#copy(line.bytes, line.from[place] as number, line.to[place] as number);
    else {
      const text = Buffer.from(line.text(place), "utf8");
      this.#copy(text, 0, text.length);
    }
  }

  #copy(from: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start + ROOM);
    this.#whole(end - start + 1);
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = start; i < end; i++) bytes[at++] = from[i] as number;
    this.#at = at;
  }

  /** 0: null, 1: 32 bytes follow, 2: it is no digest, and text follows. */
  #digest(line: LineValues, place: number): void {
    this.#reserve(HASH_BYTES + 1);
    const tag = this.#at++;
    this.#bytes[tag] = 1;
    if (this.#hex(line.bytes, line.from[place] as number, line.to[place] as number)) return;
    this.#bytes[tag] = 2;
    this.#text(line, place);
  }

  /** Packs 64 lower-case hex digits; false, and nothing is packed: it is something else. */
  #hex(text: Uint8Array, from: number, to: number): boolean {
    if (to - from !== HASH_BYTES * 2) return false;
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = from; i < to; i += 2) {
      const high = HEX[text[i] as number] as number;
      const low = HEX[text[i + 1] as number] as number;
      // No digit is 255.
      if ((high | low) > 15) return false;
      bytes[at++] = (high << 4) | low;
    }
    this.#at = at;
    return true;
  }
}
