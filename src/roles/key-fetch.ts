// How the key sets of `bearer: { jwks }` are fetched: from checked addresses only, like everything else that the operator named.
import type { LookupOptions } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import type { KeyFetchPort } from "../edge/auth/key-set.ts";
import type { AddressGuard } from "../edge/net/address-guard.ts";
import type { Roots } from "../edge/tls/roots.ts";
import { ProxyError } from "../shared/errors.ts";

/** `box`: the guard is made after the first configuration, which names key sets. */
export function keyFetch(box: { guard: AddressGuard | null }, roots: Roots): KeyFetchPort {
  const lookup = (host: string, port: number, wanted: LookupOptions, callback: LookupDone): void => {
    const { guard } = box;
    if (guard === null) return callback(NOT_OPEN, "", 4);
    guard.check(host, port).then(
      (list) => {
        const first = list[0];
        if (first === undefined) return callback(new ProxyError("origin-unresolved"), "", 4);
        if (wanted.all) (callback as unknown as (e: null, all: readonly unknown[]) => void)(null, list);
        else callback(null, first.address, first.family);
      },
      (error: Error) => callback(error, "", 4),
    );
  };
  const lookupFor =
    (port: number): LookupFunction =>
    (host, wanted, callback) =>
      lookup(host, port, wanted, callback);
  const refusal = (address: string, port: number): string | null => {
    if (isIP(address) === 0) return null;
    try {
      if (box.guard === null) throw NOT_OPEN;
      box.guard.checkLiteral(address, port);
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  };
  return { lookupFor, refusal, roots: roots.pems };
}

type LookupDone = Parameters<LookupFunction>[2];
const NOT_OPEN = new ProxyError("origin-unresolved", "the house is not open yet");
