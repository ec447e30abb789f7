// What may stand in a text for another byte: escapes of URLs, JSON, programs, HTML and quoted-printable. A reader undoes one escape;
// escapes that were escaped again in the same way (`%2561`, `\\u0061`, `&amp;#97;`) are one.

/** The bytes of source that an escape may have; more of the same is not looked at. */
export const LONGEST_ESCAPE = 28;

/** What an escape stands for: a byte, or a character beyond ASCII. It is nothing where a text says that nothing is meant. */
export interface Escape {
  /** After its last byte. */
  end: number;
  /** -1: nothing. */
  code: number;
  /** True: `code` is a byte; false: it is a character. */
  byte: boolean;
}

const PERCENT = 0x25;
const AMPERSAND = 0x26;
const EQUALS = 0x3d;
const BACKSLASH = 0x5c;
const SEMICOLON = 0x3b;
const LF = 0x0a;
const CR = 0x0d;
/** How often an escape may be escaped again. */
const MOST_NESTED = 4;
const MOST_BACKSLASHES = 7;

const HEX = new Int8Array(256).fill(-1);
for (const [at, digit] of [..."0123456789abcdef"].entries()) {
  HEX[digit.charCodeAt(0)] = at;
  HEX[digit.toUpperCase().charCodeAt(0)] = at;
}

/** Not 0 for each byte with which an escape begins: one bit, each its own. */
export const BEGINS_ESCAPE = new Uint8Array(256);
/** For each byte the bits of those right behind which it can go on with an escape; most can not, which saves reading one there. */
export const GOES_ON = new Uint8Array(256);
const SIGNS: readonly [string, RegExp][] = [
  ["%", /[0-9a-f]/i],
  ["=", /[0-9a-f\r\n]/i],
  ["&", /[#a-z]/i],
  ["\\", /[\s\S]/],
];
for (const [n, [sign, next]] of SIGNS.entries()) {
  BEGINS_ESCAPE[sign.charCodeAt(0)] = 1 << n;
  for (let byte = 0; byte < 256; byte++)
    if (next.test(String.fromCharCode(byte))) GOES_ON[byte] = (GOES_ON[byte] as number) | (1 << n);
}

/**
 * Reads the escape that begins at `at` into `into`; nothing at or after `to` is looked at. False: there is none. `mail`: every
 * character may be written in quoted-printable; otherwise only one that is no letter or digit, since `=` stands before values.
 */
export function readEscape(text: Uint8Array, at: number, to: number, mail: boolean, into: Escape): boolean {
  switch (text[at]) {
    case PERCENT:
      return percent(text, at, to, into);
    case EQUALS:
      return quotedPrintable(text, at, to, mail, into);
    case AMPERSAND:
      return markup(text, at, to, into);
    case BACKSLASH:
      return backslash(text, at, to, into);
    default:
      return false;
  }
}

function found(into: Escape, end: number, code: number, byte: boolean): boolean {
  into.end = end;
  into.code = code;
  into.byte = byte;
  return true;
}

/** The number in so many hexadecimal digits, or -1. */
function hexAt(text: Uint8Array, at: number, digits: number, to: number): number {
  if (at + digits > to) return -1;
  let value = 0;
  for (let i = at; i < at + digits; i++) {
    const digit = HEX[text[i] as number] as number;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/** RFC 3986 section 2.1. */
function percent(text: Uint8Array, at: number, to: number, into: Escape): boolean {
  let digits = at + 1;
  let value = hexAt(text, digits, 2, to);
  if (value < 0) return false;
  for (let depth = 0; value === PERCENT && depth < MOST_NESTED; depth++) {
    const inner = hexAt(text, digits + 2, 2, to);
    if (inner < 0) break;
    digits += 2;
    value = inner;
  }
  return found(into, digits + 2, value, true);
}

/** RFC 2045 section 6.7; an `=` at the end of a line joins it with the next. */
function quotedPrintable(text: Uint8Array, at: number, to: number, mail: boolean, into: Escape): boolean {
  const next = at + 1 < to ? text[at + 1] : 0;
  if (next === LF) return found(into, at + 2, -1, true);
  if (next === CR) return found(into, at + 2 < to && text[at + 2] === LF ? at + 3 : at + 2, -1, true);
  const value = hexAt(text, at + 1, 2, to);
  if (value < 0 || (!mail && !isSign(value))) return false;
  return found(into, at + 3, value, true);
}

/** White space and what is neither letter nor digit in ASCII. */
function isSign(byte: number): boolean {
  if (byte < 0x21) return byte === 0x20 || byte === 0x09 || byte === LF || byte === CR;
  return byte < 0x7f && !(byte >= 0x30 && byte <= 0x39) && !isLetter(byte);
}

/** The names that HTML has for characters of ASCII. */
const NAMES: ReadonlyMap<string, number> = new Map(
  Object.entries({
    amp: "&",
    lt: "<",
    gt: ">",
    quot: '"',
    apos: "'",
    plus: "+",
    sol: "/",
    equals: "=",
    colon: ":",
    semi: ";",
    period: ".",
    comma: ",",
    lowbar: "_",
    hyphen: "-",
    dash: "-",
    excl: "!",
    num: "#",
    dollar: "$",
    percnt: "%",
    lpar: "(",
    rpar: ")",
    ast: "*",
    quest: "?",
    commat: "@",
    lsqb: "[",
    rsqb: "]",
    bsol: "\\",
    Hat: "^",
    grave: "`",
    lcub: "{",
    rcub: "}",
    verbar: "|",
    vert: "|",
    Tab: "\t",
    NewLine: "\n",
  }).map(([name, character]) => [name, character.charCodeAt(0)]),
);
const LONGEST_NAME = 7;

/** HTML section 13.5; of a number the semicolon may be missing, and zeros may stand before it. */
function markup(text: Uint8Array, at: number, to: number, into: Escape): boolean {
  let begin = at + 1;
  let nested = 0;
  while (nested < MOST_NESTED && isAmp(text, begin, to)) {
    begin += 4;
    nested++;
  }
  if (begin < to && text[begin] === 0x23 && numeric(text, begin + 1, to, into)) return true;
  if (named(text, begin, to, into)) return true;
  return nested > 0 && found(into, begin, AMPERSAND, true);
}

const isAmp = (text: Uint8Array, at: number, to: number): boolean =>
  at + 4 <= to && text[at] === 0x61 && text[at + 1] === 0x6d && text[at + 2] === 0x70 && text[at + 3] === SEMICOLON;

const isLetter = (byte: number): boolean => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;

function numeric(text: Uint8Array, at: number, to: number, into: Escape): boolean {
  const hexadecimal = at < to && ((text[at] as number) | 0x20) === 0x78;
  const from = hexadecimal ? at + 1 : at;
  const most = Math.min(to, from + 8);
  let value = 0;
  let end = from;
  for (; end < most; end++) {
    const digit = HEX[text[end] as number] as number;
    if (digit < 0 || (!hexadecimal && digit > 9)) break;
    value = value * (hexadecimal ? 16 : 10) + digit;
  }
  if (end === from || value > 0x10ffff) return false;
  return found(into, end < to && text[end] === SEMICOLON ? end + 1 : end, value, false);
}

function named(text: Uint8Array, at: number, to: number, into: Escape): boolean {
  let end = at;
  while (end < to && end - at < LONGEST_NAME && isLetter(text[end] as number)) end++;
  if (end >= to || text[end] !== SEMICOLON || end === at) return false;
  const value = NAMES.get(String.fromCharCode(...text.subarray(at, end)));
  return value !== undefined && found(into, end + 1, value, true);
}

const LETTERS = new Int16Array(256).fill(-1);
for (const [letter, value] of Object.entries({ n: LF, r: CR, t: 0x09, b: 0x08, f: 0x0c, v: 0x0b, a: 0x07, e: 0x1b }))
  LETTERS[letter.charCodeAt(0)] = value;

/**
 * JSON (RFC 8259 section 7) and the programming languages that write strings like it. Backslashes before anything else are left
 * out: they escape it, or are themselves escaped.
 */
function backslash(text: Uint8Array, at: number, to: number, into: Escape): boolean {
  let letter = at + 1;
  while (letter < to && text[letter] === BACKSLASH && letter - at < MOST_BACKSLASHES) letter++;
  if (letter < to && written(text, letter, to, into)) return true;
  return found(into, letter, -1, true);
}

/** What the letter and what follows it stand for, behind a backslash. */
function written(text: Uint8Array, letter: number, to: number, into: Escape): boolean {
  const name = text[letter] as number;
  if (name === 0x75) return braced(text, letter, to, into) || unicode(text, letter, to, into);
  if (name === 0x55) return inDigits(text, letter, 8, to, false, into);
  if (name === 0x78) return braced(text, letter, to, into) || inDigits(text, letter, 2, to, true, into);
  if (name >= 0x30 && name <= 0x37) return octal(text, letter, to, into);
  const value = LETTERS[name] as number;
  return value >= 0 && found(into, letter + 1, value, true);
}

function inDigits(text: Uint8Array, letter: number, digits: number, to: number, byte: boolean, into: Escape): boolean {
  const value = hexAt(text, letter + 1, digits, to);
  return value >= 0 && value <= 0x10ffff && found(into, letter + 1 + digits, value, byte);
}

/** `\u{1f511}` */
function braced(text: Uint8Array, letter: number, to: number, into: Escape): boolean {
  if (letter + 1 >= to || text[letter + 1] !== 0x7b) return false;
  let value = 0;
  let at = letter + 2;
  for (; at < to && at < letter + 10; at++) {
    const digit = HEX[text[at] as number] as number;
    if (digit < 0) break;
    value = value * 16 + digit;
  }
  return at > letter + 2 && at < to && text[at] === 0x7d && value <= 0x10ffff && found(into, at + 1, value, false);
}

function octal(text: Uint8Array, letter: number, to: number, into: Escape): boolean {
  let value = 0;
  let at = letter;
  for (; at < to && at < letter + 3; at++) {
    const digit = (text[at] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  return found(into, at, value & 0xff, true);
}

/** `\uXXXX`, or two of them for a character beyond the first plane. */
function unicode(text: Uint8Array, letter: number, to: number, into: Escape): boolean {
  const unit = hexAt(text, letter + 1, 4, to);
  if (unit < 0) return false;
  const end = letter + 5;
  if (unit < 0xd800 || unit > 0xdbff) return found(into, end, unit, false);
  let second = end;
  while (second < to && text[second] === BACKSLASH && second - end < MOST_BACKSLASHES) second++;
  const low = second > end && second < to && text[second] === 0x75 ? hexAt(text, second + 1, 4, to) : -1;
  if (low < 0xdc00 || low > 0xdfff) return found(into, end, unit, false);
  return found(into, second + 5, 0x10000 + ((unit - 0xd800) << 10) + low - 0xdc00, false);
}
