// The secrets that must not be written anywhere, and taking them out of texts, whatever their spelling.
import { foldedSpellings, SHORTEST_HIDDEN } from "./secret-spellings.ts";
import { type Span, TextSet } from "./text-set.ts";

export const REDACTED = "[redacted]";

/** So many characters of a secret at a cut are taken for its beginning. */
const SHORTEST_BEGINNING = 4;
/** Reloads may bring new secrets for ever: of more than this the oldest is forgotten. */
const MOST_SECRETS = 1_000;

/** A text in another reading, and where its characters stand in the text itself: `i` begins at `start(i)`, and ends at `end(i)`. */
interface Reading {
  readonly text: string;
  start(i: number): number;
  end(i: number): number;
}

/**
 * Secrets of at least `SHORTEST_HIDDEN` characters. All methods return the text itself when nothing was found; the matcher is made
 * when it is first needed, once for each set of secrets.
 */
export class KnownSecrets {
  readonly #values = new Set<string>();
  #set: TextSet | null = null;
  /** The spellings without dots: a long one is cut into labels. */
  #undotted: TextSet | null = null;

  constructor(secrets: readonly string[] = []) {
    this.add(secrets);
  }

  /** Adds secrets of a new configuration; those of the old one stay secret. */
  add(secrets: readonly string[]): void {
    for (const secret of secrets) {
      if (secret.length < SHORTEST_HIDDEN) continue;
      this.#values.delete(secret);
      this.#values.add(secret);
      this.#set = null;
    }
    for (const oldest of this.#values) {
      if (this.#values.size <= MOST_SECRETS) break;
      this.#values.delete(oldest);
    }
  }

  /** True: there is nothing to look for. */
  get none(): boolean {
    return this.#values.size === 0;
  }

  /** A text of characters, or of bytes that were read as Latin-1. */
  redact(text: string): string {
    if (this.none) return text;
    const spans = this.#matcher.all(text);
    return spans.length === 0 ? text : without(text, spans);
  }

  /** The same for a text that was cut: the beginning of a secret at its end goes too. */
  redactCut(text: string): string {
    if (this.none) return text;
    const spans = this.#matcher.all(text);
    const cut = this.#matcher.beginningAtEnd(text, SHORTEST_BEGINNING);
    if (cut !== null) spans.push({ start: cut, end: text.length });
    return spans.length === 0 ? text : without(text, spans);
  }

  /** Path and query: any of its characters may be percent-encoded, once or twice (RFC 3986 section 2.1). */
  redactPath(path: string): string {
    if (this.none) return path;
    const spans = [...this.#matcher.all(path)];
    for (let reading = percentDecoded(asItIs(path)), depth = 0; reading !== null && depth < 2; depth++) {
      spans.push(...this.#inReading(this.#matcher, reading));
      reading = percentDecoded(reading);
    }
    return spans.length === 0 ? path : without(path, spans);
  }

  /** A host name; a spelling that is too long for one label may be cut by dots (RFC 1035 section 2.3.4). */
  redactHost(host: string): string {
    if (this.none) return host;
    const spans = this.#matcher.all(host);
    if (host.length > LONGEST_LABEL && this.#undotted !== null)
      spans.push(...this.#inReading(this.#undotted, undotted(host)));
    return spans.length === 0 ? host : without(host, spans);
  }

  #inReading(set: TextSet, reading: Reading): Span[] {
    return set.all(reading.text).map(({ start, end }) => ({ start: reading.start(start), end: reading.end(end - 1) }));
  }

  get #matcher(): TextSet {
    if (this.#set !== null) return this.#set;
    const spellings = [...this.#values].flatMap(foldedSpellings);
    const long = spellings.map((text) => text.replaceAll(".", "")).filter((text) => text.length > LONGEST_LABEL);
    this.#undotted = long.length === 0 ? null : new TextSet(long);
    this.#set = new TextSet(spellings);
    return this.#set;
  }
}

const LONGEST_LABEL = 63;

/** The text with each span replaced; spans that overlap or touch become one. */
function without(text: string, spans: Span[]): string {
  spans.sort((a, b) => a.start - b.start);
  let safe = "";
  let done = 0;
  for (let i = 0; i < spans.length; ) {
    const { start } = spans[i] as Span;
    let { end } = spans[i++] as Span;
    for (; i < spans.length && (spans[i] as Span).start <= end; i++) end = Math.max(end, (spans[i] as Span).end);
    safe += text.slice(done, start) + REDACTED;
    done = end;
  }
  return safe + text.slice(done);
}

const asItIs = (text: string): Reading => ({ text, start: (i) => i, end: (i) => i + 1 });

/** Null when nothing is encoded. */
function percentDecoded(reading: Reading): Reading | null {
  const { text } = reading;
  if (!/%[0-9A-Fa-f]{2}/.test(text)) return null;
  const places: number[] = [];
  let decoded = "";
  for (let i = 0; i < text.length; ) {
    const code = text[i] === "%" ? /^[0-9A-Fa-f]{2}/.exec(text.slice(i + 1, i + 3))?.[0] : undefined;
    places.push(i);
    decoded += code === undefined ? text[i] : String.fromCharCode(Number.parseInt(code, 16));
    i += code === undefined ? 1 : 3;
  }
  places.push(text.length);
  const start = (i: number): number => reading.start(places[i] as number);
  return { text: decoded, start, end: (i) => reading.end((places[i + 1] as number) - 1) };
}

function undotted(host: string): Reading {
  const places: number[] = [];
  for (let i = 0; i < host.length; i++) if (host[i] !== ".") places.push(i);
  const start = (i: number): number => places[i] as number;
  return { text: host.replaceAll(".", ""), start, end: (i) => start(i) + 1 };
}
