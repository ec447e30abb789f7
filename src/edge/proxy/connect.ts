// CONNECT (RFC 9110 section 9.3.6): who asks, whether it may, and what becomes of the connection: refused, opened
// (intercepted, or clear-text HTTP), or tunnelled blindly.
import { connectRecord } from "../../audit/build.ts";
import type { OriginRecord } from "../../audit/record.ts";
import { decisionFields, refusal } from "../../exchange/refusal.ts";
import { type Fields, firstValue } from "../../http/fields.ts";
import type { Authority } from "../../http/messages.ts";
import { authorityText } from "../../http/target.ts";
import { viaOf, wentThrough } from "../../http/via.ts";
import type { ConnectDecision } from "../../policy/types.ts";
import { asProxyError, ProxyError } from "../../shared/errors.ts";
import { newId } from "../../shared/ids.ts";
import { type Authenticator, expiryOf, identify } from "../../stages/authenticate.ts";
import type { ConnectSide } from "./connect-side.ts";
import { InnerConnection } from "./inner-connection.ts";
import { openTunnel } from "./tunnel.ts";

export class Connect {
  readonly side: ConnectSide;
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
  private readonly fields: Fields;

  /** Of a CONNECT to `authority` that came on `side` with these fields. */
  constructor(side: ConnectSide, authority: Authority, fields: Fields) {
    this.side = side;
    this.authority = authority;
    this.fields = fields;
    this.via = viaOf(fields);
    this.at = side.services.clock.now();
    this.id = newId(this.at);
    this.startedAt = side.services.clock.tick();
  }

  start(): void {
    const { services, facts } = this.side;
    try {
      if (services.sink.unavailable !== null) throw new ProxyError("audit-unavailable");
      const authenticator = services.authenticator();
      const who = identify(authenticator, this.fields, facts, this.at);
      if (who instanceof Promise)
        who
          .then(
            (client) => this.decide(client, authenticator),
            (error) => this.refuse(asProxyError(error)),
          )
          .catch((error) => this.side.broke(error));
      else this.decide(who, authenticator);
    } catch (error) {
      this.refuse(asProxyError(error));
    }
  }

  private decide(client: string | null, authenticator: Authenticator): void {
    this.client = client;
    const { services, facts } = this.side;
    try {
      this.standing = authenticator.standing?.(client);
      this.expiresAt = expiryOf(authenticator, this.fields, facts);
      const decision = services.policy().decideConnect({ client, address: facts.clientAddress, ...this.authority });
      this.decision = decision;
      if (decision.kind === "refuse") throw new ProxyError(decision.reason ?? "not-allowed", decision.message);
      if (wentThrough(this.fields, services.pseudonym)) throw new ProxyError("loop");
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
    const { side, decision } = this;
    return {
      id: this.id,
      parent: null,
      at: this.at,
      client: this.client,
      address: side.facts.clientAddress,
      authority: this.authority,
      rule: decision?.rule ?? null,
      clientProtocol: side.version,
      total: side.services.clock.tick() - this.startedAt,
    };
  }

  private intercept(): void {
    const { side } = this;
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
    side.services.sink.append(record, (written) => {
      if (!written) return side.abort();
      const opened = side.established();
      if (opened !== null) new InnerConnection(this, opened.socket, opened.rest);
    });
  }

  /** Refuses. `origin`: how far it came. */
  refuse(error: ProxyError, origin: OriginRecord | null = null): void {
    const { decision } = this;
    const { services } = this.side;
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
    const { side } = this;
    if (error.status === null) return side.abort();
    const options = side.services.refusalOptions();
    const message = error.message === "" ? authorityText(this.authority) : error.message;
    const facts = { id: this.id, accept: firstValue(this.fields, "accept"), rule, message };
    const detail = options.hints === "full" ? `: ${message}` : "";
    side.answerConnect(refusal(error, facts, options), `(sallyport ${error.reason}${detail})`);
  }
}
