// Tokens of every format, made here: none was ever valid, and none stands in a file as a whole.
import { base62, crc32 } from "../../../src/filters/crc32.ts";
import { TOKEN_FORMATS, type TokenFormat } from "../../../src/filters/token-formats.ts";

/** A generator of numbers below `n`, the same for each seed. */
function dice(seed: number): (n: number) => number {
  let state = seed * 2654435761 + 12345;
  return (n) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
}

const charactersOf = (body: string): string[] =>
  Array.from({ length: 128 }, (_, i) => String.fromCharCode(i)).filter((c) => new RegExp(`[${body}]`).test(c));

function run(roll: (n: number) => number, body: string, length: number): string {
  const characters = charactersOf(body);
  return Array.from({ length }, () => characters[roll(characters.length)]).join("");
}

/** A token of the format with random text and, where it has one, the right checksum. */
export function token(format: TokenFormat, seed: number): string {
  const roll = dice(seed);
  if (format.check !== undefined) {
    const body = run(roll, format.body, 30);
    return format.anchor + body + base62(crc32(Buffer.from(body)), 6);
  }
  const length = format.min + roll(format.max - format.min + 1);
  const { rest, has = "" } = format;
  return (
    (format.numbered === true ? "bot123456789" : "") +
    format.anchor +
    run(roll, format.body, 8) +
    has +
    run(roll, format.body, length - 8 - has.length) +
    (rest === undefined ? "" : rest.text + run(roll, rest.body, rest.length))
  );
}

/** For each format some tokens: [what it is, the token]. */
export const positives = (each: number): [string, string][] =>
  TOKEN_FORMATS.flatMap((format) =>
    Array.from({ length: each }, (_, seed): [string, string] => [`${format.id} ${seed}`, token(format, seed + 1)]),
  );
