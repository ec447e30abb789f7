// Names to addresses with c-ares, never getaddrinfo (whose four threads a few dead names would hold): hosts file, search
// domains, A and AAAA at once, one deadline over all, one question for many askers, and a cache of seconds.
import { Resolver as Channel } from "node:dns";
import { canonicalIp } from "../../http/ip-address.ts";
import { classifyAddress } from "../../policy/address-class.ts";
import { ProxyError } from "../../shared/errors.ts";
import { namesToAsk, parseHosts, parseSearchRules, WatchedFile } from "./system-names.ts";

export interface ResolverOptions {
  /** Milliseconds for a name, all questions included. */
  readonly deadline?: number;
  /** Name servers as `address:port` instead of the system's. */
  readonly servers?: readonly string[];
  readonly hostsFile?: string;
  readonly resolvConf?: string;
  /** Names that may be asked for at the same time; more are refused with `busy`. As many late answers are awaited. */
  readonly maxUnderWay?: number;
  /** The addresses of this machine's interfaces; none: not known. */
  readonly localAddresses?: () => readonly string[];
}

/** Canonical addresses, in the order of the answers. */
export type Addresses = readonly string[];

interface Answer {
  readonly addresses: Addresses;
  /** Until when it may be used again, on the monotonic clock. */
  readonly until: number;
}
type Question = { readonly found: Answer } | { readonly missing: true } | { readonly failed: string };
/** `late`: the family that is missing in what was found, and may come yet. */
type Both = Question & { readonly late?: Promise<Question> };
/** True when only the other family can be dialled from here. */
type IsUseless = (family: 4 | 6) => boolean;

const MAX_CACHED_NAMES = 1000;
const MAX_LIFETIME = 10_000;
const MAX_ADDRESSES = 64;
/** When one family has answered, the other gets so much longer (RFC 8305 section 3 has a resolution delay too). */
const OTHER_FAMILY = 250;
/** An answer without a family that was late, and is not awaited, is used for so long. */
const HALF_LIFETIME = 1000;

export class Resolver {
  private readonly deadline: number;
  private readonly servers: readonly string[] | null;
  private readonly maxUnderWay: number;
  private readonly localAddresses: () => readonly string[];
  private readonly hosts: WatchedFile<Map<string, string[]>>;
  private readonly rules: WatchedFile<ReturnType<typeof parseSearchRules>>;
  private readonly cache = new Map<string, Answer>();
  private readonly underWay = new Map<string, Promise<Addresses>>();
  /** How many late answers are awaited. */
  private awaited = 0;

  constructor(options: ResolverOptions = {}) {
    this.deadline = options.deadline ?? 5000;
    this.servers = options.servers ?? null;
    this.maxUnderWay = options.maxUnderWay ?? 512;
    this.localAddresses = options.localAddresses ?? (() => []);
    this.hosts = new WatchedFile(options.hostsFile ?? systemHosts(), parseHosts);
    this.rules = new WatchedFile(options.resolvConf ?? "/etc/resolv.conf", parseSearchRules);
  }

  /**
   * The addresses of a canonical name, at least one. Throws ProxyError `origin-unresolved`, `origin-dns-timeout`, or
   * `busy` when too many names are asked for already.
   */
  resolve(host: string): Promise<Addresses> {
    const cached = this.cache.get(host);
    if (cached !== undefined && cached.until > performance.now()) return Promise.resolve(cached.addresses);
    const present = this.underWay.get(host);
    if (present !== undefined) return present;
    if (this.underWay.size >= this.maxUnderWay)
      return Promise.reject(new ProxyError("busy", "too many names are being resolved"));
    const lookup = this.lookUp(host).finally(() => this.underWay.delete(host));
    this.underWay.set(host, lookup);
    return lookup;
  }

  private async lookUp(host: string): Promise<Addresses> {
    if (host === "localhost" || host.endsWith(".localhost")) return ["127.0.0.1", "::1"]; // RFC 6761 section 6.3
    const listed = (await this.hosts.read()).get(host);
    if (listed !== undefined) return listed;
    const names = namesToAsk(host, await this.rules.read());
    return this.ask(host, names);
  }

  private async ask(host: string, names: readonly string[]): Promise<Addresses> {
    const channel = this.openChannel();
    // Cancelling answers every open question of this channel, and of no other, with ECANCELLED.
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      channel.cancel();
    }, this.deadline);
    const end = (): void => {
      clearTimeout(timer);
      channel.cancel();
    };
    let endsLater = false;
    try {
      let failure = "";
      for (const name of names) {
        const result = await askBoth(channel, name, (family) => this.isUseless(family));
        if ("found" in result) {
          endsLater = this.keepAnswer(host, result.found, result.late, end);
          return result.found.addresses;
        }
        if ("failed" in result) failure = result.failed;
        if (late || failure === "ETIMEOUT")
          throw new ProxyError("origin-dns-timeout", `no name server answered for ${host} in time`);
      }
      const why = failure === "" ? "has no address" : `cannot be resolved (${failure})`;
      throw new ProxyError("origin-unresolved", `${host} ${why}`);
    } finally {
      if (!endsLater) end();
    }
  }

  /** One channel for each name: the only way to give up one question without the others; it reads resolv.conf anew. */
  private openChannel(): Channel {
    const channel = new Channel({ timeout: Math.max(100, Math.ceil(this.deadline / 4)), tries: 3 });
    if (this.servers !== null) channel.setServers(this.servers);
    return channel;
  }

  /**
   * Keeps an answer, and where one family of it is late, completes it when that has come. True when that is awaited:
   * `end` is called then, and from here.
   */
  private keepAnswer(host: string, found: Answer, late: Promise<Question> | undefined, end: () => void): boolean {
    const now = performance.now();
    if (late === undefined || found.until <= now) {
      this.keep(host, found);
      return false;
    }
    if (this.awaited >= this.maxUnderWay) {
      this.keep(host, { ...found, until: Math.min(found.until, now + HALF_LIFETIME) });
      return false;
    }
    this.keep(host, found);
    this.awaited++;
    // No answer at all (ETIMEOUT, or the deadline): the family is dead, and what was found is used for as long as it may.
    void late.then((question) => {
      this.awaited--;
      end();
      if ("found" in question) this.keep(host, join([found, question.found]));
    });
    return true;
  }

  private keep(host: string, answer: Answer): void {
    if (answer.until <= performance.now()) return;
    this.cache.delete(host);
    if (this.cache.size >= MAX_CACHED_NAMES) this.cache.delete(this.cache.keys().next().value as string);
    this.cache.set(host, answer);
  }

  private isUseless(family: 4 | 6): boolean {
    const own = this.localAddresses().filter((address) => !NEAR.has(classifyAddress(address).class));
    const hasFamily = (wanted: 4 | 6): boolean => own.some((address) => address.includes(":") === (wanted === 6));
    return !hasFamily(family) && hasFamily(family === 6 ? 4 : 6);
  }
}

/** Classes of addresses from which no public address of their family is reached. */
const NEAR: ReadonlySet<string> = new Set(["loopback", "link-local", "unique-local", "unspecified", "invalid"]);

/**
 * A and AAAA of one full name. An answer of one family does not wait long for the other, except where it is of no use
 * without it.
 */
async function askBoth(channel: Channel, name: string, isUseless: IsUseless): Promise<Both> {
  const v6 = askOne((done) => channel.resolve6(name, { ttl: true }, done));
  const v4 = askOne((done) => channel.resolve4(name, { ttl: true }, done));
  const first = await Promise.race([v6, v4]);
  if ("found" in first) {
    const [six, four] = await withinDelay(v6, v4);
    if (six === null && !isUseless(4)) return { found: first.found, late: v6 };
    if (four === null && !isUseless(6)) return { found: first.found, late: v4 };
  }
  const [six, four] = await Promise.all([v6, v4]);
  // What is of no use alone, because the other question failed, is like a failure not kept.
  if ("found" in six && "failed" in four && isUseless(6)) return { found: { ...six.found, until: 0 } };
  if ("found" in four && "failed" in six && isUseless(4)) return { found: { ...four.found, until: 0 } };
  const found = [six, four].flatMap((question) => ("found" in question ? [question.found] : []));
  if (found.length > 0) return { found: join(found) };
  return [six, four].find((question) => "failed" in question) ?? { missing: true };
}

const join = (answers: readonly Answer[]): Answer => ({
  addresses: answers.flatMap((answer) => answer.addresses),
  until: Math.min(...answers.map((answer) => answer.until)),
});

async function withinDelay(v6: Promise<Question>, v4: Promise<Question>): Promise<[Question | null, Question | null]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), OTHER_FAMILY);
  });
  const both = await Promise.all([Promise.race([v6, late]), Promise.race([v4, late])]);
  clearTimeout(timer);
  return both;
}

type Done = (error: NodeJS.ErrnoException | null, records: { address: string; ttl: number }[]) => void;

function askOne(start: (done: Done) => void): Promise<Question> {
  return new Promise((resolve) => {
    const done: Done = (error, records) => resolve(error === null ? readRecords(records) : readError(error));
    try {
      start(done);
    } catch (error) {
      // A name that the channel does not take at all.
      resolve(readError(error as NodeJS.ErrnoException));
    }
  });
}

function readRecords(records: { address: string; ttl: number }[]): Question {
  const addresses = records.map((record) => canonicalIp(record.address)).filter((address) => address !== null);
  // Never a part of the answer: what is not looked at could be what is dialled elsewhere.
  if (addresses.length > MAX_ADDRESSES) return { failed: "too many addresses" };
  if (addresses.length === 0) return { missing: true };
  const ttl = Math.min(...records.map((record) => record.ttl));
  return { found: { addresses, until: performance.now() + Math.min(MAX_LIFETIME, ttl * 1000) } };
}

function readError(error: NodeJS.ErrnoException): Question {
  const code = error.code ?? "unknown";
  return code === "ENOTFOUND" || code === "ENODATA" ? { missing: true } : { failed: code };
}

const systemHosts = (): string =>
  process.platform === "win32"
    ? `${process.env.SystemRoot ?? "C:\\Windows"}\\System32\\drivers\\etc\\hosts`
    : "/etc/hosts";
