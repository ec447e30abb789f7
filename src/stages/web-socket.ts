// The opening handshake of a WebSocket: offers only what can be inspected, and believes a 101 only when it answers the key.
// Last in the line, nearest the origin: it sees the request as it leaves and the response as it came.
import type { Exchange } from "../exchange/exchange.ts";
import type { Stage } from "../exchange/stage.ts";
import { allValues, type Fields, firstValue, removeField, setField } from "../http/fields.ts";
import {
  acceptOf,
  agreedDeflate,
  readableOffers,
  upgradeTokens,
  type WebSocketAgreement,
  webSocketKey,
} from "../http/web-socket.ts";
import { ProxyError } from "../shared/errors.ts";

const EXTENSIONS = "sec-websocket-extensions";

export const webSocketStage: Stage = {
  name: "web socket",
  onRequest(x) {
    const { fields } = x.received;
    if (firstValue(fields, "upgrade") !== null && upgradeTokens(fields).includes("websocket"))
      keepReadable(x, x.forward.fields);
    return null;
  },
  onResponse(x, response) {
    if (response.status !== 101) return null;
    const asked = upgradeTokens(x.received.fields);
    const [chosen, ...more] = upgradeTokens(response.fields);
    const other =
      chosen !== "websocket" && (!asked.includes("websocket") || (chosen !== undefined && asked.includes(chosen)));
    if (other) return null; // another protocol: it passes unseen
    if (chosen !== "websocket" || more.length > 0 || !asked.includes("websocket"))
      throw new ProxyError("origin-protocol", "the origin switched to a protocol that was not asked for");
    x.webSocket = agreement(x.forward.fields, response.fields);
    return null;
  },
};

/** An extension that we do not know would carry what nobody can look at. */
function keepReadable(x: Exchange, fields: Fields): void {
  const offered = allValues(fields, EXTENSIONS);
  if (offered.length === 0) return;
  const kept = readableOffers(offered);
  if (kept?.all) return;
  if (kept === null) removeField(fields, EXTENSIONS);
  else setField(fields, EXTENSIONS, kept.text);
  x.note("websocket-extensions-removed");
}

/** What the 101 agrees to (RFC 6455 section 4.1). Throws `origin-protocol` when it is no answer to this request. */
function agreement(request: Fields, response: Fields): WebSocketAgreement {
  const key = webSocketKey(request);
  const accept = allValues(response, "sec-websocket-accept");
  if (key === null || accept.length !== 1 || accept[0] !== acceptOf(key))
    throw new ProxyError("origin-protocol", "the 101 does not answer the key of the WebSocket handshake");
  try {
    return { deflate: agreedDeflate(allValues(request, EXTENSIONS), allValues(response, EXTENSIONS)) };
  } catch (error) {
    throw new ProxyError("origin-protocol", `the WebSocket handshake of the origin: ${(error as Error).message}`);
  }
}
