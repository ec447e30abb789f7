// CONNECT (RFC 9110 section 9.3.6): who asks, whether it may, and what becomes of the connection: refused, opened
// (intercepted, or clear-text HTTP), or tunnelled blindly.
import { connectRecord } from "../../audit/build.ts";
import type { OriginRecord } from "../../audit/record.ts";
import { decisionFields, refusal } from "../../exchange/refusal.ts";
import { firstValue } from "../../http/fields.ts";
import type { Authority } from "../../http/messages.ts";
import type { Head } from "../../http/parse-head.ts";
import { fieldLines } from "../../http/serialise.ts";
import { authorityText, parseConnectTarget } from "../../http/target.ts";
import { viaOf, wentThrough } from "../../http/via.ts";
import type { ConnectDecision } from "../../policy/types.ts";
import { asProxyError, ProxyError } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import { type Authenticator, expiryOf, identify } from "../../stages/authenticate.ts";
import type { ClientConnection } from "./client-connection.ts";
import { InnerConnection } from "./inner-connection.ts";
import { openTunnel } from "./tunnel.ts";

const ESTABLISHED = "HTTP/1.1 200 Connection Established\r\n\r\n";

/** Begins a CONNECT whose head was read from `conn`. */
export function beginConnect(conn: ClientConnection, head: Head): void {
  const authority = parseConnectTarget(head.target);
  if (authority === null) {
    conn.refuseConnection(new ProxyError("malformed-request", "CONNECT wants host:port"), head);
    return;
  }
  new Connect(conn, head, authority).start();
}

export class Connect {
  readonly conn: ClientConnection;
  readonly head: Head;
  readonly authority: Authority;
  readonly id: string;
  readonly at: number;
  readonly startedAt: number;
  client: string | null = null;
  /** What the policy wants of this client, now. */
  standing: string | undefined;
  /** Until when its credential is good; milliseconds since 1970. */
  expiresAt = Number.POSITIVE_INFINITY;
  /** The proxies that this CONNECT came through, as Via says them. */
  readonly via: string;
  decision: ConnectDecision | null = null;

  constructor(conn: ClientConnection, head: Head, authority: Authority) {
    this.conn = conn;
    this.head = head;
    this.authority = authority;
    this.via = viaOf(head.fields);
    this.at = conn.services.clock.now();
    this.id = newId(this.at);
    this.startedAt = conn.services.clock.tick();
  }

  start(): void {
    const { services, facts } = this.conn;
    try {
      if (services.sink.unavailable !== null) throw new ProxyError("audit-unavailable");
      const authenticator = services.authenticator();
      const who = identify(authenticator, this.head.fields, facts, this.at);
      if (who instanceof Promise)
        who
          .then(
            (client) => this.decide(client, authenticator),
            (error) => this.refuse(asProxyError(error)),
          )
          .catch((error) => this.conn.broke(error));
      else this.decide(who, authenticator);
    } catch (error) {
      this.refuse(asProxyError(error));
    }
  }

  private decide(client: string | null, authenticator: Authenticator): void {
    this.client = client;
    const { services, facts } = this.conn;
    try {
      this.standing = authenticator.standing?.(client);
      this.expiresAt = expiryOf(authenticator, this.head.fields, facts);
      const decision = services.policy().decideConnect({ client, address: facts.clientAddress, ...this.authority });
      this.decision = decision;
      if (decision.kind === "refuse") throw new ProxyError(decision.reason ?? "not-allowed", decision.message);
      if (wentThrough(this.head.fields, services.pseudonym)) throw new ProxyError("loop");
      const { plan } = decision;
      // What goes elsewhere is checked where it goes.
      if (plan.to === null && plan.redirect === null) services.checkLiteral(this.authority.host, this.authority.port);
      if (decision.kind === "tunnel") openTunnel(this, decision);
      else this.intercept();
    } catch (error) {
      this.refuse(asProxyError(error));
    }
  }

  /** What every record of this CONNECT says. */
  facts() {
    const { conn, decision } = this;
    return {
      id: this.id,
      parent: null,
      at: this.at,
      client: this.client,
      address: conn.facts.clientAddress,
      authority: this.authority,
      rule: decision?.rule ?? null,
      clientProtocol: conn.version,
      total: conn.services.clock.tick() - this.startedAt,
    };
  }

  private intercept(): void {
    const { conn } = this;
    // Spelled out: what is added to a spread is a shape of its own each time (V8 11), which took 5 us.
    const { id, parent, at, client, address, authority, rule, clientProtocol, total } = this.facts();
    const record = connectRecord({
      id,
      parent,
      at,
      client,
      address,
      authority,
      rule,
      clientProtocol,
      total,
      decision: this.decision?.outcome ?? "allow",
      reason: this.decision?.reason ?? null,
      status: 200,
    });
    conn.services.sink.append(record, (written) => {
      if (!written) return conn.abort();
      const raw = this.established();
      if (raw !== null) new InnerConnection(this, raw.socket, raw.rest);
    });
  }

  /** Answers 200 and takes the connection over; null: the client has gone. */
  established(): { socket: import("node:net").Socket; rest: Buffer } | null {
    const { conn } = this;
    if (conn.socket.destroyed) return null;
    const rest = conn.takeRest();
    conn.detach();
    const socket = conn.socket as import("node:net").Socket;
    socket.pause();
    socket.write(ESTABLISHED, "latin1");
    return { socket, rest };
  }

  /** Refuses: the reason stands in the status line and fields, since most clients drop the body. `origin`: how far it came. */
  refuse(error: ProxyError, origin: OriginRecord | null = null): void {
    const { conn, decision } = this;
    const { services } = conn;
    if (error.reason === "internal")
      services.log.error({ err: error.cause ?? error, id: this.id }, "a CONNECT failed inside the proxy");
    const denied = error.reason === "not-allowed" || error.reason === "unauthenticated";
    const failed = decisionFields(error, this.id, "sallyport")[1]?.startsWith("allow") === true;
    // A failing origin and a client that went away are no denials.
    const outcome = failed || (error.status === null && decision?.kind !== "refuse") ? "allow" : "deny";
    const record = connectRecord({
      ...this.facts(),
      decision: outcome,
      reason: error.reason,
      status: error.status,
      error: denied ? null : error.message,
      origin,
    });
    services.sink.append(record, () => this.answer(error, decision?.rule ?? null));
  }

  private answer(error: ProxyError, rule: string | null): void {
    const { conn, head } = this;
    if (error.status === null) return conn.abort();
    const options = conn.services.refusalOptions();
    const message = error.message === "" ? authorityText(this.authority) : error.message;
    const local = refusal(error, { id: this.id, accept: firstValue(head.fields, "accept"), rule, message }, options);
    const keep = conn.keepsAlive;
    const detail = options.hints === "full" ? `: ${message}` : "";
    const phrase = `${local.phrase} (sallyport ${error.reason}${detail})`.replace(/[^\x20-\x7e]/g, "?").slice(0, 300);
    conn.answerConnect(
      `HTTP/1.1 ${local.status} ${phrase}\r\n${fieldLines(local.fields, local.content.length, null)}${keep ? "" : "Connection: close\r\n"}\r\n`,
      local.content,
      keep,
    );
  }
}
