// Checks credentials: Basic, bearer, client certificate, address (experience: "Who"). A wrong credential is never a
// fall-through to address or anonymous. Made anew for each configuration, so that nothing verified outlives a reload.
import { createHmac, randomBytes } from "node:crypto";
import ipaddr from "ipaddr.js";
import type { ConnectionFacts } from "../../exchange/exchange.ts";
import { allValues, type Fields, firstValue } from "../../http/fields.ts";
import type { Cidr, ClientConfig, PasswordCheck } from "../../policy/clients.ts";
import { ProxyError } from "../../shared/errors.ts";
import type { Authenticator } from "../../stages/authenticate.ts";
import { BearerVerifier } from "./bearer.ts";

import { type BrakeOptions, GuessBrake } from "./guess-brake.ts";
import type { KeyFetchPort } from "./key-set.ts";
import { checkPassword, readBasic } from "./password.ts";
import { type Verified, VerifiedCache } from "./verified-cache.ts";

export interface AuthenticatorOptions {
  readonly clients: readonly ClientConfig[];
  /** True: an anonymous request is refused. */
  readonly required: boolean;
  readonly keys: KeyFetchPort;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly brake?: BrakeOptions;
}

type Range = readonly [ipaddr.IPv4 | ipaddr.IPv6, number];

interface Known {
  readonly spec: ClientConfig;
  readonly ranges: readonly Range[];
  readonly bearer: BearerVerifier | null;
}

const MAX_CREDENTIAL = 16 * 1024;
const REMEMBERED = 4096;
/** A verified password or token is believed for so long before it is checked again. */
const BELIEVED = 300_000;
const CREDENTIAL = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ ]+([A-Za-z0-9._~+/-]+=*)[ \t]*$/;

/** Also closes what it holds open towards key sets. */
export interface OpenAuthenticator extends Authenticator {
  close(): void;
}

/** Throws when a client's key or address cannot be read. */
export function openAuthenticator(options: AuthenticatorOptions): OpenAuthenticator {
  return new CredentialChecker(options);
}

class CredentialChecker implements OpenAuthenticator {
  readonly #known: readonly Known[];
  readonly #required: boolean;
  readonly #now: () => number;
  readonly #brake: GuessBrake;
  readonly #cache = new VerifiedCache(REMEMBERED);
  /** The last good credential of each connection: the usual request costs one comparison of strings. */
  readonly #last = new WeakMap<ConnectionFacts, { readonly value: string; readonly verified: Verified }>();
  /** Digests of what the clients have to show. */
  readonly #standings: ReadonlyMap<string, string>;
  /** Checked in place of an unknown user's password, so that its absence takes as long. */
  readonly #decoy: PasswordCheck;

  constructor(options: AuthenticatorOptions) {
    this.#required = options.required;
    this.#now = options.now;
    this.#brake = new GuessBrake(options.now, options.brake);
    this.#known = options.clients.map((spec) => ({
      spec,
      ranges: spec.addresses.map(parseRange),
      bearer: spec.bearer ? new BearerVerifier(spec.bearer, options.keys, options.now) : null,
    }));
    this.#standings = new Map(options.clients.map((spec) => [spec.name, standingOf(spec)]));
    const scrypted = options.clients.find((c) => c.password?.kind === "scrypt")?.password;
    this.#decoy = scrypted ?? { kind: "plain", password: "" };
  }

  authenticate(fields: Fields, connection: ConnectionFacts): string | null | Promise<string | null> {
    const values = allValues(fields, "proxy-authorization");
    if (values.length === 0) return this.#withoutCredential(connection);
    const value = values[0] as string;
    if (values.length > 1 || value.length > MAX_CREDENTIAL) {
      throw new ProxyError("wrong-credential", "more than one credential, or one that is too long");
    }
    const now = this.#now();
    const last = this.#last.get(connection);
    if (last !== undefined && last.value === value && last.verified.until > now) return last.verified.client;
    const key = this.#cache.keyOf(value);
    const verified = this.#cache.get(key, now);
    // The same credential may be good from one address only: what narrows it is looked at on each connection.
    if (verified !== null && this.#known.some((k) => k.spec.name === verified.client && narrows(k, connection))) {
      this.#last.set(connection, { value, verified });
      return verified.client;
    }
    this.#brake.admit(connection.clientAddress);
    return this.#check(value, key, connection);
  }

  standing(client: string | null): string {
    if (client === null) return this.#required ? "required" : "";
    return this.#standings.get(client) ?? "unknown";
  }

  expiresAt(fields: Fields, connection: ConnectionFacts): number {
    const value = firstValue(fields, "proxy-authorization");
    if (value === null) return Number.POSITIVE_INFINITY;
    const last = this.#last.get(connection);
    // Nothing is known of a credential that was not shown here.
    return last?.value === value ? last.verified.expires : 0;
  }

  close(): void {
    for (const k of this.#known) k.bearer?.close();
  }

  #withoutCredential(connection: ConnectionFacts): string | null {
    for (const k of this.#known) if (byCertificate(k, connection)) return k.spec.name;
    for (const k of this.#known) if (byAddress(k, connection)) return k.spec.name;
    if (this.#required) throw new ProxyError("unauthenticated", "this proxy wants a credential of every client");
    return null;
  }

  async #check(value: string, key: string, connection: ConnectionFacts): Promise<string> {
    const found = await this.#verify(value, connection);
    if (found === null) {
      await this.#brake.wrong(connection.clientAddress);
      throw new ProxyError("wrong-credential");
    }
    const { client, expires } = found;
    const verified: Verified = { client, expires, until: Math.min(expires, this.#now() + BELIEVED) };
    this.#cache.put(key, verified);
    this.#last.set(connection, { value, verified });
    return client;
  }

  async #verify(value: string, connection: ConnectionFacts): Promise<Pick<Verified, "client" | "expires"> | null> {
    const parts = CREDENTIAL.exec(value);
    const scheme = parts?.[1]?.toLowerCase();
    const token = parts?.[2] ?? "";
    if (scheme === "basic") return this.#verifyBasic(token, connection);
    if (scheme === "bearer") return this.#verifyBearer(token, connection);
    return null;
  }

  async #verifyBasic(token: string, connection: ConnectionFacts) {
    const credential = readBasic(token);
    const known = this.#known.find((k) => k.spec.password && k.spec.name === credential?.user);
    const right = await checkPassword(known?.spec.password ?? this.#decoy, credential?.password ?? "");
    if (!right || known === undefined || !narrows(known, connection)) return null;
    return { client: known.spec.name, expires: Number.POSITIVE_INFINITY };
  }

  async #verifyBearer(token: string, connection: ConnectionFacts) {
    for (const k of this.#known) {
      if (k.bearer === null || !narrows(k, connection)) continue;
      try {
        return { client: k.spec.name, expires: await k.bearer.verify(token) };
      } catch {
        // The next client may know this token.
      }
    }
    return null;
  }
}

/** Comparable over reloads, and only within this process. */
function standingOf(spec: ClientConfig): string {
  const text = JSON.stringify(spec, (_key, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );
  return createHmac("sha256", PROCESS_KEY).update(text).digest("base64");
}
const PROCESS_KEY = randomBytes(32);

/** What stands beside a credential must hold as well. */
function narrows(k: Known, connection: ConnectionFacts): boolean {
  if (k.ranges.length > 0 && !inRanges(k.ranges, connection.clientAddress)) return false;
  return !k.spec.certificate || certificateFits(k, connection);
}

function byCertificate(k: Known, connection: ConnectionFacts): boolean {
  if (k.spec.password || k.bearer || !k.spec.certificate || !certificateFits(k, connection)) return false;
  return k.ranges.length === 0 || inRanges(k.ranges, connection.clientAddress);
}

function byAddress(k: Known, connection: ConnectionFacts): boolean {
  if (k.spec.password || k.bearer || k.spec.certificate) return false;
  return k.ranges.length > 0 && inRanges(k.ranges, connection.clientAddress);
}

function certificateFits(k: Known, connection: ConnectionFacts): boolean {
  const wanted = k.spec.certificate;
  const given = connection.clientCertificate;
  if (!wanted || given === null) return false;
  const hex = (text: string) => text.replaceAll(":", "").toLowerCase();
  if (wanted.fingerprint && hex(wanted.fingerprint) !== hex(given.fingerprint)) return false;
  if (wanted.name && given.subject !== wanted.name && !given.names.includes(wanted.name)) return false;
  return Boolean(wanted.fingerprint || wanted.name);
}

function parseRange(range: Cidr): Range {
  const address = ipaddr.parse(range.address);
  if (range.bits < 0 || range.bits > (address.kind() === "ipv4" ? 32 : 128)) throw new Error("not an address range");
  return [address, range.bits];
}

function inRanges(ranges: readonly Range[], address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.process(address);
  return ranges.some(
    ([network, bits]) => parsed.kind() === network.kind() && parsed.match(network as ipaddr.IPv4, bits),
  );
}
