// A whole house in this process: real listeners, a real CA, a real audit log in a folder of its own. What tests of the
// running proxy start with.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { AuditRecord } from "../../src/audit/record.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import type { ResolverOptions } from "../../src/edge/net/resolver.ts";
import { type House, startHouse } from "../../src/roles/house.ts";
import { PATIENCE } from "./patience.ts";

export interface TestHouseOptions {
  /** The rest of the policy file, after `version: 1`. Default: everything allowed, loopback open. */
  readonly policy?: string;
  /** PEM of roots that origins are verified against, beside the system's. */
  readonly roots?: string;
  readonly env?: Record<string, string>;
  /** How names are resolved; the system's way by default. */
  readonly resolver?: ResolverOptions;
}

/** Everything allowed and loopback open: for tests that are about something else. */
export const OPEN_POLICY = `defaults: { action: allow }
network: { allow: [127.0.0.0/8, "::1/128"] }
`;

export class TestHouse {
  readonly dir: string;
  readonly house: House;
  readonly port: number;
  readonly adminPort: number;
  /** The CA's certificate, in PEM. */
  readonly ca: string;

  constructor(dir: string, house: House) {
    this.dir = dir;
    this.house = house;
    this.port = Number(new URL(house.addresses.proxy).port);
    this.adminPort = Number(new URL(house.addresses.admin ?? "http://x:1").port);
    this.ca = readFileSync(house.facts.caFile, "utf8");
  }

  get policyFile(): string {
    return join(this.dir, "policy.yaml");
  }

  /** Every record so far, oldest first. */
  records(): AuditRecord[] {
    const reader = new AuditReader(join(this.dir, "data"));
    try {
      return [...reader.oldest({})].map((stored) => stored.record);
    } finally {
      reader.close();
    }
  }

  /** Waits until `count` records satisfy `fits`, and then a moment longer for one too many; throws otherwise. */
  async recordsWhere(
    fits: (record: AuditRecord) => boolean,
    count = 1,
    milliseconds = PATIENCE,
  ): Promise<AuditRecord[]> {
    for (const end = Date.now() + milliseconds; ; await wait(20)) {
      let found = this.records().filter(fits);
      if (found.length >= count) {
        await wait(150);
        found = this.records().filter(fits);
        if (found.length === count) return found;
        throw new Error(`${found.length} records instead of ${count}: ${JSON.stringify(found, null, 1)}`);
      }
      if (Date.now() > end)
        throw new Error(`${found.length} records instead of ${count}; all: ${JSON.stringify(this.records(), null, 1)}`);
    }
  }

  async close(): Promise<void> {
    await this.house.drain();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export async function startTestHouse(options: TestHouseOptions = {}): Promise<TestHouse> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-test-"));
  const policy = options.policy ?? OPEN_POLICY;
  if (options.roots !== undefined) writeFileSync(join(dir, "roots.pem"), options.roots);
  const tls = options.roots === undefined || /^tls:/m.test(policy) ? "" : "tls: { roots: [roots.pem] }\n";
  writeFileSync(join(dir, "policy.yaml"), `version: 1\n${tls}${policy}`);
  const house = await startHouse({
    configFiles: [join(dir, "policy.yaml")],
    flags: {
      listen: "127.0.0.1:0",
      admin: "127.0.0.1:0",
      data: join(dir, "data"),
      ca: join(dir, "ca"),
      logLevel: "error",
    },
    env: { ...process.env, ...options.env },
    ...(options.resolver === undefined ? {} : { resolver: options.resolver }),
  });
  return new TestHouse(dir, house);
}
