// Identifiers of records: ULIDs (48 bits of time, 80 random bits, Crockford base 32), monotonic within one process,
// so that the order of ids is the order of arrival.
import { randomFillSync } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const POOL = new Uint8Array(1024);
/** The last two digits of an id, for each value that they can have. */
const PAIRS = Array.from({ length: 1024 }, (_, n) => ALPHABET.charAt(n >> 5) + ALPHABET.charAt(n & 31));
let used = POOL.length;
let lastTime = -1;
let timePart = "";
const random = new Uint8Array(16);
/** The first 24 characters of the next id, and the value of its last two: a count that hardly ever carries. */
let prefix = "";
let last = 0;

/** A new ULID for the time `now` (milliseconds since 1970). */
export function newId(now: number): string {
  if (now > lastTime) {
    lastTime = now;
    timePart = encodeTime(now);
    if (used + 16 > POOL.length) {
      randomFillSync(POOL);
      used = 0;
    }
    for (let i = 0; i < 16; i++) random[i] = (POOL[used + i] as number) & 31;
    used += 16;
    begin();
  } else if (++last === PAIRS.length) carry(); // same millisecond, or the clock went back: ids stay in order
  return prefix + (PAIRS[last] as string);
}

function begin(): void {
  prefix = timePart;
  for (let i = 0; i < 14; i++) prefix += ALPHABET[random[i] as number];
  last = ((random[14] as number) << 5) | (random[15] as number);
}

function carry(): void {
  let i = 13;
  while (i >= 0 && random[i] === 31) random[i--] = 0;
  if (i >= 0) random[i] = (random[i] as number) + 1;
  random[14] = 0;
  random[15] = 0;
  begin();
}

function encodeTime(time: number): string {
  let text = "";
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[time % 32] + text;
    time = Math.floor(time / 32);
  }
  return text;
}
