// The whole engine on a loopback port, put together as the house does it, with its records in memory and metrics of its own.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PrometheusMetrics } from "../../src/edge/admin/metrics.ts";
import type { KeyFetchPort } from "../../src/edge/auth/key-set.ts";
import { contentDecoders } from "../../src/edge/content/decoders.ts";
import { AddressGuard } from "../../src/edge/net/address-guard.ts";
import { Resolver } from "../../src/edge/net/resolver.ts";
import { type Listener, openListener } from "../../src/edge/proxy/listener.ts";
import { OriginPool } from "../../src/edge/proxy/origin-pool.ts";
import { openRoute, type RouteServices } from "../../src/edge/proxy/origin-route.ts";
import type { ProxyServices } from "../../src/edge/proxy/services.ts";
import { TimerWheel } from "../../src/edge/proxy/timers.ts";
import { joinUpgraded } from "../../src/edge/proxy/upgrade.ts";
import { type Ca, openCa } from "../../src/edge/tls/ca.ts";
import { ClientHelloReader } from "../../src/edge/tls/client-hello.ts";
import { LeafCache } from "../../src/edge/tls/leaf-cache.ts";
import { classifyClientTlsError, clientTlsHint } from "../../src/edge/tls/tls-errors.ts";
import { Assembly } from "../../src/edge/websocket/assembly.ts";
import { joinWebSocket } from "../../src/edge/websocket/join.ts";
import { Pipeline } from "../../src/exchange/pipeline.ts";
import { refuseExchange } from "../../src/exchange/refusal.ts";
import type { Origins } from "../../src/exchange/sides.ts";
import type { Turns } from "../../src/exchange/turns.ts";
import { type InForce, loadInForce } from "../../src/roles/in-force.ts";
import { LoopTurns } from "../../src/roles/turns.ts";
import { KnownSecrets } from "../../src/shared/known-secrets.ts";
import { theLine } from "../../src/stages/index.ts";
import { CollectingSink } from "./collecting-sink.ts";

export interface Engine {
  readonly port: number;
  readonly sink: CollectingSink;
  /** The CA that intercepts, PEM. */
  readonly ca: string;
  /** What the log says at warning level and above. */
  readonly complaints: readonly string[];
  readonly wheel: TimerWheel;
  close(): Promise<void>;
}

export interface EngineOptions {
  /** The policy file's text. */
  readonly policy: string;
  /** Name servers; none: names are not resolved (their questions go nowhere). */
  readonly servers?: readonly string[];
  /** Who shares the event loop among those who search content. */
  readonly turns?: Turns;
  /** Something else than our own engine speaks HTTP on both sides: the reference implementation. */
  readonly instead?: HttpSides;
}

export interface HttpSides {
  origins(route: RouteServices): Origins;
  listen(services: ProxyServices): Promise<Listener>;
}

const CLOCK = { now: () => Date.now(), tick: () => performance.now() };

const NO_KEYS: KeyFetchPort = {
  lookupFor: () => (_host, _options, callback) => callback(new Error("the engine of the tests fetches no keys"), "", 4),
  refusal: () => "the engine of the tests fetches no keys",
  roots: null,
};

/** Starts an engine. Everything of it lives in a temporary folder until `close`. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const folder = await mkdtemp(join(tmpdir(), "engine-"));
  const file = join(folder, "policy.yaml");
  await writeFile(file, options.policy);
  const flags = { data: join(folder, "data"), ca: join(folder, "certs"), listen: "127.0.0.1:0" };
  const inForce = await loadInForce({ files: [file], flags, env: {} }, () => NO_KEYS);
  const ca = await openCa({ dir: flags.ca, now: Date.now });
  const sink = new CollectingSink();
  const complaints: string[] = [];
  const wheel = new TimerWheel((error) => complaints.push(`a deadline failed: ${String(error)}`));
  const services = servicesOf(inForce, ca, sink, complaints, wheel, options);
  const listener = await (options.instead?.listen(services) ??
    openListener(services, { host: "127.0.0.1", port: 0, tls: null }));
  return {
    port: listener.address.port,
    sink,
    ca: ca.certificatePem,
    complaints,
    wheel,
    close: async () => {
      const stopped = listener.stop();
      for (const connection of services.open) connection.destroy();
      await stopped;
      await rm(folder, { recursive: true });
    },
  };
}

function servicesOf(
  inForce: InForce,
  ca: Ca,
  sink: CollectingSink,
  complaints: string[],
  wheel: TimerWheel,
  options: EngineOptions,
): ProxyServices {
  const { config } = inForce;
  const metrics = new PrometheusMetrics({ version: "test", process: false });
  const complain = (event: object, message: string): void => {
    complaints.push(`${message} ${JSON.stringify(event)}`);
  };
  const guard = new AddressGuard({
    resolver: new Resolver({
      servers: options.servers ?? ["127.0.0.1:9"],
      hostsFile: "/nonexistent",
      resolvConf: "/nonexistent",
    }),
    network: () => inForce.network,
    ownListeners: () => [],
    localAddresses: () => [],
  });
  const route: RouteServices = {
    guard,
    originTls: () => inForce.originTls,
    tick: CLOCK.tick,
    connectTimeout: config.server.connectTimeout,
    wheel,
    onHandshake: () => {},
  };
  const leaves = new LeafCache({ ca, now: Date.now });
  const pseudonym = "sallyport-test";
  const secrets = new KnownSecrets(config.secretValues);
  const turns = options.turns ?? new LoopTurns();
  const pipeline = new Pipeline(
    theLine({
      audit: { sink, secrets },
      authenticator: () => inForce.authenticator,
      pseudonym,
      content: { decoders: contentDecoders, turns },
    }),
  );
  const shared = { wheel, sink, clock: CLOCK, open: new Set<{ drain(): void; destroy(): void }>() };
  const upgrades = { ...shared, secrets, turns };
  return {
    ...shared,
    pipeline,
    origins: options.instead?.origins(route) ?? new OriginPool({ ...route, pseudonym, metrics }),
    log: { debug: () => {}, info: () => {}, warn: complain, error: complain },
    coarse: wheel,
    metrics,
    pseudonym,
    settings: config.server,
    tunnels: { open: (request) => openRoute(route, request), helloReader: () => new ClientHelloReader() },
    refusal: (x, error) => refuseExchange(x, error, inForce.refusal),
    upgraded: (x, client, origin) => {
      if (x.webSocket === null) joinUpgraded(upgrades, x, client, origin);
      else joinWebSocket({ ...upgrades, assembly: new Assembly() }, x, x.webSocket, client, origin);
    },
    done: () => {},
    policy: () => config.policy,
    authenticator: () => inForce.authenticator,
    refusalOptions: () => inForce.refusal,
    checkLiteral: (host, port) => guard.checkLiteral(host, port),
    leafFor: (host) => leaves.contextFor(host),
    classifyClientTls: (error, host) => ({ reason: classifyClientTlsError(error), detail: clientTlsHint(error, host) }),
    http2: null,
    draining: () => false,
  };
}
