// The opening handshake of a WebSocket (RFC 6455 section 4) and its one extension (RFC 7692): what is asked, what is agreed.
import { createHash } from "node:crypto";
import { allValues, type Fields } from "./fields.ts";

/** Terms of permessage-deflate, which hold on both hops (RFC 7692 section 7.1). */
export interface DeflateTerms {
  readonly serverNoContextTakeover: boolean;
  readonly clientNoContextTakeover: boolean;
  /** Powers of two: 8 to 15. */
  readonly serverWindowBits: number;
  readonly clientWindowBits: number;
}

/** What both ends agreed on. */
export interface WebSocketAgreement {
  /** null: messages are not compressed. */
  readonly deflate: DeflateTerms | null;
}

/** One element of Sec-WebSocket-Extensions (RFC 6455 section 9.1); a parameter without a value is `true`. */
export interface Extension {
  readonly name: string;
  readonly parameters: readonly (readonly [name: string, value: string | true])[];
}

const DEFLATE = "permessage-deflate";
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const EXTENSION = new RegExp(
  `[\\t ]*(${TOKEN})((?:[\\t ]*;[\\t ]*${TOKEN}(?:[\\t ]*=[\\t ]*(?:${TOKEN}|"${TOKEN}"))?)*)[\\t ]*(?:,|$)`,
  "y",
);
const EMPTY = /[\t ]*(?:,|$)/y;
const PARAMETER = new RegExp(`;[\\t ]*(${TOKEN})(?:[\\t ]*=[\\t ]*"?(${TOKEN})"?)?`, "g");

/** The protocols of an Upgrade field, lower case (RFC 9110 section 7.8). */
export const upgradeTokens = (fields: Fields): string[] =>
  allValues(fields, "upgrade")
    .flatMap((value) => value.split(","))
    .map((token) => token.trim().toLowerCase())
    .filter((token) => token !== "");

/** The value of Sec-WebSocket-Accept that answers the key (RFC 6455 section 4.2.2). */
export const acceptOf = (key: string): string =>
  createHash("sha1")
    .update(key + GUID, "latin1")
    .digest("base64");

/** The key of a request, or null when there is not exactly one, of 16 bytes in base64. */
export function webSocketKey(fields: Fields): string | null {
  const keys = allValues(fields, "sec-websocket-key");
  const [key] = keys;
  return keys.length === 1 && key !== undefined && /^[A-Za-z0-9+/]{22}==$/.test(key) ? key : null;
}

/** The elements of a Sec-WebSocket-Extensions field, but the empty ones (RFC 9110 section 5.6.1), or null when it is malformed. */
export function extensionsOf(values: readonly string[]): Extension[] | null {
  const found: Extension[] = [];
  const text = values.join(",");
  for (let at = 0; at < text.length; ) {
    EMPTY.lastIndex = EXTENSION.lastIndex = at;
    if (EMPTY.test(text)) {
      at = EMPTY.lastIndex;
      continue;
    }
    const match = EXTENSION.exec(text);
    if (match === null) return null;
    at = EXTENSION.lastIndex;
    const parameters = [...(match[2] as string).matchAll(PARAMETER)].map(
      ([, name, value]) => [(name as string).toLowerCase(), value ?? true] as const,
    );
    found.push({ name: (match[1] as string).toLowerCase(), parameters });
  }
  return found;
}

/** The parameters of permessage-deflate; a window without a number is 0. */
interface Deflate {
  readonly serverNone: boolean;
  readonly clientNone: boolean;
  readonly serverBits: number | null;
  readonly clientBits: number | null;
}

const FLAGS = ["server_no_context_takeover", "client_no_context_takeover"];
const WINDOWS = ["server_max_window_bits", "client_max_window_bits"];

/** Reads an offer or an answer; null when it is not a valid permessage-deflate. */
function deflateOf(extension: Extension, offer: boolean): Deflate | null {
  if (extension.name !== DEFLATE) return null;
  const seen = new Map<string, number>();
  for (const [name, value] of extension.parameters) {
    if (seen.has(name)) return null;
    if (FLAGS.includes(name) && value === true) seen.set(name, 1);
    else if (WINDOWS.includes(name) && value !== true && /^(?:[89]|1[0-5])$/.test(value)) seen.set(name, Number(value));
    else if (name === "client_max_window_bits" && value === true && offer) seen.set(name, 0);
    else return null;
  }
  return {
    serverNone: seen.has("server_no_context_takeover"),
    clientNone: seen.has("client_no_context_takeover"),
    serverBits: seen.get("server_max_window_bits") ?? null,
    clientBits: seen.get("client_max_window_bits") ?? null,
  };
}

/**
 * The offers that we can read: those of permessage-deflate that are valid. null: there are none. `all`: nothing else was
 * offered, so that the fields may stay as they are.
 */
export function readableOffers(values: readonly string[]): { readonly text: string; readonly all: boolean } | null {
  const offered = extensionsOf(values);
  const kept = (offered ?? []).filter((extension) => deflateOf(extension, true) !== null);
  return kept.length === 0 ? null : { text: kept.map(textOf).join(", "), all: kept.length === offered?.length };
}

const textOf = ({ name, parameters }: Extension): string =>
  [name, ...parameters.map(([key, value]) => (value === true ? key : `${key}=${value}`))].join("; ");

/**
 * What an answer to the offers means (RFC 7692 section 7.1): terms, or null for no compression. Throws an Error when the
 * answer is malformed or agrees to what was not offered.
 */
export function agreedDeflate(offers: readonly string[], answers: readonly string[]): DeflateTerms | null {
  const agreed = extensionsOf(answers);
  if (agreed === null) throw new Error("Sec-WebSocket-Extensions is malformed");
  const [only] = agreed;
  if (only === undefined) return null;
  const answer = agreed.length === 1 ? deflateOf(only, false) : null;
  if (answer === null) throw new Error("an extension that was not offered, or not in this form");
  const fits = (extensionsOf(offers) ?? []).some((extension) => {
    const offer = deflateOf(extension, true);
    return offer !== null && fitsOffer(answer, offer);
  });
  if (!fits) throw new Error("terms of permessage-deflate that were not offered");
  return {
    serverNoContextTakeover: answer.serverNone,
    clientNoContextTakeover: answer.clientNone,
    serverWindowBits: answer.serverBits ?? 15,
    clientWindowBits: answer.clientBits ?? 15,
  };
}

function fitsOffer(answer: Deflate, offer: Deflate): boolean {
  if (offer.serverNone && !answer.serverNone) return false;
  if (offer.serverBits !== null && (answer.serverBits === null || answer.serverBits > offer.serverBits)) return false;
  if (answer.clientBits === null) return true;
  return offer.clientBits !== null && (offer.clientBits === 0 || answer.clientBits <= offer.clientBits);
}
