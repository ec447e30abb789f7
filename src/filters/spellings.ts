// What may stand in a text for another byte, or for nothing: escapes of URLs, JSON, programs, HTML and mail, and line breaks.

/** `bytes` are written in `length` bytes of the text; no bytes: a line break, which is not part of what it cuts. */
export interface Spelling {
  readonly bytes: Uint8Array;
  readonly length: number;
}

/** The longest spelling of one byte: `\\\u0041`, `&#x0041;`. */
export const LONGEST_SPELLING = 8;

const NONE: readonly Spelling[] = [];
const NOTHING = new Uint8Array(0);
const LF = 0x0a;
const CR = 0x0d;
const BACKSLASH = 0x5c;
/** Backslashes before an escape, where a text was escaped more than once. */
const MOST_BACKSLASHES = 3;
const MOST_BLANKS = 16;
/** `&#x10ffff;` */
const LONGEST_MARKUP = 10;

/** 1 for each byte with which a spelling begins. */
export const BEGINS_SPELLING = new Uint8Array(256);
for (const character of "%=+&\\\r\n") BEGINS_SPELLING[character.charCodeAt(0)] = 1;

/** The spellings that begin at `at`; nothing at or after `to` is looked at. */
export function spellingsAt(text: Uint8Array, at: number, to: number): readonly Spelling[] {
  switch (text[at]) {
    case 0x25:
      return percent(text, at, to);
    case 0x3d:
      return quotedPrintable(text, at, to);
    case 0x2b:
      return [{ bytes: Uint8Array.of(0x20), length: 1 }];
    case 0x26:
      return markup(text, at, to);
    case BACKSLASH:
      return backslash(text, at, to);
    case LF:
    case CR:
      return [lineBreak(text, at, to, at)];
    default:
      return NONE;
  }
}

/** A byte, and a line break too where it is one. */
function byteOrBreak(byte: number, text: Uint8Array, at: number, end: number, to: number): Spelling[] {
  const one = { bytes: Uint8Array.of(byte), length: end - at };
  return byte === LF || byte === CR ? [one, lineBreak(text, end, to, at)] : [one];
}

/** A line break from `start` on, with what is left of it at `from`, and the blanks at the beginning of the next line. */
function lineBreak(text: Uint8Array, from: number, to: number, start: number): Spelling {
  let end = from;
  if (end < to && text[end] === CR) end++;
  if (end < to && text[end] === LF) end++;
  const most = Math.min(to, end + MOST_BLANKS);
  while (end < most && (text[end] === 0x20 || text[end] === 0x09)) end++;
  return { bytes: NOTHING, length: end - start };
}

function percent(text: Uint8Array, at: number, to: number): readonly Spelling[] {
  const byte = hexAt(text, at + 1, 2, to);
  if (byte < 0) return NONE;
  const twice = byte === 0x25 ? hexAt(text, at + 3, 2, to) : -1;
  const once = byteOrBreak(byte, text, at, at + 3, to);
  return twice < 0 ? once : [...once, ...byteOrBreak(twice, text, at, at + 5, to)];
}

/** RFC 2045 section 6.7; an `=` at the end of a line joins it with the next. */
function quotedPrintable(text: Uint8Array, at: number, to: number): readonly Spelling[] {
  if (at + 1 < to && (text[at + 1] === CR || text[at + 1] === LF)) return [lineBreak(text, at + 1, to, at)];
  const byte = hexAt(text, at + 1, 2, to);
  return byte < 0 ? NONE : [{ bytes: Uint8Array.of(byte), length: 3 }];
}

const ENTITIES: readonly [string, number][] = [
  ["amp;", 0x26],
  ["lt;", 0x3c],
  ["gt;", 0x3e],
  ["quot;", 0x22],
  ["apos;", 0x27],
];

function markup(text: Uint8Array, at: number, to: number): readonly Spelling[] {
  const rest = Buffer.from(text.buffer, text.byteOffset + at + 1, Math.min(LONGEST_MARKUP, to - at) - 1).toString(
    "latin1",
  );
  const numeric = /^#(?:[xX]([0-9A-Fa-f]{1,6})|([0-9]{1,6}));/.exec(rest);
  if (numeric !== null) {
    const code = numeric[1] === undefined ? Number(numeric[2]) : Number.parseInt(numeric[1], 16);
    return code > 0x10ffff ? NONE : [{ bytes: utf8(code), length: numeric[0].length + 1 }];
  }
  const named = ENTITIES.find(([name]) => rest.startsWith(name));
  return named === undefined ? NONE : [{ bytes: Uint8Array.of(named[1]), length: named[0].length + 1 }];
}

const LETTERS: ReadonlyMap<string, number> = new Map([
  ["n", LF],
  ["r", CR],
  ["t", 0x09],
  ["b", 0x08],
  ["f", 0x0c],
  ["/", 0x2f],
  ['"', 0x22],
  ["'", 0x27],
]);

/** JSON (RFC 8259 section 7) and the programming languages that write strings like it. */
function backslash(text: Uint8Array, at: number, to: number): readonly Spelling[] {
  let letter = at + 1;
  while (letter < to && text[letter] === BACKSLASH && letter - at < MOST_BACKSLASHES) letter++;
  const itself = itselfEscaped(text, at, to);
  if (letter >= to) return itself;
  const name = String.fromCharCode(text[letter] as number);
  const byte = name === "x" ? hexAt(text, letter + 1, 2, to) : (LETTERS.get(name) ?? -1);
  const end = letter + (name === "x" ? 3 : 1);
  if (name === "u") return [...itself, ...unicode(text, at, letter, to)];
  return byte < 0 ? itself : [...itself, ...byteOrBreak(byte, text, at, end, to)];
}

/** A backslash that was escaped once or twice. */
function itselfEscaped(text: Uint8Array, at: number, to: number): Spelling[] {
  let end = at + 1;
  while (end < Math.min(to, at + 4) && text[end] === BACKSLASH) end++;
  const bytes = Uint8Array.of(BACKSLASH);
  return [2, 4].filter((length) => length <= end - at).map((length) => ({ bytes, length }));
}

/** `\uXXXX`, or two of them for a character beyond the first plane. */
function unicode(text: Uint8Array, at: number, letter: number, to: number): readonly Spelling[] {
  const unit = hexAt(text, letter + 1, 4, to);
  if (unit < 0) return NONE;
  const end = letter + 5;
  if (unit < 0xd800 || unit > 0xdbff) return byteOrBytes(utf8(unit), text, at, end, to);
  const second = end + letter - at;
  const low = text[end] === BACKSLASH && text[second] === 0x75 ? hexAt(text, second + 1, 4, to) : -1;
  if (low < 0xdc00 || low > 0xdfff) return NONE;
  return [{ bytes: utf8(0x10000 + ((unit - 0xd800) << 10) + low - 0xdc00), length: second + 5 - at }];
}

const byteOrBytes = (bytes: Uint8Array, text: Uint8Array, at: number, end: number, to: number): readonly Spelling[] =>
  bytes.length === 1 ? byteOrBreak(bytes[0] as number, text, at, end, to) : [{ bytes, length: end - at }];

const utf8 = (code: number): Uint8Array => Buffer.from(String.fromCodePoint(code), "utf8");

/** The number in so many hexadecimal digits, or -1. */
function hexAt(text: Uint8Array, at: number, digits: number, to: number): number {
  if (at + digits > to) return -1;
  let value = 0;
  for (let i = at; i < at + digits; i++) {
    const byte = text[i] as number;
    const letter = byte | 0x20;
    if (byte >= 0x30 && byte <= 0x39) value = value * 16 + byte - 0x30;
    else if (letter >= 0x61 && letter <= 0x66) value = value * 16 + letter - 0x57;
    else return -1;
  }
  return value;
}
