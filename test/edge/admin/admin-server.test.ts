// The admin port over real sockets.
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type AdminOptions, type AdminServer, startAdminServer } from "../../../src/edge/admin/admin-server.ts";
import { PrometheusMetrics } from "../../../src/edge/admin/metrics.ts";
import type { ReadyReport } from "../../../src/edge/admin/readiness.ts";
import { PATIENCE } from "../../support/patience.ts";

const log = { debug() {}, info() {}, warn() {}, error() {} };
const metrics = new PrometheusMetrics({ version: "9.9.9", process: false });
const open: AdminServer[] = [];

async function start(more: Partial<AdminOptions> = {}): Promise<AdminServer> {
  const ready = (): ReadyReport => ({ ready: true, policy: "abc", problems: [] });
  const scrape = () => metrics.scrape();
  const server = await startAdminServer({ host: "127.0.0.1", port: 0, ready, scrape, log, ...more });
  open.push(server);
  return server;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

/** Sends raw bytes and gives all that comes back until the end. */
function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let got = "";
    socket.setTimeout(PATIENCE, () => socket.destroy(new Error("no end")));
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(got));
    socket.end(text);
  });
}

const ask = (port: number, head: string): Promise<string> => raw(port, `${head}\r\nConnection: close\r\n\r\n`);

describe("what it answers", () => {
  test("healthz: alive", async () => {
    const { address } = await start();
    const response = await fetch(`${address}/healthz`);
    expect([response.status, await response.text()]).toEqual([200, "ok\n"]);
    expect(response.headers.get("cache-control")).toBe("no-store");
  });

  test("readyz: 200 with the report, 503 when something blocks", async () => {
    const problems = [{ name: "draining", blocks: true, detail: "d" }] as const;
    let report: ReadyReport = { ready: true, policy: "abc", problems: [] };
    const { address } = await start({ ready: () => report });
    const good = await fetch(`${address}/readyz`);
    expect([good.status, await good.json()]).toEqual([200, report]);
    report = { ready: false, policy: "abc", problems };
    const bad = await fetch(`${address}/readyz?verbose`);
    expect([bad.status, await bad.json()]).toEqual([503, report]);
  });

  test("metrics: the Prometheus text", async () => {
    const { address } = await start();
    const response = await fetch(`${address}/metrics`);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(await response.text()).toContain('sallyport_info{version="9.9.9"} 1');
  });

  test("HEAD has the fields and no content", async () => {
    const { port } = await start();
    const answer = await ask(port, "HEAD /healthz HTTP/1.1\r\nHost: localhost");
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.toLowerCase()).toContain("content-length: 3");
    expect(answer.endsWith("\r\n\r\n")).toBe(true);
  });

  test("an error inside says nothing of itself", async () => {
    const { address } = await start({ scrape: () => Promise.reject(new Error("secret detail")) });
    const response = await fetch(`${address}/metrics`);
    expect([response.status, await response.text()]).toEqual([500, "internal error\n"]);
  });
});

describe("what it refuses", () => {
  test.each(["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])("%s is 405", async (method) => {
    const { port } = await start();
    expect(await ask(port, `${method} /readyz HTTP/1.1\r\nHost: localhost`)).toMatch(/^HTTP\/1\.1 405 /);
  });

  test("another path is 404", async () => {
    const { port } = await start();
    expect(await ask(port, "GET /../etc/passwd HTTP/1.1\r\nHost: localhost")).toMatch(/^HTTP\/1\.1 404 /);
  });

  test.each([
    ["127.0.0.1", 200],
    ["127.0.0.1:9090", 200],
    ["[::1]:9090", 200],
    ["localhost:1", 200],
    ["sallyport:9090", 200],
    ["proxy.corp.example", 200],
    ["PROXY.CORP.EXAMPLE:9090", 200],
    ["rebound.attacker.example", 421],
    ["127.0.0.1.attacker.example", 421],
    ["localhost.attacker.example:9090", 421],
    ["user@localhost", 421],
    ["localhost, localhost", 421],
    ["", 421],
  ])("Host %j is answered %i (DNS rebinding)", async (host, status) => {
    const { port } = await start({ names: ["proxy.corp.example"] });
    expect(await ask(port, `GET /metrics HTTP/1.1\r\nHost: ${host}`)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test("a head over 8 KiB is 431", async () => {
    const { port } = await start();
    expect(await ask(port, `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(9_000)}`)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("connections over the cap are dropped and the others are served", async () => {
    const { port, address } = await start();
    const idle = Array.from({ length: 80 }, () => connect(port, "127.0.0.1").on("error", () => {}));
    const dropped = new Promise<void>((resolve) => {
      for (const socket of idle) socket.once("close", () => resolve());
    });
    await dropped;
    for (const socket of idle) socket.destroy();
    await expect
      .poll(() =>
        fetch(`${address}/healthz`).then(
          (r) => r.status,
          () => 0,
        ),
      )
      .toBe(200);
  });

  test("a port that is taken is an error at start", async () => {
    const { port } = await start();
    await expect(start({ port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
