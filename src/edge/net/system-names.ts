// The system's own files about names: the hosts file, and search domains and ndots of resolv.conf. Read again when they change.
import { readFile, stat } from "node:fs/promises";
import { canonicalIp } from "../../http/ip-address.ts";
import { canonicalHost } from "../../http/target.ts";

/** A file larger than this is taken as empty. Bytes. */
const MAX_FILE = 16 * 1024 * 1024;

/** What a file says, parsed again when its time or size changes; a missing file says nothing. */
export class WatchedFile<T> {
  private readonly path: string;
  private readonly parse: (text: string) => T;
  private stamp = "";
  private value: T;

  constructor(path: string, parse: (text: string) => T) {
    this.path = path;
    this.parse = parse;
    this.value = parse("");
  }

  async read(): Promise<T> {
    const stats = await stat(this.path).catch(() => null);
    const stamp =
      stats?.isFile() === true && stats.size <= MAX_FILE ? `${stats.mtimeMs} ${stats.size} ${stats.ino}` : "";
    if (stamp !== this.stamp) {
      this.value = this.parse(stamp === "" ? "" : await readFile(this.path, "utf8").catch(() => ""));
      this.stamp = stamp;
    }
    return this.value;
  }
}

/** Canonical addresses by canonical name (hosts(5)). Entries that are no address or no name are passed over. */
export function parseHosts(text: string): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split(/\r?\n/)) {
    const [ip, ...names] = (line.split("#", 1)[0] as string).trim().split(/\s+/);
    const address = ip === undefined ? null : canonicalIp(ip);
    if (address === null) continue;
    for (const written of names) {
      const name = canonicalHost(written);
      if (name === null) continue;
      const known = hosts.get(name) ?? [];
      if (!known.includes(address)) known.push(address);
      hosts.set(name, known);
    }
  }
  return hosts;
}

export interface SearchRules {
  /** Domains to append, canonical. */
  readonly search: readonly string[];
  /** A name with at least so many dots is first tried as it stands. */
  readonly ndots: number;
}

/** `search`, `domain` (the last of them counts) and `options ndots:` of resolv.conf(5). */
export function parseSearchRules(text: string): SearchRules {
  let search: string[] = [];
  let ndots = 1;
  for (const line of text.split(/\r?\n/)) {
    const [keyword, ...words] = line.trim().split(/\s+/);
    if (keyword === "search") search = words;
    else if (keyword === "domain") search = words.slice(0, 1);
    else if (keyword === "options") {
      const option = words.findLast((word) => /^ndots:\d{1,3}$/.test(word));
      if (option !== undefined) ndots = Math.min(15, Number(option.slice(6)));
    }
  }
  const domains = search.map(canonicalHost).filter((domain) => domain !== null);
  return { search: domains.slice(0, 6), ndots };
}

/** The full names to ask for, in order, as the system's resolver would. */
export function namesToAsk(host: string, rules: SearchRules): string[] {
  const searched = rules.search.map((domain) => `${host}.${domain}`).filter((name) => name.length <= 253);
  const dots = host.split(".").length - 1;
  return dots >= rules.ndots ? [host, ...searched] : [...searched, host];
}
