// Our decoder beside the reference implementation (libzstd, compiled to WebAssembly): what is whole both read, and what was changed
// ours never reads otherwise. A decoder that reads content in another way than the client would let secrets through.
import { Zstd } from "@hpcc-js/wasm-zstd";
import { beforeAll, expect, test } from "vitest";
import { contentDecoders } from "../../../src/edge/content/decoders.ts";

let reference: Zstd;
beforeAll(async () => {
  reference = await Zstd.load();
});

const REFUSED = "refused";

async function ours(coded: Uint8Array): Promise<Buffer | typeof REFUSED> {
  const out: Buffer[] = [];
  const decoder = contentDecoders.open(["zstd"], (plain) => out.push(Buffer.from(plain)));
  let error = await new Promise<Error | null>((done) => decoder.write(coded, done));
  error ??= await new Promise<Error | null>((done) => decoder.end(done));
  decoder.close();
  return error === null ? Buffer.concat(out) : REFUSED;
}

function theirs(coded: Uint8Array): Buffer | typeof REFUSED {
  try {
    return Buffer.from(reference.decompress(coded));
  } catch {
    return REFUSED;
  }
}

/** Numbers from 0 to below `end`, the same for the same seed (a linear congruence, of which the high bits are taken). */
function numbers(seed: number): (end: number) => number {
  let state = seed >>> 0;
  return (end) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * end);
  };
}

type Kind = "words" | "noise" | "few letters" | "repeats" | "records" | "zeros and ones";
function content(kind: Kind, length: number, next: (end: number) => number): Buffer {
  const bytes = Buffer.alloc(length);
  const words = ["the ", "secret ", "quick ", "brown ", "fox ", "jumps\n", "0123456789", "äöü", '{"key": ', "null}, "];
  for (let i = 0; i < length; ) {
    if (kind === "words") i += bytes.write(words[next(words.length)] as string, i) || length;
    else if (kind === "noise") bytes[i++] = next(256);
    else if (kind === "few letters") bytes[i++] = 97 + next(1 + next(6));
    else if (kind === "zeros and ones") bytes[i++] = next(50) === 0 ? 1 : 0;
    else if (kind === "repeats") {
      const [from, count] = [next(i), 1 + next(400)];
      for (let n = 0; n < count && i < length; n++)
        bytes[i++] = next(8) === 0 || i === 0 ? next(256) : (bytes[from + n] as number);
    } else i += bytes.write(`${next(100_000)};${"a".repeat(next(9))};${next(2) === 0}\n`, i) || length;
  }
  return bytes;
}

const KINDS: Kind[] = ["words", "noise", "few letters", "repeats", "records", "zeros and ones"];
const LENGTHS = [0, 1, 7, 63, 255, 256, 257, 1_000, 1_023, 1_025, 16_383, 16_385, 66_000, 131_071, 131_073, 400_000];
const LEVELS = [-5, 1, 3, 6, 9, 13, 19];

test.each(KINDS)("%s: every length and level comes out as it went in", async (kind) => {
  const next = numbers(KINDS.indexOf(kind) + 1);
  for (const length of LENGTHS) {
    const plain = content(kind, length, next);
    for (const level of length > 20_000 ? LEVELS.filter((_, i) => i % 2 === 0) : LEVELS) {
      const result = await ours(reference.compress(plain, level));
      expect(result !== REFUSED && result.equals(plain), `${length} bytes at level ${level}`).toBe(true);
    }
  }
});

/** Bytes that are not the header of the frame, whose content size the reference takes memory for. */
const HEADER = 10;

test("changed frames are read as the reference reads them, or refused", async () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const next = numbers(seed);
  let [taken, refused, agreed] = [0, 0, 0];
  for (let round = 0; round < 4_000; round++) {
    const plain = content(KINDS[next(KINDS.length)] as Kind, next(4) === 0 ? next(5_000) : next(300), next);
    const coded = Buffer.from(reference.compress(plain, LEVELS[next(LEVELS.length)] as number));
    for (let n = 1 + next(3); n > 0 && coded.length > HEADER; n--) {
      const at = HEADER + next(coded.length - HEADER);
      coded[at] = next(2) === 0 ? next(256) : (coded[at] as number) ^ (1 << next(8));
    }
    const [mine, its] = [await ours(coded), theirs(coded)];
    if (its === REFUSED) refused++;
    else taken++;
    // Ours may refuse what is broken and yet readable.
    if (mine === REFUSED) continue;
    if (its === REFUSED || !mine.equals(its))
      throw new Error(
        `seed ${seed}, round ${round}: its ${its === REFUSED ? its : "other bytes"}, ${coded.toString("hex")}`,
      );
    agreed++;
  }
  // Both kinds were seen, or this showed nothing.
  expect(taken).toBeGreaterThan(500);
  expect(agreed).toBeGreaterThan(taken * 0.8);
  expect(refused).toBeGreaterThan(500);
});
