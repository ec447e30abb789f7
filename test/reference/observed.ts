// What crossed a wire, in a form in which two implementations can be compared. What node:http and undici do in their own way
// is taken out here, and nowhere else:
//   - Connection and Keep-Alive fields, which belong to each connection;
//   - the place of Content-Length and Transfer-Encoding among the fields, their case, and the sizes of chunks: what is left is
//     how content was framed, where there was any;
//   - the place of Host among the fields of a request (undici writes it first), and its case;
//   - that undici frames content which turns out empty by its length;
//   - ids of records in our own responses, and our sentence on what was wrong with an origin.
import type { RawResponse } from "../support/raw-client.ts";

export interface ResponseSeen {
  readonly status: number;
  readonly phrase: string;
  /** Field lines, in order. */
  readonly fields: readonly string[];
  readonly content: string;
  readonly trailers: readonly string[];
  readonly framing: "none" | "length" | "chunked";
  /** Of HEAD and 304: the length that is said. */
  readonly said: string | null;
  /** The connection ends with it. */
  readonly closes: boolean;
  readonly interims: readonly Omit<ResponseSeen, "interims">[];
}

/** A request as the origin got it. */
export interface Message {
  readonly line: string;
  readonly host: string;
  readonly fields: readonly string[];
  readonly framing: "none" | "length" | "chunked";
  readonly content: string;
  readonly trailers: readonly string[];
}

const OWN = /^(?:connection|keep-alive|content-length|transfer-encoding|host):/i;
const ULID = /\b[0-9A-HJKMNP-TV-Z]{26}\b/g;

const nameless = (text: string): string =>
  text.replace(ULID, "ID").replace(/(could not complete this request): .*?(?=: [A-Z]+ http)/, "$1");
const fieldValue = (lines: readonly string[], name: string): string | null => {
  const line = lines.find((l) => l.toLowerCase().startsWith(`${name}:`));
  return line === undefined ? null : line.slice(name.length + 1).trim();
};
/** Without the blanks around values, which say nothing. */
const tidy = (line: string): string => line.replace(/^([^:]+):[ \t]*/, "$1: ").trimEnd();

export function responseOf(raw: RawResponse, method: string, interims: ResponseSeen["interims"]): ResponseSeen {
  const chunked = fieldValue(raw.lines, "transfer-encoding") === "chunked";
  const headOnly = method === "HEAD" || raw.status === 304;
  return {
    status: raw.status,
    phrase: raw.phrase,
    fields: raw.lines.filter((line) => !OWN.test(line)).map((line) => nameless(tidy(line))),
    content: nameless(raw.content),
    trailers: chunked && !headOnly ? trailersOf(raw.raw) : [],
    framing:
      headOnly || raw.content === "" ? (chunked && !headOnly ? "chunked" : "none") : chunked ? "chunked" : "length",
    said: headOnly ? fieldValue(raw.lines, "content-length") : null,
    closes: fieldValue(raw.lines, "connection")?.toLowerCase() === "close",
    interims,
  };
}

function trailersOf(raw: string): string[] {
  const start = raw.lastIndexOf("\r\n0\r\n") + 5;
  return raw
    .slice(start)
    .split("\r\n")
    .filter((line) => line !== "");
}

/** The requests in the bytes of a connection. Throws when they are not whole. */
export function messagesIn(text: string): Message[] {
  const found: Message[] = [];
  for (let i = 0; i < text.length; ) {
    const end = text.indexOf("\r\n\r\n", i);
    if (end < 0) throw new Error(`a broken request: ${JSON.stringify(text.slice(i))}`);
    const [line = "", ...lines] = text.slice(i, end).split("\r\n");
    const body = bodyAt(text, end + 4, lines);
    found.push({
      line,
      host: fieldValue(lines, "host") ?? "",
      fields: lines.filter((l) => !OWN.test(l)).map(tidy),
      framing: body.content === "" && body.trailers.length === 0 ? "none" : body.framing,
      content: body.content,
      trailers: body.trailers,
    });
    i = body.end;
  }
  return found;
}

interface Body {
  readonly framing: Message["framing"];
  readonly content: string;
  readonly trailers: readonly string[];
  readonly end: number;
}

function bodyAt(text: string, start: number, lines: readonly string[]): Body {
  if (fieldValue(lines, "transfer-encoding") === null) {
    const length = Number(fieldValue(lines, "content-length") ?? 0);
    const content = text.slice(start, start + length);
    const cut = content.length < length ? ` (${length - content.length} are missing)` : "";
    return { framing: length === 0 ? "none" : "length", content: content + cut, trailers: [], end: start + length };
  }
  let content = "";
  for (let i = start; ; ) {
    const line = text.indexOf("\r\n", i);
    const size = line < 0 ? Number.NaN : Number.parseInt(text.slice(i, line), 16);
    if (Number.isNaN(size)) return { framing: "chunked", content: `${content} (cut)`, trailers: [], end: text.length };
    if (size === 0) {
      const end = text.startsWith("\r\n", line + 2) ? line + 2 : text.indexOf("\r\n\r\n", line + 2) + 2;
      const trailers = text
        .slice(line + 2, end)
        .split("\r\n")
        .filter((l) => l !== "");
      return { framing: "chunked", content, trailers, end: end + 2 };
    }
    content += text.slice(line + 2, line + 2 + size);
    i = line + 2 + size + 2;
  }
}
