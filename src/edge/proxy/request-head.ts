// The head of a request as an origin (or a next proxy) gets it.
import type { OpenRequest } from "../../exchange/sides.ts";
import { firstValue } from "../../http/fields.ts";
import { type Framing, type HeadSink, writeFields } from "../../http/serialise.ts";
import { authorityText, originText } from "../../http/target.ts";

/**
 * Writes it. `absolute`: null towards an origin; towards a next proxy its Proxy-Authorization value, "" for none. `absoluteHost`: the
 * checked address that stands for the host in the absolute form, or null.
 */
export function writeRequestHead(
  out: HeadSink,
  request: OpenRequest,
  absolute: string | null,
  absoluteHost: string | null,
): void {
  const x = request.exchange;
  const f = x.forward;
  const target =
    absolute === null
      ? f.path
      : `${originText(absoluteHost === null ? f : { ...f, host: absoluteHost })}${f.path === "*" ? "" : f.path}`;
  const framing: Framing =
    request.length === null
      ? "chunked"
      : request.length === 0 && !declaresEmpty(x.received.fields)
        ? "none"
        : request.length;
  out.text(f.method);
  out.text(" ");
  out.text(target);
  out.text(" HTTP/1.1\r\n");
  const host = x.hostText;
  if (firstValue(f.fields, "host") === null) out.line("Host", host ?? authorityText(f, f.scheme));
  writeFields(out, f.fields, framing, host);
  if (request.expectContinue) out.line("Expect", "100-continue");
  if (absolute !== null && absolute !== "") out.line("Proxy-Authorization", absolute);
  if (request.upgrade !== null) {
    out.line("Connection", "Upgrade");
    out.line("Upgrade", request.upgrade);
  }
  out.text("\r\n");
}

/** `Content-Length: 0` of a POST is kept; a GET has neither. */
const declaresEmpty = (fields: readonly string[]): boolean => firstValue(fields as string[], "content-length") !== null;
