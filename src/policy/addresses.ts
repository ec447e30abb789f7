// Which addresses and names may be dialled: public ones, and what `network.allow` of the policy file opens on purpose.
import { canonicalIp } from "../http/ip-address.ts";
import { canonicalHost } from "../http/target.ts";
import { ProxyError } from "../shared/errors.ts";
import { type AddressClass, addressGroups, classifyAddress, type Groups, sharesPrefix } from "./address-class.ts";

/** Names that cloud metadata services answer to; closed whatever they resolve to. */
export const METADATA_HOSTS: readonly string[] = [
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "metadata.azure.internal",
  "metadata.azure.com",
  "metadata.tencentyun.com",
  "metadata.packet.net",
  "metadata.platformequinix.com",
  "instance-data",
  "instance-data.ec2.internal",
];

export interface AddressAnswer {
  readonly allowed: boolean;
  readonly class: AddressClass;
  /** A sentence for people that names the address, its class and the line that would open it; "" when allowed. */
  readonly why: string;
}

/** Compiled `network.allow`; frozen with the policy that holds it. */
export interface NetworkPolicy {
  /** Whether an address (strict spelling) may be dialled. Own listeners are the guard's to refuse. */
  permits(ip: string): AddressAnswer;
  /** False for a metadata name that no entry names; the addresses of every other name decide. */
  permitsName(host: string): boolean;
}

interface Range {
  readonly base: Groups;
  readonly bits: number;
}

/** The addresses of localhost and the names below it, which are never resolved (RFC 6761 section 6.3). */
const LOOPBACK: readonly string[] = ["127.0.0.1", "::1"];

/** Of the loopback addresses those that are open, for a canonical host that stands for them; null for any other host. */
export function openLoopback(host: string, network: NetworkPolicy): readonly string[] | null {
  if (host !== "localhost" && !host.endsWith(".localhost")) return null;
  return LOOPBACK.filter((address) => network.permits(address).allowed);
}

/**
 * Why a canonical host is closed, as far as that can be told without resolving it: addresses, metadata names, localhost.
 * Null: it is not, or its addresses will tell. Own listeners are the guard's to refuse.
 */
export function closedHost(host: string, network: NetworkPolicy): string | null {
  const address = canonicalIp(host);
  if (address !== null) return closedAddress(address, network);
  if (!network.permitsName(host)) {
    return `${host} is metadata; network.allow: [${host}] and its address would open it`;
  }
  // Opening one of the two is enough to reach localhost.
  if (openLoopback(host, network)?.length !== 0) return null;
  return `${network.permits(LOOPBACK[0] as string).why} (an address of ${host})`;
}

function closedAddress(address: string, network: NetworkPolicy): string | null {
  const answer = network.permits(address);
  if (!answer.allowed) return answer.why;
  if (answer.class !== "public" || !address.includes(":")) return null;
  const { embedded } = classifyAddress(address);
  // A public IPv4 address written inside an IPv6 one would pass the rules for the former; only DNS64 has a use for it.
  return embedded === null ? null : `${address} is transition (${embedded} inside); write ${embedded}`;
}

/** What one entry of `network.allow` means, or a sentence about what is wrong with it. */
export type NetworkEntry = { readonly range: Range } | { readonly name: string } | { readonly problem: string };

/** Reads an entry: an address, a network in CIDR notation, or the exact name of a metadata service. */
export function parseNetworkEntry(text: string): NetworkEntry {
  const slash = text.indexOf("/");
  const base = addressGroups(slash < 0 ? text : text.slice(0, slash));
  if (base === null) return slash < 0 ? parseName(text) : { problem: `"${text}" is not a network` };
  const width = base.length * 16;
  const bits = slash < 0 ? width : parseBits(text.slice(slash + 1), width);
  if (bits === null) return { problem: `"${text}": the prefix length is a number from 0 to ${width}` };
  if (!endsInZeros(base, bits)) return { problem: `"${text}" has bits beyond its prefix length` };
  return { range: { base, bits } };
}

function parseName(text: string): NetworkEntry {
  const name = canonicalHost(text);
  if (name !== null && METADATA_HOSTS.includes(name)) return { name };
  return { problem: `"${text}" is neither an address, a network, nor the name of a metadata service` };
}

function parseBits(text: string, width: number): number | null {
  if (!/^(?:0|[1-9]\d{0,2})$/.test(text)) return null;
  const bits = Number(text);
  return bits <= width ? bits : null;
}

function endsInZeros(groups: Groups, bits: number): boolean {
  return groups.every((group, i) => {
    const own = Math.min(16, Math.max(0, bits - i * 16));
    return (group & (0xffff >>> own)) === 0;
  });
}

/** Compiles `network.allow`. Throws ProxyError `bad-configuration` that lists every entry that is not one. */
export function compileNetwork(allow: readonly string[]): NetworkPolicy {
  const ranges: Range[] = [];
  const names = new Set<string>();
  const problems: string[] = [];
  for (const text of allow) {
    const entry = parseNetworkEntry(text);
    if ("range" in entry) ranges.push(entry.range);
    else if ("name" in entry) names.add(entry.name);
    else problems.push(entry.problem);
  }
  if (problems.length > 0) throw new ProxyError("bad-configuration", `network.allow: ${problems.join("; ")}`);
  const judged = new Map<string, AddressAnswer>();
  return Object.freeze({
    permits: (ip: string) => {
      const known = judged.get(ip);
      if (known !== undefined) return known;
      // The same few addresses are asked for, some times for each connection, and the answer never changes.
      const answer = Object.freeze(judge(ip, ranges));
      if (judged.size >= MAX_JUDGED) judged.clear();
      judged.set(ip, answer);
      return answer;
    },
    permitsName: (host: string) => !METADATA_HOSTS.includes(host) || names.has(host),
  });
}

/** Answers that are remembered. */
const MAX_JUDGED = 1_000;

function judge(ip: string, ranges: readonly Range[]): AddressAnswer {
  const { class: addressClass, canonical, embedded } = classifyAddress(ip);
  const groups = addressGroups(canonical);
  const opened = groups !== null && ranges.some((range) => opens(range, groups, addressClass));
  if (addressClass === "public" || opened) return { allowed: true, class: addressClass, why: "" };
  const inside = embedded === null ? "" : ` (${embedded} inside)`;
  const open = addressClass === "unspecified" || addressClass === "invalid" ? "" : `; ${openingLine(canonical)}`;
  return { allowed: false, class: addressClass, why: `${canonical}${inside} is ${addressClass}${open}` };
}

const openingLine = (ip: string): string => `network.allow: [${ip}/${ip.includes(":") ? 128 : 32}] would open it`;

function opens(range: Range, groups: Groups, addressClass: AddressClass): boolean {
  if (addressClass === "unspecified") return false;
  if (addressClass === "metadata" && range.bits < groups.length * 16) return false;
  return sharesPrefix(range.base, groups, range.bits);
}
