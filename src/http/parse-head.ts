// Heads of HTTP/1.1 messages (RFC 9112 sections 2 to 5), strictly: bytes in, a parsed head or a code out. No I/O, no caches.
// Whatever two readers could read differently is refused, never repaired.
import type { Reason } from "../shared/errors.ts";
import { connectionOptions, isConnection } from "./connection-options.ts";
import { type FieldKind, kindOf } from "./field-kind.ts";
import type { Fields } from "./fields.ts";

/** The parser's hard bounds; the policy's limits are below them. Bytes, but for `fields` (a count). */
export const HEAD_BOUNDS = { head: 262_144, fields: 256, method: 32 } as const;

// Codes: parse functions return > 0 (the index after the head), 0 (more bytes are needed) or one of these.
export const MALFORMED = -1;
export const AMBIGUOUS = -2;
export const NOT_IMPLEMENTED = -3;
export const TARGET_TOO_LONG = -4;
export const FIELDS_TOO_LARGE = -5;
export const EXPECTATION = -6;
export const VERSION = -7;

const REASON_OF: readonly Reason[] = [
  "internal",
  "malformed-request",
  "ambiguous-framing",
  "not-implemented",
  "target-too-long",
  "fields-too-large",
  "expectation-failed",
  "version-not-supported",
];
/** The reason that a negative result stands for, when it was a request. */
export const reasonOfCode = (code: number): Reason => REASON_OF[-code] ?? "internal";

// Byte classes.
const TCHAR = 1; // RFC 9110 section 5.6.2
const VALUE = 2; // HTAB, SP, VCHAR, obs-text
const TARGET = 4; // VCHAR without "#": a request-target has no fragment
const CLASS = new Uint8Array(256);
for (let c = 0; c < 256; c++) {
  if (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(c))) CLASS[c] = TCHAR;
  if (c === 9 || (c >= 32 && c !== 127)) CLASS[c] = (CLASS[c] as number) | VALUE;
  if (c > 32 && c < 127 && c !== 35) CLASS[c] = (CLASS[c] as number) | TARGET;
}
export const isToken = (text: string): boolean => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text);
export const isFieldValue = (text: string): boolean => /^[\t\x20-\x7e\x80-\xff]*$/.test(text);

/** A parsed head. One class for both kinds, so that the engine's objects keep one shape. */
export class Head {
  method = "";
  target = "";
  status = 0;
  phrase = "";
  /** The minor version: 0 or 1. */
  minor = 1;
  /** Every field as sent, in order. */
  fields: Fields = [];
  /** Bytes of the head. */
  size = 0;
  /** The value of the one Host field. */
  host: string | null = null;
  /** Content-Length, or -1. */
  length = -1;
  chunked = false;
  /** Connection options "close" and "keep-alive" were present. */
  close = false;
  keepAlive = false;
  /** Expect: 100-continue. */
  expect = false;
  /** The Upgrade field, when Connection names it. */
  upgrade: string | null = null;
  /** Other names that Connection lists, lower case; null when there are none. */
  nominated: string[] | null = null;
}

// Offsets of the tokens of the head being parsed: name start, name end, value start, value end. Parsing never yields,
// so one array serves all connections.
const at = new Int32Array(4 * (HEAD_BOUNDS.fields + 1));
let found = 0;

/**
 * Scans field lines from `i` up to and including the empty line; fills `at` and `found`.
 * Returns the index after it, 0, or a code.
 */
function scanFields(b: Uint8Array, i: number, end: number): number {
  let o = 0;
  let n = 0;
  for (;;) {
    if (i >= end) return 0;
    if (b[i] === 13) {
      if (i + 1 >= end) return 0;
      if (b[i + 1] !== 10) return MALFORMED;
      found = n;
      return i + 2;
    }
    const nameStart = i;
    while (i < end && (CLASS[b[i] as number] as number) & TCHAR) i++;
    if (i >= end) return 0;
    if (i === nameStart || b[i] !== 58) return MALFORMED; // obs-fold, a space before the colon, an empty name
    const nameEnd = i++;
    while (i < end && (b[i] === 32 || b[i] === 9)) i++;
    const valueStart = i;
    while (i < end && (CLASS[b[i] as number] as number) & VALUE) i++;
    if (i >= end) return 0;
    if (b[i] !== 13) return MALFORMED; // bare LF, NUL, controls
    if (i + 1 >= end) return 0;
    if (b[i + 1] !== 10) return MALFORMED; // bare CR
    let valueEnd = i;
    while (valueEnd > valueStart && (b[valueEnd - 1] === 32 || b[valueEnd - 1] === 9)) valueEnd--;
    if (n === HEAD_BOUNDS.fields) return FIELDS_TOO_LARGE;
    at[o] = nameStart;
    at[o + 1] = nameEnd;
    at[o + 2] = valueStart;
    at[o + 3] = valueEnd;
    o += 4;
    n++;
    i += 2;
  }
}

/** Strings and meaning of the scanned fields. Returns 0 or a code. */
function takeFields(b: Buffer, text: string, base: number, head: Head, isRequest: boolean): number {
  const fields = head.fields;
  let connection = false;
  for (let n = 0, o = 0; n < found; n++, o += 4) {
    const nameStart = at[o] as number;
    const nameEnd = at[o + 1] as number;
    const value = text.substring((at[o + 2] as number) - base, (at[o + 3] as number) - base);
    fields.push(text.substring(nameStart - base, nameEnd - base), value);
    const kind = kindOf(b, nameStart, nameEnd);
    if (kind === 0) continue;
    const bad = takeKnown(kind, value, b, o, head, isRequest);
    if (bad !== 0) return bad;
    if (kind === 4) connection = true;
  }
  if (head.chunked && (head.length >= 0 || head.minor === 0)) return AMBIGUOUS; // RFC 9112 section 6.1
  if (connection) takeConnection(head);
  else head.upgrade = null; // Upgrade counts only when Connection names it (RFC 9110 section 7.8)
  return 0;
}

/** A field that the engine acts on. Returns 0 or a code. */
function takeKnown(kind: FieldKind, value: string, b: Buffer, o: number, head: Head, isRequest: boolean): number {
  switch (kind) {
    case 1: // Host (RFC 9112 section 3.2: exactly one)
      if (!isRequest) return 0;
      if (head.host !== null) return MALFORMED;
      head.host = value;
      return 0;
    case 2:
      return takeLength(value, b, o, head, isRequest);
    case 3: // Transfer-Encoding: exactly one, exactly "chunked"
      if (head.chunked || tabbed(b, o)) return AMBIGUOUS;
      if (value.length !== 7 || value.toLowerCase() !== "chunked") return isRequest ? NOT_IMPLEMENTED : AMBIGUOUS;
      head.chunked = true;
      return 0;
    case 4: // Connection: read when all fields are known
      return 0;
    case 5: // Expect (RFC 9110 section 10.1.1)
      if (!isRequest) return 0;
      if (value.toLowerCase() !== "100-continue") return EXPECTATION;
      head.expect = true;
      return 0;
    case 6:
      head.upgrade = head.upgrade === null ? value : `${head.upgrade}, ${value}`;
      return 0;
  }
  return 0;
}

function takeLength(value: string, b: Buffer, o: number, head: Head, isRequest: boolean): number {
  if (value.length === 0 || value.length > 16 || tabbed(b, o)) return AMBIGUOUS;
  let length = 0;
  for (let i = 0; i < value.length; i++) {
    const digit = value.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return AMBIGUOUS;
    length = length * 10 + digit;
  }
  if (!Number.isSafeInteger(length)) return AMBIGUOUS;
  // Equal duplicates of a response collapse (RFC 9112 section 6.3); a request's are refused.
  if (head.length >= 0 && (isRequest || head.length !== length)) return AMBIGUOUS;
  head.length = length;
  return 0;
}

/** A tab around a framing value is legal, but other readers take `chunked<TAB>` for another coding: refused. */
function tabbed(b: Uint8Array, o: number): boolean {
  for (let i = at[o + 1] as number; i < (at[o + 2] as number); i++) if (b[i] === 9) return true;
  for (let i = at[o + 3] as number; b[i] !== 13; i++) if (b[i] === 9) return true;
  return false;
}

function takeConnection(head: Head): void {
  const fields = head.fields;
  let upgrade = false;
  for (let i = 0; i < fields.length; i += 2) {
    if (!isConnection(fields[i] as string)) continue;
    for (const option of connectionOptions(fields[i + 1] as string)) {
      if (option === "close") head.close = true;
      else if (option === "keep-alive") head.keepAlive = true;
      else if (option === "upgrade") upgrade = true;
      else {
        head.nominated ??= [];
        head.nominated.push(option);
      }
    }
  }
  if (!upgrade) head.upgrade = null;
}

/**
 * Parses a request head in `b[i..end)` into `head` (RFC 9112 section 3). `maxHead` and `maxTarget` in bytes.
 * Returns the index after the head, 0 when more bytes are needed, or a code (`reasonOfCode`).
 */
export function parseRequestHead(
  b: Buffer,
  i: number,
  end: number,
  head: Head,
  maxHead: number,
  maxTarget: number,
): number {
  const stop = Math.min(end, i + maxHead + 4); // never scan more than the limit
  const result = requestHead(b, i, stop, head, maxTarget);
  if (result > 0) return result - i > maxHead + 4 ? FIELDS_TOO_LARGE : result;
  return result === 0 && stop < end ? FIELDS_TOO_LARGE : result;
}

function requestHead(b: Buffer, i: number, end: number, head: Head, maxTarget: number): number {
  for (let n = 0; n < 2 && i < end && b[i] === 13; n++) {
    // Empty lines before the request line (RFC 9112 section 2.2).
    if (i + 1 >= end) return 0;
    if (b[i + 1] !== 10) return MALFORMED;
    i += 2;
  }
  const base = i;
  while (i < end && (CLASS[b[i] as number] as number) & TCHAR) i++;
  if (i - base > HEAD_BOUNDS.method) return NOT_IMPLEMENTED;
  if (i >= end) return 0;
  if (i === base || b[i] !== 32) return MALFORMED;
  const methodEnd = i++;
  while (i < end && (CLASS[b[i] as number] as number) & TARGET) i++;
  if (i - methodEnd - 1 > maxTarget) return TARGET_TOO_LONG;
  if (i >= end) return 0;
  if (i === methodEnd + 1 || b[i] !== 32) return MALFORMED;
  const targetEnd = i++;
  const version = readVersion(b, i, end, head);
  if (version <= 0) return version;
  i += 8;
  if (i >= end) return 0;
  if (b[i] !== 13) return MALFORMED;
  if (i + 1 >= end) return 0;
  if (b[i + 1] !== 10) return MALFORMED;
  const after = scanFields(b, i + 2, end);
  if (after <= 0) return after;
  const text = b.toString("latin1", base, after);
  head.method = methodOf(text, methodEnd - base);
  head.target = text.substring(methodEnd + 1 - base, targetEnd - base);
  head.size = after - base;
  const bad = takeFields(b, text, base, head, true);
  if (bad !== 0) return bad;
  if (head.host === null && head.minor === 1) return MALFORMED; // RFC 9112 section 3.2
  return after;
}

/**
 * Parses a response head in `b[i..end)` into `head` (RFC 9112 section 4). `maxHead` in bytes.
 * Returns the index after the head, 0 when more bytes are needed, or a negative code.
 */
export function parseResponseHead(b: Buffer, i: number, end: number, head: Head, maxHead: number): number {
  const stop = Math.min(end, i + maxHead + 4);
  const result = responseHead(b, i, stop, head);
  return result === 0 && stop < end ? FIELDS_TOO_LARGE : result;
}

function responseHead(b: Buffer, i: number, end: number, head: Head): number {
  const base = i;
  const version = readVersion(b, i, end, head);
  if (version <= 0) return version;
  if (i + 12 >= end) return 0;
  if (b[i + 8] !== 32) return MALFORMED;
  let status = 0;
  for (let n = 9; n < 12; n++) {
    const digit = (b[i + n] as number) - 48;
    if (digit < 0 || digit > 9) return MALFORMED;
    status = status * 10 + digit;
  }
  if (status < 100 || status > 599) return MALFORMED;
  head.status = status;
  i += 12;
  const phraseStart = i;
  if (b[i] === 32) {
    i++;
    while (i < end && (CLASS[b[i] as number] as number) & VALUE) i++;
  }
  if (i >= end) return 0;
  if (b[i] !== 13) return MALFORMED;
  if (i + 1 >= end) return 0;
  if (b[i + 1] !== 10) return MALFORMED;
  const after = scanFields(b, i + 2, end);
  if (after <= 0) return after;
  const text = b.toString("latin1", base, after);
  head.phrase = i > phraseStart ? text.substring(phraseStart + 1 - base, i - base) : "";
  head.size = after - base;
  const bad = takeFields(b, text, base, head, false);
  return bad !== 0 ? bad : after;
}

/** The method that begins the text. The common ones are always the same string, which is quick to look up and to compare. */
function methodOf(text: string, length: number): string {
  if (length === 3 && text.startsWith("GET")) return "GET";
  if (length === 4 && text.startsWith("POST")) return "POST";
  return text.substring(0, length);
}

const HTTP1 = [72, 84, 84, 80, 47, 49, 46]; // "HTTP/1."
function readVersion(b: Uint8Array, i: number, end: number, head: Head): number {
  for (let n = 0; n < 7; n++) {
    if (i + n >= end) return 0;
    if (b[i + n] === HTTP1[n]) continue;
    const major = b[i + n] as number;
    return n === 5 && major > 48 && major < 58 ? VERSION : MALFORMED;
  }
  if (i + 7 >= end) return 0;
  const minor = (b[i + 7] as number) - 48;
  if (minor !== 0 && minor !== 1) return minor > 1 && minor < 10 ? VERSION : MALFORMED;
  head.minor = minor;
  return 1;
}

/** A trailer section in `b[0..end)`, which ends with an empty line: its fields, or null when it is malformed. */
export function parseTrailers(b: Buffer, end: number): Fields | null {
  if (scanFields(b, 0, end) !== end) return null;
  const text = b.toString("latin1", 0, end);
  const fields: Fields = [];
  for (let o = 0; o < 4 * found; o += 4) {
    fields.push(
      text.substring(at[o] as number, at[o + 1] as number),
      text.substring(at[o + 2] as number, at[o + 3] as number),
    );
  }
  return fields;
}
