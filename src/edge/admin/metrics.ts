// The metrics port with Prometheus behind it. The hot path only adds to plain numbers; prom-client sees them at a scrape.
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { AuditRecord } from "../../audit/record.ts";
import {
  type ConnectionSide,
  type HandshakeResult,
  type Metrics,
  type RequestFigures,
  statusClassOf,
} from "../../shared/metrics.ts";
import { LabelNames } from "./label-names.ts";
import { LatencyHistogram } from "./latency-histogram.ts";

/** What the audit log says about itself at a scrape. */
export interface AuditFigures {
  /** Records that are in the journal and not yet in the database. */
  readonly lagRecords: number;
  /** Records dropped because the log is not required and could not be written. */
  readonly dropped: number;
  readonly unavailable: boolean;
}

export interface MetricsOptions {
  readonly version: string;
  /** Asked at each scrape. */
  readonly audit?: () => AuditFigures;
  /** CPU, memory and event-loop figures of the process; on unless said. */
  readonly process?: boolean;
  /** Client names and rule ids that get a label of their own; 200 unless said. */
  readonly maxNames?: number;
}

/** Label sets of `sallyport_requests_total`; what comes after them is counted under `other`. */
const MAX_REQUEST_SERIES = 5_000;

interface RequestTally {
  readonly labels: { client: string; status: string; rule: string; decision: string };
  count: number;
}
interface ByteTally {
  sent: number;
  received: number;
}

export class PrometheusMetrics implements Metrics {
  readonly registry = new Registry();
  private readonly clients: LabelNames;
  private readonly rules: LabelNames;
  private readonly requests = new Map<string, RequestTally>();
  private lastTally: RequestTally | null = null;
  private readonly bytes = new Map<string, ByteTally>();
  private readonly reasons = new Map<string, number>();
  private readonly handshakes = new Map<string, number>();
  private readonly open = { client: 0, origin: 0 };
  private readonly opened = { client: 0, origin: 0 };
  private readonly proxyTime = new LatencyHistogram(
    "sallyport_proxy_seconds",
    "Time that the proxy itself took for an exchange",
  );
  private readonly totalTime = new LatencyHistogram(
    "sallyport_request_seconds",
    "Time from the request head to the last byte of the response",
  );
  private leaves = 0;
  private tlsRejected = 0;
  private tunnels = 0;
  private tunnelsOpen = 0;
  private tunnelBytes: ByteTally = { sent: 0, received: 0 };
  private reloadFailures = 0;
  private policy: { version: string; at: number } | null = null;
  /** The figures of the process are wanted and not yet collected. */
  private process: boolean;

  constructor(options: MetricsOptions) {
    const maxNames = options.maxNames ?? 200;
    this.clients = new LabelNames(maxNames);
    this.rules = new LabelNames(maxNames);
    this.exposeRequests();
    this.exposeConnections();
    this.exposePolicy(options.version);
    if (options.audit) this.exposeAudit(options.audit);
    this.process = options.process !== false;
  }

  requestDone(figures: RequestFigures): void {
    const { client, statusClass, rule, decision, reason } = figures;
    const clientLabel = this.clients.labelOf(client);
    const ruleLabel = this.rules.labelOf(rule);
    this.countRequest(clientLabel, statusClass, ruleLabel, decision);
    this.countBytes(clientLabel, figures.bytesSent, figures.bytesReceived);
    if (reason) add(this.reasons, reason);
    this.proxyTime.record(decision, figures.proxySeconds);
    this.totalTime.record(decision, figures.totalSeconds);
  }

  /**
   * What ended and was no exchange. A CONNECT or a connection that was refused or failed counts as a request, so that most refusals
   * of HTTPS are among the others; one that was opened does not, since the requests inside it do. Of what followed an upgrade, which
   * was a request itself, only the bytes are new.
   */
  recorded(record: AuditRecord): void {
    const { kind, client, status, rule, decision, reason, sent, received } = record;
    if (reason !== null) add(this.reasons, reason);
    const clientLabel = this.clients.labelOf(client);
    if (kind === "upgrade") this.countBytes(clientLabel, sent.bytes, received.bytes);
    else if (status === null || status >= 400)
      this.countRequest(clientLabel, statusClassOf(status), this.rules.labelOf(rule), decision);
  }

  connectionOpened(side: ConnectionSide): void {
    this.open[side]++;
    this.opened[side]++;
  }

  connectionClosed(side: ConnectionSide): void {
    this.open[side]--;
  }

  tlsHandshake(side: ConnectionSide, result: HandshakeResult): void {
    add(this.handshakes, `${side} ${result}`);
  }

  leafMinted(): void {
    this.leaves++;
  }

  clientTlsRejected(): void {
    this.tlsRejected++;
  }

  tunnelOpened(): void {
    this.tunnels++;
    this.tunnelsOpen++;
  }

  tunnelClosed(bytesSent: number, bytesReceived: number): void {
    this.tunnelsOpen--;
    this.tunnelBytes.sent += bytesSent;
    this.tunnelBytes.received += bytesReceived;
  }

  policyLoaded(version: string, atSeconds: number): void {
    this.policy = { version, at: atSeconds };
  }

  policyReloadFailed(): void {
    this.reloadFailures++;
  }

  /** The text of a scrape and its media type. */
  async scrape(): Promise<{ contentType: string; text: string }> {
    if (this.process) {
      this.process = false;
      // From the first scrape on, since they watch each collection of garbage, which costs requests where nobody asks.
      collectDefaultMetrics({ register: this.registry });
    }
    const text = await this.registry.metrics();
    return { contentType: this.registry.contentType, text: text + this.proxyTime.expose() + this.totalTime.expose() };
  }

  private countRequest(client: string, status: string, rule: string, decision: string): void {
    const l = this.lastTally?.labels;
    // Requests come in runs: a key is made only where one ends.
    if (l?.client === client && l.rule === rule && l.status === status && l.decision === decision) {
      (this.lastTally as RequestTally).count++;
      return;
    }
    const key = `${client}\n${rule}\n${status}${decision}`;
    const known = this.requests.get(key);
    if (known !== undefined) {
      known.count++;
      this.lastTally = known;
    } else if (this.requests.size < MAX_REQUEST_SERIES || client === "other") {
      this.requests.set(key, { labels: { client, status, rule, decision }, count: 1 });
    } else {
      this.countRequest("other", status, "other", decision);
    }
  }

  private countBytes(client: string, sent: number, received: number): void {
    let bytes = this.bytes.get(client);
    if (bytes === undefined) {
      bytes = { sent: 0, received: 0 };
      this.bytes.set(client, bytes);
    }
    bytes.sent += sent;
    bytes.received += received;
  }

  private exposeRequests(): void {
    this.counter(
      "sallyport_requests_total",
      "Exchanges that are over, and what was refused before it became one",
      ["client", "status", "rule", "decision"],
      (c) => {
        for (const { labels, count } of this.requests.values()) c.inc(labels, count);
      },
    );
    this.counter("sallyport_content_bytes_total", "Content bytes from and to clients", ["client", "direction"], (c) => {
      for (const [client, { sent, received }] of this.bytes) {
        c.inc({ client, direction: "sent" }, sent);
        c.inc({ client, direction: "received" }, received);
      }
    });
    this.counter("sallyport_failures_total", "What was refused or failed, by reason", ["reason"], (c) => {
      for (const [reason, count] of this.reasons) c.inc({ reason }, count);
    });
  }

  private exposeConnections(): void {
    this.gauge("sallyport_connections", "Connections that are open", ["side"], (g) => {
      for (const side of ["client", "origin"] as const) g.set({ side }, this.open[side]);
    });
    this.counter("sallyport_connections_total", "Connections that were opened", ["side"], (c) => {
      for (const side of ["client", "origin"] as const) c.inc({ side }, this.opened[side]);
    });
    this.counter("sallyport_tls_handshakes_total", "TLS handshakes by side and result", ["side", "result"], (c) => {
      for (const [key, count] of this.handshakes) {
        const [side, result] = key.split(" ") as [string, string];
        c.inc({ side, result }, count);
      }
    });
    this.counter("sallyport_leaves_minted_total", "Leaf certificates that were made", [], (c) => c.inc(this.leaves));
    this.counter("sallyport_client_tls_rejected_total", "Clients that refused our certificate", [], (c) =>
      c.inc(this.tlsRejected),
    );
    this.gauge("sallyport_tunnels", "Blind tunnels that are open", [], (g) => g.set(this.tunnelsOpen));
    this.counter("sallyport_tunnels_total", "Blind tunnels that were opened", [], (c) => c.inc(this.tunnels));
    this.counter("sallyport_tunnel_bytes_total", "Bytes of closed blind tunnels", ["direction"], (c) => {
      c.inc({ direction: "sent" }, this.tunnelBytes.sent);
      c.inc({ direction: "received" }, this.tunnelBytes.received);
    });
  }

  private exposePolicy(version: string): void {
    this.gauge("sallyport_info", "Version of the proxy", ["version"], (g) => g.set({ version }, 1));
    this.gauge("sallyport_policy_info", "Version of the policy in force", ["version"], (g) => {
      if (this.policy) g.set({ version: this.policy.version }, 1);
    });
    this.gauge("sallyport_policy_loaded_seconds", "When the policy in force was loaded, since 1970", [], (g) => {
      if (this.policy) g.set(this.policy.at);
    });
    this.counter("sallyport_policy_reload_failures_total", "Policies that were not taken", [], (c) =>
      c.inc(this.reloadFailures),
    );
  }

  private exposeAudit(read: () => AuditFigures): void {
    this.gauge("sallyport_audit_lag_records", "Records on their way to the audit database", [], (g) =>
      g.set(read().lagRecords),
    );
    this.gauge("sallyport_audit_unavailable", "1 while the audit log cannot be written", [], (g) =>
      g.set(read().unavailable ? 1 : 0),
    );
    this.counter("sallyport_audit_dropped_total", "Records lost because the log is not required", [], (c) =>
      c.inc(read().dropped),
    );
  }

  /** A counter that is filled from our own numbers at each scrape. */
  private counter<L extends string>(name: string, help: string, labelNames: L[], fill: (c: Counter<L>) => void): void {
    const counter: Counter<L> = new Counter<L>({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => {
        counter.reset();
        fill(counter);
      },
    });
  }

  private gauge<L extends string>(name: string, help: string, labelNames: L[], fill: (g: Gauge<L>) => void): void {
    const gauge: Gauge<L> = new Gauge<L>({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        fill(gauge);
      },
    });
  }
}

const add = (map: Map<string, number>, key: string): void => {
  map.set(key, (map.get(key) ?? 0) + 1);
};
