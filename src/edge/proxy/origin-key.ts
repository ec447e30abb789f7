// Which origin connections a request may share with others: equal keys share (invariant 8).
import type { ConnectionFacts, Exchange } from "../../exchange/exchange.ts";
import { isNamed } from "../../http/fields.ts";
import { originText } from "../../http/target.ts";
import type { NextProxy } from "../../policy/types.ts";
import type { Opening } from "./origin-opening.ts";

/** Who may share a connection: the client by name, or by address where it has none. No name reads like an address. */
export const clientKeyOf = (x: Exchange): string =>
  x.principal === null ? `@${x.connection.clientAddress}` : `=${x.principal}`;

/**
 * The name in SNI, where CONNECT named an address: so the server there must be called. Where a rule sends the request elsewhere, that
 * place has a name of its own.
 */
export const serverNameOf = (x: Exchange): string | null =>
  (x.decision?.plan.to ?? null) === null ? (x.connection.connect?.alias ?? null) : null;

/** Client connections of which the last key is remembered. A power of two. */
const REMEMBERED = 256;

/** A key and all that it was made of. */
interface Made {
  readonly connection: ConnectionFacts;
  readonly principal: string | null;
  readonly scheme: string;
  readonly host: string;
  readonly port: number;
  readonly serverName: string | null;
  readonly flavour: string;
  readonly via: NextProxy | null;
  readonly generation: number;
  readonly key: string;
}

/** Makes keys. The next request of a client connection mostly goes where the last one went: its key is the same string. */
export class OriginKeys {
  private readonly made: (Made | undefined)[] = new Array(REMEMBERED).fill(undefined);

  /** `generation`: of the pool; a reload begins a new one. */
  of(o: Opening, generation: number): string {
    const x = o.request.exchange;
    const { connection, principal, forward } = x;
    const { flavour, via } = o;
    const serverName = serverNameOf(x);
    if (isConnectionBound(forward.fields)) return keyOf(o, generation, boundTo(connection));
    const at = connection.clientPort & (REMEMBERED - 1);
    const m = this.made[at];
    if (
      m !== undefined &&
      m.connection === connection &&
      m.principal === principal &&
      m.host === forward.host &&
      m.port === forward.port &&
      m.scheme === forward.scheme &&
      m.serverName === serverName &&
      m.flavour === flavour &&
      m.via === via &&
      m.generation === generation
    )
      return m.key;
    const { scheme, host, port } = forward;
    const key = keyOf(o, generation, "");
    this.made[at] = { connection, principal, scheme, host, port, serverName, flavour, via, generation, key };
    return key;
  }
}

function keyOf(o: Opening, generation: number, bound: string): string {
  const { exchange: x } = o.request;
  const { forward: f } = x;
  const { via } = o;
  const name = serverNameOf(x) ?? "";
  const next = via === null ? "" : `${originText(via)} ${via.authorization ?? ""} ${via.resolve}`;
  // Names of clients have no line breaks, so that no two keys run together.
  return `${generation} ${f.scheme}://${f.host}:${f.port} ${o.flavour} ${clientKeyOf(x)}\n${name} ${bound} ${next}`;
}

const boundTo = (connection: ConnectionFacts): string => connection.connect?.record ?? `${connection.clientPort}`;

/** NTLM and Negotiate authenticate the connection, not the request: such a connection serves one client connection only. */
function isConnectionBound(fields: readonly string[]): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    if (isNamed(fields[i] as string, "authorization")) return /^(?:ntlm|negotiate)\b/i.test(fields[i + 1] as string);
  }
  return false;
}
