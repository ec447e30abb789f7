// Identifiers of records: ULIDs (48 bits of time, 80 random bits, Crockford base 32), monotonic within one process,
// so that the order of ids is the order of arrival.
import { randomFillSync } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODES = Uint8Array.from(ALPHABET, (digit) => digit.charCodeAt(0));
const TIME_DIGITS = 10;
const RANDOM_DIGITS = 16;
const POOL = new Uint8Array(1024);
let used = POOL.length;
let lastTime = -1;
/** The random digits of the last id, as numbers. */
const random = new Uint8Array(RANDOM_DIGITS);
/** The characters of the last id. A text that is put together from parts would have to be copied by the first who looks into it. */
const characters = Buffer.alloc(TIME_DIGITS + RANDOM_DIGITS);

/** A new ULID for the time `now` (milliseconds since 1970). */
export function newId(now: number): string {
  if (now > lastTime) begin(now);
  else count(); // same millisecond, or the clock went back: ids stay in order
  return characters.toString("latin1");
}

function begin(now: number): void {
  lastTime = now;
  if (used + RANDOM_DIGITS > POOL.length) {
    randomFillSync(POOL);
    used = 0;
  }
  for (let i = 0; i < RANDOM_DIGITS; i++) setDigit(i, (POOL[used + i] as number) & 31);
  used += RANDOM_DIGITS;
  for (let i = TIME_DIGITS - 1, rest = now; i >= 0; i--) {
    characters[i] = CODES[rest % 32] as number;
    rest = Math.floor(rest / 32);
  }
}

/** The next number of these digits. */
function count(): void {
  let i = RANDOM_DIGITS - 1;
  for (; i >= 0 && random[i] === 31; i--) setDigit(i, 0);
  if (i >= 0) setDigit(i, (random[i] as number) + 1);
}

function setDigit(i: number, value: number): void {
  random[i] = value;
  characters[TIME_DIGITS + i] = CODES[value] as number;
}
