// Classes of IP addresses, after the IANA special-purpose registries, and the IPv4 addresses that are embedded in IPv6 ones.
import { ipv4Text, ipv6Text, parseIpv4, parseIpv6 } from "../http/ip-address.ts";

export type AddressClass =
  | "public"
  | "loopback"
  | "unspecified"
  | "private"
  | "link-local"
  | "shared"
  | "unique-local"
  | "metadata"
  | "multicast"
  | "broadcast"
  | "documentation"
  | "benchmarking"
  | "reserved"
  | "transition"
  | "invalid";

export interface ClassifiedAddress {
  /** Where an IPv4 address is embedded, the worse of the two. */
  readonly class: AddressClass;
  /** The IPv4 address inside an IPv6 one, or null. */
  readonly embedded: string | null;
  /** The canonical text, or the text itself where it is no address. */
  readonly canonical: string;
}

/** An address as 16-bit groups: two for IPv4, eight for IPv6. */
export type Groups = readonly number[];

/** The groups of a strictly spelled address, or null. */
export function addressGroups(text: string): Groups | null {
  if (text.includes(":")) return parseIpv6(text);
  const value = parseIpv4(text);
  return value === null ? null : [value >>> 16, value & 0xffff];
}

/** True when both are of one family and agree in their first `bits` bits. */
export function sharesPrefix(a: Groups, b: Groups, bits: number): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0, left = bits; left > 0; i++, left -= 16) {
    const differing = (a[i] as number) ^ (b[i] as number);
    if (differing >>> Math.max(0, 16 - left) !== 0) return false;
  }
  return true;
}

/** The first row that contains the address decides. */
const CLASSES: readonly (readonly [cidr: string, addressClass: AddressClass])[] = [
  // AWS, Azure, GCP and others; ECS tasks and EKS pods; Alibaba; Oracle; Tencent; Azure's wire server.
  ["169.254.169.254/32", "metadata"],
  ["169.254.170.2/32", "metadata"],
  ["169.254.170.23/32", "metadata"],
  ["169.254.0.23/32", "metadata"],
  ["100.100.100.200/32", "metadata"],
  ["192.0.0.192/32", "metadata"],
  ["168.63.129.16/32", "metadata"],
  // "This network": Linux connects to itself for 0.0.0.0.
  ["0.0.0.0/8", "unspecified"],
  ["127.0.0.0/8", "loopback"],
  ["10.0.0.0/8", "private"],
  ["172.16.0.0/12", "private"],
  ["192.168.0.0/16", "private"],
  ["169.254.0.0/16", "link-local"],
  ["100.64.0.0/10", "shared"],
  ["192.0.2.0/24", "documentation"],
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["198.18.0.0/15", "benchmarking"],
  ["192.0.0.0/24", "reserved"],
  ["192.88.99.0/24", "reserved"],
  ["224.0.0.0/4", "multicast"],
  ["255.255.255.255/32", "broadcast"],
  ["240.0.0.0/4", "reserved"],
  ["0.0.0.0/0", "public"],

  // AWS; EKS pods; GCP; Scaleway.
  ["fd00:ec2::254/128", "metadata"],
  ["fd00:ec2::23/128", "metadata"],
  ["fd20:ce::254/128", "metadata"],
  ["fd00:42::42/128", "metadata"],
  ["::/128", "unspecified"],
  ["::1/128", "loopback"],
  ["fc00::/7", "unique-local"],
  ["fe80::/10", "link-local"],
  // Site-local: given up by RFC 3879, and still routed here and there.
  ["fec0::/10", "private"],
  ["ff00::/8", "multicast"],
  ["2001:db8::/32", "documentation"],
  ["3fff::/20", "documentation"],
  ["2001:2::/48", "benchmarking"],
  // RFC 6052: in a network with DNS64 every IPv4 origin has such an address; the one inside decides.
  ["64:ff9b::/96", "public"],
  ["64:ff9b:1::/48", "transition"],
  ["::ffff:0:0/96", "transition"],
  ["::ffff:0:0:0/96", "transition"],
  ["::/96", "transition"],
  ["2001::/32", "transition"],
  ["2002::/16", "transition"],
  ["2001::/23", "reserved"],
  ["2000::/3", "public"],
  // What is not given out as global unicast (RFC 4291 section 2.4).
  ["::/0", "reserved"],
];

interface ClassRow {
  readonly base: Groups;
  readonly bits: number;
  readonly class: AddressClass;
}
const ROWS: readonly ClassRow[] = CLASSES.map(([cidr, addressClass]) => {
  const [base, bits] = cidr.split("/") as [string, string];
  return { base: addressGroups(base) as Groups, bits: Number(bits), class: addressClass };
});

const rangeClass = (groups: Groups): AddressClass =>
  ROWS.find((row) => sharesPrefix(row.base, groups, row.bits))?.class ?? "invalid";

/** The class of an address in strict spelling (anything else is `invalid`). */
export function classifyAddress(ip: string): ClassifiedAddress {
  const groups = addressGroups(ip);
  if (groups === null) return { class: "invalid", embedded: null, canonical: ip };
  const own = rangeClass(groups);
  if (groups.length === 2) return { class: own, embedded: null, canonical: ip };
  const canonical = ipv6Text(groups);
  const inside = embeddedIn(groups).map((pair) => ({ class: rangeClass(pair), text: pairText(pair) }));
  // A metadata address is the worst of all, since a range does not open it.
  const worst = inside.find((v4) => v4.class === "metadata") ?? inside.find((v4) => v4.class !== "public");
  const embedded = (worst ?? inside[0])?.text ?? null;
  if (own === "metadata" || worst === undefined) {
    return { class: own === "public" && isIsatap(groups) ? "transition" : own, embedded, canonical };
  }
  return { class: worst.class, embedded, canonical };
}

const pairText = (pair: Groups): string => ipv4Text((pair[0] as number) * 65536 + (pair[1] as number));

/** Every IPv4 address that a router or relay could find in the IPv6 address. */
function embeddedIn(groups: Groups): Groups[] {
  const g = groups as readonly [number, number, number, number, number, number, number, number];
  const last: Groups = [g[6], g[7]];
  const startsWith = (prefix: string, bits: number): boolean => sharesPrefix(addressGroups(prefix) as Groups, g, bits);
  if (startsWith("::", 127)) return []; // :: and ::1
  if (startsWith("::", 96)) return [last]; // IPv4-compatible, RFC 4291 section 2.5.5.1
  if (startsWith("::ffff:0:0", 96)) return [last]; // IPv4-mapped
  if (startsWith("::ffff:0:0:0", 96)) return [last]; // IPv4-translated, RFC 2765
  if (startsWith("64:ff9b::", 96)) return [last]; // NAT64, RFC 6052
  // Local NAT64 (RFC 8215): the prefix may be of 96 bits or of 48, where the address steps over bits 64 to 71.
  if (startsWith("64:ff9b:1::", 48)) return [last, [g[3], ((g[4] & 0xff) << 8) | (g[5] >>> 8)]];
  if (startsWith("2002::", 16)) return [[g[1], g[2]]]; // 6to4, RFC 3056
  // Teredo, RFC 4380: the server, and the client's address with every bit turned.
  if (startsWith("2001::", 32))
    return [
      [g[6] ^ 0xffff, g[7] ^ 0xffff],
      [g[2], g[3]],
    ];
  return isIsatap(g) ? [last] : [];
}

/** ISATAP, RFC 5214 section 6.1: the interface identifier says so, under any prefix. */
const isIsatap = (groups: Groups): boolean => ((groups[4] as number) & 0xfdff) === 0 && groups[5] === 0x5efe;
