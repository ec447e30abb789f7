// What a scrape shows, that labels stay bounded, and that the hot path stays cheap.
import { describe, expect, test } from "vitest";
import { PrometheusMetrics } from "../../../src/edge/admin/metrics.ts";
import { type RequestFigures, statusClassOf } from "../../../src/shared/metrics.ts";
import { cpuTime } from "../../support/cpu.ts";

const figures: RequestFigures = {
  client: "github-mcp",
  statusClass: "2xx",
  rule: "api",
  decision: "allow",
  proxySeconds: 0.0004,
  totalSeconds: 0.2,
  bytesSent: 10,
  bytesReceived: 200,
};

const scrape = async (metrics: PrometheusMetrics): Promise<string[]> => (await metrics.scrape()).text.split("\n");
const quiet = (more: object = {}) => new PrometheusMetrics({ version: "1.2.3", process: false, ...more });

describe("requests", () => {
  test("are counted by client, status class, rule and decision", async () => {
    const metrics = quiet();
    metrics.requestDone(figures);
    metrics.requestDone(figures);
    metrics.requestDone({ ...figures, client: null, rule: null, statusClass: "4xx", decision: "deny", reason: "loop" });
    const lines = await scrape(metrics);
    expect(lines).toContain('sallyport_requests_total{client="github-mcp",status="2xx",rule="api",decision="allow"} 2');
    expect(lines).toContain('sallyport_requests_total{client="-",status="4xx",rule="-",decision="deny"} 1');
    expect(lines).toContain('sallyport_content_bytes_total{client="github-mcp",direction="sent"} 20');
    expect(lines).toContain('sallyport_content_bytes_total{client="github-mcp",direction="received"} 400');
    expect(lines).toContain('sallyport_failures_total{reason="loop"} 1');
  });

  test("a second scrape shows the same totals, not twice as much", async () => {
    const metrics = quiet();
    metrics.requestDone(figures);
    await metrics.scrape();
    expect(await scrape(metrics)).toContain('sallyport_content_bytes_total{client="github-mcp",direction="sent"} 10');
  });

  test("durations fall into cumulative buckets with sum and count", async () => {
    const metrics = quiet();
    for (const totalSeconds of [0.0001, 0.2, 3, 1000]) metrics.requestDone({ ...figures, totalSeconds });
    const lines = await scrape(metrics);
    const bucket = (le: string) => `sallyport_request_seconds_bucket{decision="allow",le="${le}"}`;
    expect(lines).toContain(`${bucket("0.0001")} 1`);
    expect(lines).toContain(`${bucket("0.25")} 2`);
    expect(lines).toContain(`${bucket("60")} 3`);
    expect(lines).toContain(`${bucket("+Inf")} 4`);
    expect(lines).toContain('sallyport_request_seconds_count{decision="allow"} 4');
    expect(lines.find((line) => line.startsWith("sallyport_request_seconds_sum"))).toMatch(/ 1003\.2001$/);
    expect(lines).toContain("# TYPE sallyport_request_seconds histogram");
  });

  test("label values are bounded: clients and rules after the first N share `other`", async () => {
    const metrics = quiet({ maxNames: 3 });
    for (let i = 0; i < 50; i++) metrics.requestDone({ ...figures, client: `c${i}`, rule: `r${i}` });
    const series = (await scrape(metrics)).filter((line) => line.startsWith("sallyport_requests_total{"));
    expect(series).toHaveLength(4);
    expect(series).toContain('sallyport_requests_total{client="other",status="2xx",rule="other",decision="allow"} 47');
  });

  test("so are their combinations, and nothing is lost from the sum", async () => {
    const metrics = quiet();
    for (let c = 0; c < 120; c++) {
      for (let r = 0; r < 120; r++) metrics.requestDone({ ...figures, client: `c${c}`, rule: `r${r}` });
    }
    const series = (await scrape(metrics)).filter((line) => line.startsWith("sallyport_requests_total{"));
    expect(series.length).toBeLessThan(5_010);
    expect(series.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0)).toBe(14_400);
  });

  test("names with quotes, line feeds and backslashes cannot break the text format", async () => {
    const metrics = quiet();
    metrics.requestDone({ ...figures, client: 'a"b\\c\nd' });
    const line = (await scrape(metrics)).find((text) => text.startsWith("sallyport_requests_total{"));
    expect(line).toContain('client="a\\"b\\\\c\\nd"');
  });

  test("cost microseconds at most", () => {
    const metrics = quiet();
    const clients = Array.from({ length: 20 }, (_, i) => ({ ...figures, client: `c${i}` }));
    for (let i = 0; i < 20_000; i++) metrics.requestDone(clients[i % 20] as RequestFigures);
    let best = Infinity;
    for (let round = 0; round < 5; round++) {
      const spent = cpuTime(() => {
        for (let i = 0; i < 20_000; i++) metrics.requestDone(clients[i % 20] as RequestFigures);
      });
      best = Math.min(best, spent / 20);
    }
    // Measured 0.2 to 0.4 us; the bound leaves room for a slow machine.
    expect(best).toBeLessThan(5);
  });
});

describe("everything else", () => {
  test("connections, handshakes, leaves, tunnels, policy and audit", async () => {
    const audit = { lagRecords: 7, dropped: 2, unavailable: true };
    const metrics = quiet({ audit: () => audit });
    metrics.connectionOpened("client");
    metrics.connectionOpened("client");
    metrics.connectionClosed("client");
    metrics.tlsHandshake("origin", "resumed");
    metrics.leafMinted();
    metrics.clientTlsRejected();
    metrics.tunnelOpened();
    metrics.tunnelClosed(5, 6);
    metrics.policyLoaded("abc", 1000);
    metrics.policyLoaded("def", 2000);
    metrics.policyReloadFailed();
    const lines = await scrape(metrics);
    for (const line of [
      'sallyport_connections{side="client"} 1',
      'sallyport_connections_total{side="client"} 2',
      'sallyport_tls_handshakes_total{side="origin",result="resumed"} 1',
      "sallyport_leaves_minted_total 1",
      "sallyport_client_tls_rejected_total 1",
      "sallyport_tunnels 0",
      "sallyport_tunnels_total 1",
      'sallyport_tunnel_bytes_total{direction="received"} 6',
      'sallyport_info{version="1.2.3"} 1',
      'sallyport_policy_info{version="def"} 1',
      "sallyport_policy_loaded_seconds 2000",
      "sallyport_policy_reload_failures_total 1",
      "sallyport_audit_lag_records 7",
      "sallyport_audit_dropped_total 2",
      "sallyport_audit_unavailable 1",
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.join("\n")).not.toContain('version="abc"');
    audit.unavailable = false;
    expect(await scrape(metrics)).toContain("sallyport_audit_unavailable 0");
  });

  test("the process figures are there unless they are switched off", async () => {
    expect((await new PrometheusMetrics({ version: "1" }).scrape()).text).toContain("process_cpu_seconds_total");
    expect((await quiet().scrape()).text).not.toContain("process_cpu_seconds_total");
  });

  test.each([
    [null, "none"],
    [101, "1xx"],
    [200, "2xx"],
    [304, "3xx"],
    [499, "4xx"],
    [503, "5xx"],
  ] as const)("status %s is class %s", (status, expected) => {
    expect(statusClassOf(status)).toBe(expected);
  });
});
