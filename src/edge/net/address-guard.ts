// The one way from a host to addresses that may be dialled: resolved once, every answer classed, our own listeners never.
import { canonicalIp } from "../../http/ip-address.ts";
import { classifyAddress } from "../../policy/address-class.ts";
import { closedHost, type NetworkPolicy, openLoopback } from "../../policy/addresses.ts";
import { ProxyError } from "../../shared/errors.ts";

/** An address that was checked; dial this, never the name. */
export interface CheckedAddress {
  /** Canonical text. */
  readonly address: string;
  readonly family: 4 | 6;
}

export interface GuardOptions {
  readonly resolver: { resolve(host: string): Promise<readonly string[]> };
  /** The policy in force. */
  readonly network: () => NetworkPolicy;
  /** Where this process listens: proxy, admin and the ports of children. */
  readonly ownListeners: () => readonly { readonly address: string; readonly port: number }[];
  /** The addresses of this machine's interfaces. */
  readonly localAddresses: () => readonly string[];
}

export class AddressGuard {
  private readonly options: GuardOptions;

  constructor(options: GuardOptions) {
    this.options = options;
  }

  /**
   * Refuses what needs no resolving: addresses, metadata names, localhost. `host` is canonical (`canonicalHost`).
   * Throws ProxyError `address-prohibited`.
   */
  checkLiteral(host: string, port: number): void {
    this.literalAddresses(host, port);
  }

  /**
   * The addresses of a canonical host, for dialling in this order (RFC 8305: families in turn, IPv6 first). Throws
   * ProxyError `address-prohibited` when any of them is closed, and what the resolver throws.
   */
  async check(host: string, port: number): Promise<CheckedAddress[]> {
    const literal = this.literalAddresses(host, port);
    if (literal !== null) return inTurn(literal);
    const addresses = await this.options.resolver.resolve(host);
    for (const address of addresses) this.refuseClosed(address, port, ` (an address of ${host})`);
    return inTurn(addresses);
  }

  /** The open addresses of a host that is never resolved; null for a name that is. */
  private literalAddresses(host: string, port: number): readonly string[] | null {
    const network = this.options.network();
    const closed = closedHost(host, network);
    if (closed !== null) throw prohibited(closed);
    const address = canonicalIp(host);
    const addresses = address === null ? openLoopback(host, network) : [address];
    const whose = address === null ? ` (an address of ${host})` : "";
    for (const one of addresses ?? []) this.refuseClosed(one, port, whose);
    return addresses;
  }

  private refuseClosed(address: string, port: number, whose: string): void {
    const answer = this.options.network().permits(address);
    if (!answer.allowed) throw prohibited(`${answer.why}${whose}`);
    if (this.isOwn(address, port)) throw prohibited(`${address} port ${port} is this proxy itself${whose}`);
  }

  private isOwn(address: string, port: number): boolean {
    const listeners = this.options.ownListeners().filter((listener) => listener.port === port);
    if (listeners.length === 0) return false;
    const forms = [address, classifyAddress(address).embedded];
    return forms.some((form) => form !== null && listeners.some((own) => this.reaches(form, own.address)));
  }

  /** True when a connection to `address` arrives at a listener that is bound to `bound`. */
  private reaches(address: string, bound: string): boolean {
    const own = canonicalIp(bound) ?? bound;
    if (address === own || classifyAddress(own).embedded === address) return true;
    if (classifyAddress(own).class !== "unspecified") return false;
    const isLocal = this.options.localAddresses().some((local) => canonicalIp(local.replace(/%.*$/, "")) === address);
    return isLocal || ["loopback", "unspecified"].includes(classifyAddress(address).class);
  }
}

const prohibited = (why: string): ProxyError => new ProxyError("address-prohibited", why);

function inTurn(addresses: readonly string[]): CheckedAddress[] {
  const only = addresses.length === 1 ? (addresses[0] as string) : null;
  if (only !== null) return [{ address: only, family: only.includes(":") ? 6 : 4 }];
  const unique = [...new Set(addresses)];
  const six = unique.filter((address) => address.includes(":"));
  const four = unique.filter((address) => !address.includes(":"));
  const ordered: CheckedAddress[] = [];
  for (let i = 0; i < Math.max(six.length, four.length); i++) {
    const [v6, v4] = [six[i], four[i]];
    if (v6 !== undefined) ordered.push({ address: v6, family: 6 });
    if (v4 !== undefined) ordered.push({ address: v4, family: 4 });
  }
  return ordered;
}
