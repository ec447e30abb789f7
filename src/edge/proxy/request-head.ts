// The head of a request as an origin (or a next proxy) gets it.
import type { OpenRequest } from "../../exchange/sides.ts";
import { firstValue } from "../../http/fields.ts";
import { type Framing, fieldLines } from "../../http/serialise.ts";
import { authorityText, originText } from "../../http/target.ts";

/**
 * `absolute`: null towards an origin; towards a next proxy its Proxy-Authorization value, "" for none. `absoluteHost`: the
 * checked address that stands for the host in the absolute form, or null.
 */
export function requestHead(request: OpenRequest, absolute: string | null, absoluteHost: string | null): string {
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
  let text = `${f.method} ${target} HTTP/1.1\r\n`;
  const host = x.hostText;
  if (firstValue(f.fields, "host") === null) text += `Host: ${host ?? authorityText(f, f.scheme)}\r\n`;
  text += fieldLines(f.fields, framing, host);
  if (request.expectContinue) text += "Expect: 100-continue\r\n";
  if (absolute !== null && absolute !== "") text += `Proxy-Authorization: ${absolute}\r\n`;
  if (request.upgrade !== null) text += `Connection: Upgrade\r\nUpgrade: ${request.upgrade}\r\n`;
  return `${text}\r\n`;
}

/** `Content-Length: 0` of a POST is kept; a GET has neither. */
const declaresEmpty = (fields: readonly string[]): boolean => firstValue(fields as string[], "content-length") !== null;
