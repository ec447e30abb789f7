// What the policy says of an exchange, for the path that came and for one that goes out in its place.
import type { Exchange } from "../exchange/exchange.ts";
import type { Decision } from "../policy/types.ts";

/** The decision for this exchange with a path (and query). */
export function decisionFor(x: Exchange, path: string): Decision {
  const alias = x.connection.connect?.alias ?? null;
  const decision = decisionAt(x, x.received.host, path);
  // CONNECT to an address with a name in SNI: both must be allowed; the name's rule is the one that applies.
  return alias !== null && decision.allowed ? decisionAt(x, alias, path) : decision;
}

function decisionAt(x: Exchange, host: string, path: string): Decision {
  const { received, connection } = x;
  return x.policy.decide({
    client: x.principal,
    address: connection.clientAddress,
    method: received.method,
    scheme: received.scheme,
    host,
    port: received.port,
    path,
    insideConnect: connection.connect !== null,
  });
}
