// Name constraints of CA certificates (RFC 5280 section 4.2.1.10), as far as they concern hosts: DNS names and addresses.
import { isIP } from "node:net";
import { parse as parseAddress } from "./address-bytes.ts";
import { bytesOf, childrenOf, type DerNode, isTagged } from "./der.ts";

interface Subtrees {
  readonly dns: readonly string[];
  /** Address and mask, one after the other: 8 or 32 bytes. */
  readonly addresses: readonly Buffer[];
}

export interface NameConstraints {
  readonly permitted: Subtrees;
  readonly excluded: Subtrees;
}

/** Reads the extension's value. */
export const readNameConstraints = (value: DerNode): NameConstraints => ({
  permitted: readSubtrees(childrenOf(value).find((node) => isTagged(node, 0))),
  excluded: readSubtrees(childrenOf(value).find((node) => isTagged(node, 1))),
});

function readSubtrees(holder: DerNode | undefined): Subtrees {
  const bases = childrenOf(holder).map((subtree) => childrenOf(subtree)[0]);
  return {
    dns: bases.filter((base) => isTagged(base, 2)).map((base) => bytesOf(base).toString("latin1").toLowerCase()),
    addresses: bases.filter((base) => isTagged(base, 7)).map(bytesOf),
  };
}

/** True when a CA with these constraints may sign for the canonical host. */
export function constraintsPermit(constraints: NameConstraints, host: string): boolean {
  const { permitted, excluded } = constraints;
  if (isIP(host) !== 0) {
    const bytes = parseAddress(host);
    if (excluded.addresses.some((range) => addressWithin(bytes, range))) return false;
    return permitted.addresses.length === 0 || permitted.addresses.some((range) => addressWithin(bytes, range));
  }
  if (excluded.dns.some((base) => nameWithin(host, base))) return false;
  return permitted.dns.length === 0 || permitted.dns.some((base) => nameWithin(host, base));
}

function nameWithin(host: string, base: string): boolean {
  if (base === "") return true;
  // A leading dot is not in the RFC for DNS names, but OpenSSL takes it as "names below, not the name itself".
  if (base.startsWith(".")) return host.endsWith(base);
  return host === base || host.endsWith(`.${base}`);
}

function addressWithin(bytes: Buffer, range: Buffer): boolean {
  if (range.length !== bytes.length * 2) return false;
  return bytes.every((byte, i) => {
    const mask = range[bytes.length + i] as number;
    return (byte & mask) === ((range[i] as number) & mask);
  });
}

/** For people: "permits a.example, 10.0.0.0/255.0.0.0; excludes b.example". */
export function describeConstraints(constraints: NameConstraints): string {
  const list = (trees: Subtrees): string => [...trees.dns, ...trees.addresses.map(describeRange)].join(", ");
  const permitted = list(constraints.permitted);
  const excluded = list(constraints.excluded);
  return [permitted && `permits ${permitted}`, excluded && `excludes ${excluded}`].filter(Boolean).join("; ");
}

function describeRange(range: Buffer): string {
  if (range.length !== 8) return `${range.subarray(0, 16).toString("hex")}/${range.subarray(16).toString("hex")}`;
  return `${[...range.subarray(0, 4)].join(".")}/${[...range.subarray(4)].join(".")}`;
}
