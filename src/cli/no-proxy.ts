// NO_PROXY: no standard says what an entry means, so this file does. What we write is what curl, Go, Python and Node agree on.
//
//   x.com            x.com and every name under it          .x.com, *.x.com    the names under x.com
//   x.com:8443       that port only                         10.0.0.0/8         every address in it
//   127.0.0.1  ::1   that address                           [::1]:80           that address and port
//
// Blanks around an entry and empty entries are ignored. Anything else is an error, `*` too: an entry that one program ignores
// and another reads as "everything" would open a way around the proxy.
import { isIP } from "node:net";
import { domainToASCII } from "node:url";

export type NoProxyEntry =
  | { readonly kind: "name"; readonly name: string; readonly below: boolean; readonly port: number | null }
  | { readonly kind: "address"; readonly address: string; readonly port: number | null }
  | { readonly kind: "range"; readonly address: string; readonly bits: number };

/** What stands in NO_PROXY unless the user says otherwise. */
export const DEFAULT_NO_PROXY = "localhost,127.0.0.1,::1";

const LABELS = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/;

/** The entries of a list separated by commas or blanks. Throws an Error that names the entry that is malformed. */
export function parseNoProxy(list: string): NoProxyEntry[] {
  return list
    .split(/[\s,]+/)
    .filter((text) => text !== "")
    .map(parseEntry);
}

/** The list as it is put into the environment: lower case, `*.` as `.`, one comma between entries. */
export function noProxyText(entries: readonly NoProxyEntry[]): string {
  return entries.map(entryText).join(",");
}

/** The list as Java's `http.nonProxyHosts` wants it; `left` are the entries that it cannot say (they go through the proxy). */
export function javaNonProxyHosts(entries: readonly NoProxyEntry[]): {
  readonly text: string;
  readonly left: string[];
} {
  const hosts: string[] = [];
  const left: string[] = [];
  for (const entry of entries) {
    const said = javaHosts(entry);
    if (said.length === 0) left.push(entryText(entry));
    hosts.push(...said);
  }
  return { text: hosts.join("|"), left };
}

function javaHosts(entry: NoProxyEntry): string[] {
  if (entry.kind === "range") {
    const whole = entry.bits / 8;
    if (isIP(entry.address) !== 4 || ![1, 2, 3].includes(whole)) return [];
    return [`${entry.address.split(".").slice(0, whole).join(".")}.*`];
  }
  if (entry.port !== null) return [];
  if (entry.kind === "address") return [isIP(entry.address) === 6 ? `[${entry.address}]` : entry.address];
  return entry.below ? [`*.${entry.name}`] : [entry.name, `*.${entry.name}`];
}

function entryText(entry: NoProxyEntry): string {
  if (entry.kind === "range") return `${entry.address}/${entry.bits}`;
  if (entry.kind === "name")
    return `${entry.below ? "." : ""}${entry.name}${entry.port === null ? "" : `:${entry.port}`}`;
  if (entry.port === null) return entry.address;
  return isIP(entry.address) === 6 ? `[${entry.address}]:${entry.port}` : `${entry.address}:${entry.port}`;
}

function parseEntry(text: string): NoProxyEntry {
  if (text === "*") throw malformed(text, "it would send everything around the proxy");
  if (text.includes("/")) return parseRange(text);
  const bare = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bare) {
    const address = bare[1] as string;
    if (isIP(address) !== 6) throw malformed(text, "brackets are for IPv6 addresses");
    return { kind: "address", address, port: parsePort(bare[2], text) };
  }
  if (isIP(text) === 6 && !text.includes("%")) return { kind: "address", address: text.toLowerCase(), port: null };
  const colon = text.indexOf(":");
  const host = colon < 0 ? text : text.slice(0, colon);
  const port = parsePort(colon < 0 ? undefined : text.slice(colon + 1), text);
  if (isIP(host) === 4) return { kind: "address", address: host, port };
  return parseName(host, port, text);
}

function parseName(host: string, port: number | null, text: string): NoProxyEntry {
  const below = host.startsWith(".") || host.startsWith("*.");
  const rest = host.replace(/^\*?\./, "").replace(/\.$/, "");
  const name = /^[\x20-\x7e]*$/.test(rest) ? rest.toLowerCase() : domainToASCII(rest);
  if (!LABELS.test(name)) throw malformed(text, "it is neither a host, an address nor a range");
  if (/^(0x[0-9a-f]*|\d+)$/.test(name.split(".").at(-1) as string)) throw malformed(text, "it is not a full address");
  return { kind: "name", name, below, port };
}

function parseRange(text: string): NoProxyEntry {
  const [address = "", bits = "", ...more] = text.split("/");
  const family = address.includes("%") ? 0 : isIP(address);
  if (more.length > 0 || family === 0) throw malformed(text, "it is not an address range");
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) {
    throw malformed(text, `the range needs a number of bits from 1 to ${family === 4 ? 32 : 128}`);
  }
  if (Number(bits) === 0) throw malformed(text, "it would send everything around the proxy");
  return { kind: "range", address: address.toLowerCase(), bits: Number(bits) };
}

function parsePort(text: string | undefined, entry: string): number | null {
  if (text === undefined) return null;
  if (!/^[1-9]\d{0,4}$/.test(text) || Number(text) > 65535) throw malformed(entry, "the port is not a number to 65535");
  return Number(text);
}

const malformed = (entry: string, why: string): Error =>
  new Error(`NO_PROXY: ${JSON.stringify(entry)} is not an entry: ${why}`);
