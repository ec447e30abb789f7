// Who is speaking: settles the principal of an exchange before anything is decided (RFC 9110 section 11.7).
import type { ConnectionFacts, Exchange } from "../exchange/exchange.ts";
import type { Stage } from "../exchange/stage.ts";
import { type Fields, removeField } from "../http/fields.ts";

/** The port behind which credentials are checked; `edge/auth` implements it. */
export interface Authenticator {
  /**
   * The name of the client, or null for an anonymous one. Answers at once where it can (anonymous, cached credentials).
   * Throws, or rejects with, ProxyError `wrong-credential`, `unauthenticated`, `rate-limited` or `busy`.
   */
  authenticate(fields: Fields, connection: ConnectionFacts): string | null | Promise<string | null>;
}

/**
 * Who speaks on this connection. A child's own port and a CONNECT have settled it already; otherwise the credential says it.
 * Used for exchanges by the stage below, and for CONNECT itself by the edge.
 */
export function identify(
  authenticator: Authenticator,
  fields: Fields,
  connection: ConnectionFacts,
): string | null | Promise<string | null> {
  if (connection.trusted) return connection.assignedClient;
  // Inside CONNECT a Proxy-Authorization is not meant for us: the credential of the CONNECT itself counts.
  if (connection.connect !== null) return connection.connect.client;
  return authenticator.authenticate(fields, connection);
}

/** The stage. `current` gives the authenticator of the configuration in force, so that a reload takes effect at once. */
export function authenticateStage(current: () => Authenticator): Stage {
  return {
    name: "authenticate",
    onRequest(x: Exchange): null | Promise<null> {
      // The credential is for this hop: it never goes on, whatever comes of it.
      removeField(x.forward.fields, "proxy-authorization");
      const who = identify(current(), x.received.fields, x.connection);
      if (who instanceof Promise) return settle(x, who);
      x.principal = who;
      return null;
    },
  };
}

async function settle(x: Exchange, who: Promise<string | null>): Promise<null> {
  x.principal = await who;
  return null;
}
