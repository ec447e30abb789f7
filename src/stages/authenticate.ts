// Who is speaking: settles the principal of an exchange before anything is decided (RFC 9110 section 11.7).
import type { ConnectContext, ConnectionFacts, Exchange } from "../exchange/exchange.ts";
import type { Stage } from "../exchange/stage.ts";
import { type Fields, removeField } from "../http/fields.ts";
import { ProxyError } from "../shared/errors.ts";

/** The port behind which credentials are checked; `edge/auth` implements it. */
export interface Authenticator {
  /**
   * The name of the client, or null for an anonymous one. Answers at once where it can (anonymous, cached credentials).
   * Throws, or rejects with, ProxyError `wrong-credential`, `unauthenticated`, `rate-limited` or `busy`.
   */
  authenticate(fields: Fields, connection: ConnectionFacts): string | null | Promise<string | null>;
  /**
   * What this configuration wants of a client (null: of an anonymous one), as a text to compare: it differs once the client
   * is gone, or has another password, key, address or certificate.
   */
  standing?(client: string | null): string;
  /**
   * Until when the credential that was just found good on this connection is good: milliseconds since 1970; Infinity: without
   * an end, or none was shown.
   */
  expiresAt?(fields: Fields, connection: ConnectionFacts): number;
}

/**
 * Who speaks on this connection. A child's own port and a CONNECT have settled it already; otherwise the credential says it.
 * Used for exchanges by the stage below, and for CONNECT itself by the edge. `at`: milliseconds since 1970.
 */
export function identify(
  authenticator: Authenticator,
  fields: Fields,
  connection: ConnectionFacts,
  at: number,
): string | null | Promise<string | null> {
  if (connection.trusted) return connection.assignedClient;
  // Inside CONNECT a Proxy-Authorization is not meant for us: the credential of the CONNECT itself counts.
  if (connection.connect !== null) return stillThatClient(authenticator, connection.connect, at);
  return authenticator.authenticate(fields, connection);
}

/** Until when what a CONNECT showed says who speaks inside it. Milliseconds since 1970; Infinity: no end. */
export function expiryOf(authenticator: Authenticator, fields: Fields, connection: ConnectionFacts): number {
  if (connection.trusted || authenticator.expiresAt === undefined) return Number.POSITIVE_INFINITY;
  return authenticator.expiresAt(fields, connection);
}

/** A CONNECT can stay open for days: a credential that ended or was taken away meanwhile says nothing any more. */
function stillThatClient(authenticator: Authenticator, connect: ConnectContext, at: number): string | null {
  if (connect.expiresAt !== undefined && at >= connect.expiresAt)
    throw new ProxyError("wrong-credential", "the token that the CONNECT brought has expired");
  if (connect.standing !== undefined && connect.standing !== authenticator.standing?.(connect.client))
    throw new ProxyError("wrong-credential", "what the policy wants of this client has changed since CONNECT");
  return connect.client;
}

/** The stage. `current` gives the authenticator of the configuration in force, so that a reload takes effect at once. */
export function authenticateStage(current: () => Authenticator): Stage {
  return {
    name: "authenticate",
    onRequest(x: Exchange): null | Promise<null> {
      // The credential is for this hop: it never goes on, whatever comes of it.
      removeField(x.forward.fields, "proxy-authorization");
      const who = identify(current(), x.received.fields, x.connection, x.receivedAt);
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
