// A remote set of public keys (RFC 7517): fetched with a deadline and a size limit, kept for a while, never more than one
// request at a time. The address is checked like that of any other host that an operator wrote.
import { isIP, type LookupFunction } from "node:net";
import type { createLocalJWKSet, JWTVerifyGetKey } from "jose";
import type { Agent } from "undici";

/** What the house lends for reaching hosts that the operator named. */
export interface KeyFetchPort {
  /** Resolves a name to addresses that were checked for this port only (an error: prohibited). */
  lookupFor(port: number): LookupFunction;
  /** Why this literal address must not be dialled at this port, or null. */
  refusal(address: string, port: number): string | null;
  /** PEM roots that `https:` key sets are verified against; null: Node's own. */
  readonly roots: string | readonly string[] | null;
}

/** A URL leaves out the usual port of its scheme. */
const portOf = (url: URL): number => Number(url.port) || (url.protocol === "https:" ? 443 : 80);

type Keys = ReturnType<typeof createLocalJWKSet>;

const DEADLINE = 5000;
const MAX_BYTES = 1 << 20;
const FRESH = 600_000;
/** A set that can no longer be fetched is still believed for so long. */
const STALE = 3_600_000;
/** Between two requests, so that tokens with unknown key ids cannot make us hammer the issuer. */
const COOLDOWN = 30_000;

export class RemoteKeySet {
  readonly #url: URL;
  readonly #port: KeyFetchPort;
  readonly #now: () => number;
  /** Made at the first fetch, and the libraries are loaded then: undici takes 12 MB, and most houses have no key set. */
  #agent: Agent | null = null;
  #closed = false;
  #keys: Keys | null = null;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;
  #pending: Promise<void> | null = null;

  constructor(url: string, port: KeyFetchPort, now: () => number) {
    this.#url = new URL(url);
    this.#port = port;
    this.#now = now;
  }

  /** For `jwtVerify`: the key for this token's header. Throws when there is none. */
  readonly key: JWTVerifyGetKey = async (header, token) => {
    if (this.#now() - this.#fetchedAt > FRESH) await this.#refresh();
    const keys = this.#believed();
    try {
      return await keys(header, token);
    } catch (error) {
      const { errors } = await import("jose");
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      // The issuer may have rotated its keys since.
      await this.#refresh();
      return await this.#believed()(header, token);
    }
  };

  close(): void {
    this.#closed = true;
    void this.#agent?.close();
  }

  #believed(): Keys {
    if (this.#keys === null || this.#now() - this.#fetchedAt > STALE) throw new Error("the key set cannot be fetched");
    return this.#keys;
  }

  async #refresh(): Promise<void> {
    if (this.#pending === null) {
      if (this.#now() - this.#triedAt < COOLDOWN) return;
      this.#triedAt = this.#now();
      this.#pending = this.#fetch().finally(() => {
        this.#pending = null;
      });
    }
    // A failure is not the end: keys that are not too old are still believed.
    await this.#pending.catch(() => undefined);
  }

  async #fetch(): Promise<void> {
    const literal = this.#url.hostname.replace(/^\[|\]$/g, "");
    const refusal = isIP(literal) === 0 ? null : this.#port.refusal(literal, portOf(this.#url));
    if (refusal !== null) throw new Error(refusal);
    const [{ Agent, request }, { createLocalJWKSet }] = await Promise.all([import("undici"), import("jose")]);
    if (this.#closed) throw new Error("the key set is not used any more");
    this.#agent ??= new Agent({
      connections: 1,
      connect: {
        lookup: this.#port.lookupFor(portOf(this.#url)),
        timeout: DEADLINE,
        ...(this.#port.roots === null ? {} : { ca: this.#port.roots as string[] }),
      },
      headersTimeout: DEADLINE,
      bodyTimeout: DEADLINE,
      keepAliveTimeout: 1000,
    });
    const signal = AbortSignal.timeout(DEADLINE);
    const { statusCode, body } = await request(this.#url, {
      dispatcher: this.#agent,
      signal,
      headers: { accept: "application/jwk-set+json, application/json" },
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_BYTES) throw new Error("the key set is too large");
      chunks.push(chunk);
    }
    if (statusCode !== 200) throw new Error(`the key set's server answered ${statusCode}`);
    this.#keys = createLocalJWKSet(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    this.#fetchedAt = this.#now();
  }
}
