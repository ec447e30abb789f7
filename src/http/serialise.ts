// Heads are written from parsed fields, never from received bytes (RFC 9112 sections 3, 4 and 6). Framing is ours: it
// stands where the other side had put its own, so that the order of fields survives.
import { type Fields, isNamed } from "./fields.ts";

/** How the content is framed. A number: Content-Length; `keep`: the fields say it (HEAD and 304); `none`: neither field. */
export type Framing = number | "chunked" | "keep" | "none";

/** Where a head is written to, piece by piece. Characters are octets (ISO 8859-1). */
export interface HeadSink {
  text(text: string): void;
  /** A field line, with its end. */
  line(name: string, value: string): void;
}

/** Writes field lines, in order. `host`: replaces the value of Host (requests), or null. */
export function writeFields(sink: HeadSink, fields: Fields, framing: Framing, host: string | null): void {
  let framed = framing === "none" || framing === "keep";
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    const isLength = isNamed(name, "content-length");
    if (isLength || isNamed(name, "transfer-encoding")) {
      if (framing === "keep" && isLength) sink.line(name, value);
      else if (!framed) writeFraming(sink, framing, isLength === (framing !== "chunked") ? name : null);
      framed = true;
    } else sink.line(name, host !== null && isNamed(name, "host") ? host : value);
  }
  if (!framed) writeFraming(sink, framing, null);
}

/** `name`: as the other side spelled it, or null. */
function writeFraming(sink: HeadSink, framing: Framing, name: string | null): void {
  if (framing === "chunked") sink.line(name ?? "Transfer-Encoding", "chunked");
  else sink.line(name ?? "Content-Length", String(framing));
}

class Lines implements HeadSink {
  all = "";
  text(text: string): void {
    this.all += text;
  }
  line(name: string, value: string): void {
    this.all += `${name}: ${value}\r\n`;
  }
}

/** The same as text. */
export function fieldLines(fields: Fields, framing: Framing, host: string | null): string {
  const lines = new Lines();
  writeFields(lines, fields, framing, host);
  return lines.all;
}

/** The last chunk and the trailer section (RFC 9112 section 7.1). */
export function lastChunk(trailers: Fields | null): string {
  if (trailers === null) return "0\r\n\r\n";
  let text = "0\r\n";
  for (let i = 0; i < trailers.length; i += 2) text += `${trailers[i] as string}: ${trailers[i + 1] as string}\r\n`;
  return `${text}\r\n`;
}

/** The phrases of RFC 9110 section 15, for our own responses and for responses that came without one. */
export const PHRASES: Readonly<Record<number, string>> = {
  100: "Continue",
  101: "Switching Protocols",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  417: "Expectation Failed",
  421: "Misdirected Request",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};
