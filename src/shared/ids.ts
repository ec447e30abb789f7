// Identifiers of records: ULIDs (48 bits of time, 80 random bits, Crockford base 32), monotonic within one process,
// so that the order of ids is the order of arrival.
import { randomFillSync } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const POOL = new Uint8Array(1024);
let used = POOL.length;
let lastTime = -1;
let timePart = "";
const random = new Uint8Array(16);

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
  } else {
    // Same millisecond, or the clock went back: count up, so that ids stay in order.
    let i = 15;
    while (i >= 0 && random[i] === 31) random[i--] = 0;
    if (i >= 0) random[i] = (random[i] as number) + 1;
  }
  let id = timePart;
  for (let i = 0; i < 16; i++) id += ALPHABET[random[i] as number];
  return id;
}

function encodeTime(time: number): string {
  let text = "";
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[time % 32] + text;
    time = Math.floor(time / 32);
  }
  return text;
}
