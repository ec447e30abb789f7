// Builds everything and hands the edges to each other; starts, reloads, drains.
import { randomBytes } from "node:crypto";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { redactingSink } from "../audit/redacting-sink.ts";
import { problemText } from "../config/loaded.ts";
import { type AdminServer, startAdminServer } from "../edge/admin/admin-server.ts";
import { PrometheusMetrics } from "../edge/admin/metrics.ts";
import { readyReport } from "../edge/admin/readiness.ts";
import { type HouseAuditSink, openAuditSink } from "../edge/audit/worker-sink.ts";
import type { KeyFetchPort } from "../edge/auth/key-set.ts";
import { contentDecoders } from "../edge/content/decoders.ts";
import { contentUnpacker } from "../edge/content/unpacker.ts";
import { type OwnedLog, openLog } from "../edge/log/logger.ts";
import { AddressGuard } from "../edge/net/address-guard.ts";
import { Resolver, type ResolverOptions } from "../edge/net/resolver.ts";
import { openHttp2Session } from "../edge/proxy/h2/client-session.ts";
import { type Listener, openListener } from "../edge/proxy/listener.ts";
import { OriginPool } from "../edge/proxy/origin-pool.ts";
import { openRoute, type RouteServices } from "../edge/proxy/origin-route.ts";
import type { ProxyServices } from "../edge/proxy/services.ts";
import { TimerWheel } from "../edge/proxy/timers.ts";
import { joinUpgraded } from "../edge/proxy/upgrade.ts";
import { type Ca, openCa, reloadCa } from "../edge/tls/ca.ts";
import { ClientHelloReader } from "../edge/tls/client-hello.ts";
import { clientCertificate, proxyPortTls } from "../edge/tls/client-tls.ts";
import { LeafCache } from "../edge/tls/leaf-cache.ts";
import type { Roots } from "../edge/tls/roots.ts";
import { classifyClientTlsError, clientTlsHint } from "../edge/tls/tls-errors.ts";
import { Assembly } from "../edge/websocket/assembly.ts";
import { joinWebSocket } from "../edge/websocket/join.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { Pipeline } from "../exchange/pipeline.ts";
import { refuseExchange } from "../exchange/refusal.ts";
import { authorityText } from "../http/target.ts";
import type { Clock } from "../shared/clock.ts";
import { KnownSecrets } from "../shared/known-secrets.ts";
import { statusClassOf } from "../shared/metrics.ts";
import { outcomeOf } from "../stages/audit.ts";
import { theLine } from "../stages/index.ts";
import type { HouseFacts } from "./control.ts";
import { countedSink } from "./counted-sink.ts";
import { watchFiles } from "./file-watch.ts";
import { type InForce, loadInForce } from "./in-force.ts";
import { keyFetch } from "./key-fetch.ts";
import { LatestRun } from "./latest-run.ts";
import { keepHeapSmall } from "./small-heap.ts";
import { LoopTurns } from "./turns.ts";
import { version } from "./version.ts";

export interface HouseOptions {
  readonly configFiles: readonly string[];
  readonly flags: {
    readonly listen?: string;
    readonly admin?: string;
    readonly data?: string;
    readonly ca?: string;
    readonly logLevel?: string;
  };
  readonly env: NodeJS.ProcessEnv;
  /** Started for the children of `run`: no admin port unless asked for. */
  readonly ephemeral?: boolean;
  /** How names are resolved; the system's way by default. */
  readonly resolver?: ResolverOptions;
}

export interface House {
  readonly addresses: { readonly proxy: string; readonly admin: string | null };
  readonly facts: HouseFacts;
  /** Opens a loopback port whose traffic is this client's (null: anonymous). */
  openChildPort(client: string | null): Promise<{ readonly port: number; close(): Promise<void> }>;
  /** Rejects, and keeps the old policy, when the new one is bad. */
  reload(): Promise<void>;
  /** A text for people without any secret of the configuration: what is said of a bug, which may quote anything. */
  withoutSecrets(text: string): string;
  drain(): Promise<void>;
}

const CLOCK: Clock = { now: () => Date.now(), tick: () => performance.now() };

/** Starts a house. Rejects with every problem of its configuration, or with why it cannot start. */
export async function startHouse(options: HouseOptions): Promise<House> {
  const guardBox: { guard: AddressGuard | null } = { guard: null };
  const keys = (roots: Roots): KeyFetchPort => keyFetch(guardBox, roots);
  const sources = { files: options.configFiles, flags: options.flags, env: options.env };
  const first = await loadInForce(sources, keys);
  const again = (): Promise<InForce> => loadInForce(sources, keys, first.config.server);
  const running = new RunningHouse(options, first, again);
  guardBox.guard = running.guard;
  await running.open();
  return running;
}

class RunningHouse implements House {
  readonly guard: AddressGuard;
  addresses: { proxy: string; admin: string | null } = { proxy: "", admin: null };
  private readonly options: HouseOptions;
  private readonly load: () => Promise<InForce>;
  private inForce: InForce;
  /** What no log, record or metric may hold; those of earlier configurations are still among them. */
  private readonly secrets: KnownSecrets;
  private readonly log: OwnedLog;
  private readonly wheel = new TimerWheel((error) =>
    this.log.error({ err: error }, "a deadline failed inside the proxy"),
  );
  private readonly metrics: PrometheusMetrics;
  private readonly listeners = new Set<Listener>();
  private readonly open_ = new Set<{ drain(): void; destroy(): void }>();
  private sink!: HouseAuditSink;
  private ca!: Ca;
  private leaves!: LeafCache;
  private pool!: OriginPool;
  private services!: ProxyServices;
  private admin: AdminServer | null = null;
  /** Where it was opened: `server:` is read once, and a reload may say something else. */
  private adminHost = "127.0.0.1";
  private draining = false;
  private reloadFailed: { at: number; message: string } | null = null;
  private stopWatching: () => void = () => {};
  private readonly reloads = new LatestRun(() => this.reloadOnce());

  constructor(options: HouseOptions, first: InForce, load: () => Promise<InForce>) {
    this.options = options;
    this.inForce = first;
    this.load = load;
    const { config } = first;
    this.secrets = new KnownSecrets(config.secretValues);
    this.log = openLog({ level: config.server.logLevel, secrets: this.secrets });
    this.guard = new AddressGuard({
      resolver: new Resolver({ localAddresses, ...options.resolver }),
      network: () => this.inForce.network,
      ownListeners: () => this.ownListeners(),
      localAddresses,
    });
    this.metrics = new PrometheusMetrics({
      version,
      audit: () => ({
        lagRecords: this.sink.lag(),
        dropped: this.sink.dropped(),
        unavailable: this.sink.fault !== null,
      }),
    });
  }

  get facts(): HouseFacts {
    const { config, roots } = this.inForce;
    return {
      policyFile: config.sources[0]?.file ?? "",
      caFile: this.ca.file,
      caFingerprint: this.ca.fingerprint,
      caCreated: this.ca.created,
      auditFile: join(config.server.data, "audit.db"),
      rootsFrom: roots.from,
      secretVariables: config.secretVariables,
      warnings: [...config.warnings.map(problemText), ...this.ca.warnings],
    };
  }

  /** What is valid and probably not meant: for those who see the log alone, and after a reload, which shows no banner. */
  private logWarnings(): void {
    for (const warning of this.inForce.config.warnings)
      this.log.warn({ warning: problemText(warning) }, "a warning about the configuration");
  }

  /** Opens what can fail one after the other; what was opened is closed again when a later step fails. */
  async open(): Promise<void> {
    const { config } = this.inForce;
    this.ca = await openCa({ dir: config.server.ca, passphrase: config.tls.caPassphrase, now: Date.now });
    this.sink = await openAuditSink({
      dir: config.server.data,
      required: config.audit.required,
      sync: config.audit.sync,
      keep: config.audit.keep,
      log: this.log,
      clock: CLOCK,
      threadRuns: keepHeapSmall,
    });
    try {
      this.build();
      await this.listen();
    } catch (error) {
      await this.close();
      throw error;
    }
    this.metrics.policyLoaded(config.policy.version, Date.now() / 1000);
    this.logWarnings();
    this.stopWatching = watchFiles(
      () => this.inForce.config.sources,
      () => {
        this.reload().catch(() => {});
      },
    );
  }

  private build(): void {
    const { config } = this.inForce;
    this.leaves = new LeafCache({ ca: this.ca, now: Date.now, minted: () => this.metrics.leafMinted() });
    const route: RouteServices = {
      guard: this.guard,
      originTls: () => this.inForce.originTls,
      tick: CLOCK.tick,
      connectTimeout: config.server.connectTimeout,
      wheel: this.wheel,
      onHandshake: (result) => this.metrics.tlsHandshake("origin", result),
    };
    const pseudonym = `sallyport-${randomBytes(5).toString("hex")}`;
    this.pool = new OriginPool({ ...route, pseudonym, metrics: this.metrics });
    const { wheel, secrets } = this;
    const turns = new LoopTurns();
    const pipeline = new Pipeline(
      theLine({
        audit: { sink: redactingSink(this.sink, secrets), secrets, unpacker: contentUnpacker },
        authenticator: () => this.inForce.authenticator,
        pseudonym,
        content: { decoders: contentDecoders, turns },
      }),
    );
    const sink = redactingSink(countedSink(this.sink, this.metrics), secrets);
    const shared = { wheel, sink, clock: CLOCK, open: this.open_ };
    const upgrades = { ...shared, secrets, assembly: new Assembly(), turns };
    this.services = {
      ...shared,
      pipeline,
      origins: this.pool,
      log: this.log,
      coarse: wheel,
      metrics: this.metrics,
      pseudonym,
      settings: config.server,
      tunnels: { open: (request) => openRoute(route, request), helloReader: () => new ClientHelloReader() },
      refusal: (x, error) => refuseExchange(x, error, this.inForce.refusal),
      upgraded: (x, client, origin) => {
        if (x.webSocket === null) joinUpgraded(upgrades, x, client, origin);
        else joinWebSocket(upgrades, x, x.webSocket, client, origin);
      },
      done: (x) => this.count(x),
      policy: () => this.inForce.config.policy,
      authenticator: () => this.inForce.authenticator,
      refusalOptions: () => this.inForce.refusal,
      checkLiteral: (host, port) => this.guard.checkLiteral(host, port),
      leafFor: (host) => this.leaves.contextFor(host),
      classifyClientTls: (error, host) => ({
        reason: classifyClientTlsError(error),
        detail: clientTlsHint(error, host),
      }),
      http2: (socket, raw, facts, port) => openHttp2Session(this.services, socket, raw, facts, port),
      draining: () => this.draining,
    };
  }

  private count(x: Exchange): void {
    const { timings } = x;
    const waited = (timings.dns ?? 0) + (timings.connect ?? 0) + (timings.tls ?? 0) + (timings.firstByte ?? 0);
    this.metrics.requestDone({
      client: x.principal === null ? null : this.secrets.redact(x.principal),
      statusClass: statusClassOf(x.response?.status ?? null),
      rule: x.decision?.rule ? this.secrets.redact(x.decision.rule) : null,
      decision: outcomeOf(x),
      proxySeconds: Math.max(0, timings.total - waited) / 1000,
      totalSeconds: timings.total / 1000,
      bytesSent: x.sent.bytes,
      bytesReceived: x.receivedBody.bytes,
      reason: x.failure?.reason ?? null,
    });
  }

  withoutSecrets(text: string): string {
    return this.secrets.redactPath(text);
  }

  private async listen(): Promise<void> {
    const { config } = this.inForce;
    const { listen, admin, tls } = config.server;
    const proxy = await openListener(this.services, {
      ...listen,
      tls: tls === null ? null : proxyPortTls(tls),
      ...(tls?.clientCa ? { certificateOf: clientCertificate } : {}),
    });
    this.listeners.add(proxy);
    const wantsAdmin = admin !== null && (!this.options.ephemeral || this.options.flags.admin !== undefined);
    if (wantsAdmin) {
      this.adminHost = admin.host;
      this.admin = await startAdminServer({
        ...admin,
        log: this.log,
        ready: () => this.ready(),
        scrape: () => this.metrics.scrape(),
      });
    }
    this.addresses = {
      proxy: `${tls === null ? "http" : "https"}://${authorityText(proxy.address)}`,
      admin: this.admin?.address ?? null,
    };
  }

  private ready() {
    const { config } = this.inForce;
    return readyReport({
      now: Date.now(),
      draining: this.draining,
      audit: { unavailable: this.sink.fault, required: config.audit.required },
      policy: { version: config.policy.version, failed: this.reloadFailed, waiting: this.inForce.waiting },
      caNotAfter: this.ca.notAfter,
    });
  }

  private ownListeners(): { address: string; port: number }[] {
    const own = [...this.listeners].map((l) => ({ address: l.address.host, port: l.address.port }));
    if (this.admin !== null) own.push({ address: this.adminHost, port: this.admin.port });
    return own;
  }

  async openChildPort(client: string | null): Promise<{ port: number; close(): Promise<void> }> {
    const { clients } = this.inForce.config;
    if (client !== null && clients.length > 0 && !clients.some((c) => c.name === client)) {
      // Not an error: `wrap-config` names every server, and no rule with `who` matches a name that the policy does not have.
      this.log.warn(
        { client },
        "the policy has no client of this name: it is recorded under it, and no rule with `who` is for it",
      );
    }
    const listener = await openListener(this.services, { host: "127.0.0.1", port: 0, tls: null, assigned: { client } });
    this.listeners.add(listener);
    return {
      port: listener.address.port,
      close: async () => {
        this.listeners.delete(listener);
        await listener.stop();
      },
    };
  }

  reload(): Promise<void> {
    return this.reloads.run();
  }

  /** Parses, validates, runs the file's tests, swaps one reference. */
  private async reloadOnce(): Promise<void> {
    try {
      const next = await this.load();
      const ca = await reloadCa({
        dir: next.config.server.ca,
        passphrase: next.config.tls.caPassphrase,
        now: Date.now,
      });
      const old = this.inForce;
      if (ca.fingerprint !== this.ca.fingerprint) this.leaves.replaceCa(ca);
      this.ca = ca;
      this.secrets.add(next.config.secretValues);
      this.log.setLevel(next.config.server.logLevel);
      this.sink.change(next.config.audit);
      this.inForce = next;
      this.reloadFailed = null;
      this.pool.flush();
      old.authenticator.close();
      this.metrics.policyLoaded(next.config.policy.version, Date.now() / 1000);
      this.log.info({ policy: next.config.policy.version }, "the policy is in force");
      this.logWarnings();
      if (next.waiting.length > 0)
        this.log.warn({ settings: next.waiting }, "these settings are read at the next start");
    } catch (error) {
      this.reloadFailed = { at: Date.now(), message: (error as Error).message };
      this.metrics.policyReloadFailed();
      this.log.error({ problem: (error as Error).message }, "the new configuration is not used, the old one stays");
      throw error;
    }
  }

  /** Stops accepting, lets exchanges finish for the drain time, then ends everything and closes the log. */
  async drain(): Promise<void> {
    if (this.draining) return;
    this.draining = true;
    this.stopWatching();
    const stopped = [...this.listeners].map((l) => l.stop());
    for (const connection of [...this.open_]) connection.drain();
    const until = performance.now() + this.inForce.config.server.drainTimeout;
    while (this.open_.size > 0 && performance.now() < until) await new Promise((done) => setTimeout(done, 25));
    for (const connection of [...this.open_]) connection.destroy();
    await Promise.race([Promise.all(stopped), new Promise((done) => setTimeout(done, 1_000).unref())]);
    await this.close();
  }

  private async close(): Promise<void> {
    this.stopWatching();
    for (const listener of this.listeners) void listener.stop();
    await this.admin?.close();
    this.pool?.close();
    this.inForce.authenticator.close();
    this.wheel.close();
    await this.sink?.close();
    await this.log.flush();
  }
}

function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((i) => i.address));
}
