// Nothing about one hop leaks into the next (RFC 9110 section 7.6): removes what belongs to this connection, adds Via, and
// refuses loops. Framing fields stay where they are: the serialiser writes its own in their place.
import type { Exchange } from "../exchange/exchange.ts";
import type { Stage } from "../exchange/stage.ts";
import { connectionOptions, isConnection } from "../http/connection-options.ts";
import { type Fields, isNamed } from "../http/fields.ts";
import type { ResponseHead } from "../http/messages.ts";
import { viaEntry, wentThrough } from "../http/via.ts";
import { ProxyError } from "../shared/errors.ts";

/** Lower case. `expect` and `upgrade` are written anew by the connection that sends them. */
const HOP: readonly string[] = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authorization",
  "proxy-authenticate",
  "proxy-authentication-info",
  "te",
  "upgrade",
  "http2-settings",
  "expect",
];
/** Naming one of these in Connection would take from a request what others rely on: malformed (pitfalls F14). */
const END_TO_END =
  /^(?:authorization|cookie|set-cookie|host|content-.*|transfer-encoding|accept.*|user-agent|date|via|forwarded|x-forwarded-.*|expect|cache-control|if-.*|range|origin|referer|location|etag|x-api-key|digest|signature.*)$/;
/** HTTP/3 would go around us. */
const ALT_SVC = "alt-svc";

/** `pseudonym`: names this house in Via; no other house has it. */
export function connectionFieldsStage(pseudonym: string): Stage {
  // The version in which the message came to us, not the one in which it goes on (RFC 9110 section 7.6.3).
  const [one, zero, two] = ["1.1", "1.0", "2"].map((version) => viaEntry(version, pseudonym)) as [
    string,
    string,
    string,
  ];
  const via = (received: string | null): string => (received === "2" ? two : received === "1.0" ? zero : one);
  return {
    name: "connection fields",
    onRequest(x) {
      const { fields } = x.forward;
      if (wentThrough(fields, pseudonym)) throw new ProxyError("loop");
      strip(fields, nominatedBy(fields, x));
      fields.push("Via", via(x.received.version));
      return null;
    },
    onResponse(x, response) {
      responseFields(x, response);
      response.fields.push("Via", via(x.originProtocol));
      return null;
    },
    onInterim(x, interim) {
      responseFields(x, interim);
      interim.fields.push("Via", via(x.originProtocol));
    },
  };
}

/** What Connection names besides the usual options, lower case; null: nothing. */
function nominatedBy(fields: Fields, x: Exchange): ReadonlySet<string> | null {
  let names: Set<string> | null = null;
  for (let i = 0; i < fields.length; i += 2) {
    if (!isConnection(fields[i] as string)) continue;
    for (const name of connectionOptions(fields[i + 1] as string)) {
      if (name === "close" || name === "keep-alive" || name === "upgrade") continue;
      if (END_TO_END.test(name) || injected(x, name))
        throw new ProxyError("malformed-request", "Connection names an end-to-end field");
      names ??= new Set();
      names.add(name);
    }
  }
  return names;
}

const injected = (x: Exchange, name: string): boolean =>
  x.decision?.plan.requestEdits.some((edit) => edit.name.toLowerCase() === name) ?? false;

function strip(fields: Fields, nominated: ReadonlySet<string> | null): void {
  let kept = 0;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (isHop(name, nominated)) continue;
    fields[kept] = name;
    fields[kept + 1] = fields[i + 1] as string;
    kept += 2;
  }
  if (kept < fields.length) fields.length = kept; // setting it is slow, also where nothing changes
}

/** HOP by the length of the name: most fields are told apart by that. */
const HOP_OF_LENGTH: readonly (readonly string[])[] = Array.from({ length: 32 }, (_, n) =>
  HOP.filter((name) => name.length === n),
);
const NONE: readonly string[] = [];
function isHop(name: string, nominated: ReadonlySet<string> | null): boolean {
  const alike = HOP_OF_LENGTH[name.length] ?? NONE;
  for (let i = 0; i < alike.length; i++) if (isNamed(name, alike[i] as string)) return true;
  return nominated?.has(name.toLowerCase()) ?? false;
}

function responseFields(x: Exchange, response: ResponseHead): void {
  const fields = response.fields;
  let nominated: Set<string> | null = null;
  let dropped = false;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (isNamed(name, ALT_SVC)) {
      nominated ??= new Set();
      nominated.add(ALT_SVC);
      dropped = true;
    } else if (isNamed(name, "connection")) {
      for (const option of connectionOptions(fields[i + 1] as string)) {
        // An origin cannot make us drop what its own client needs.
        if (option === "close" || option === "keep-alive" || END_TO_END.test(option)) continue;
        nominated ??= new Set();
        nominated.add(option);
      }
    }
  }
  strip(fields, nominated);
  if (dropped && !x.notes?.includes("alt-svc-dropped")) x.note("alt-svc-dropped");
}
