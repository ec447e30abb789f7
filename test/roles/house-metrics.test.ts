// What /metrics of a running house says: requests, refusals before they became one, latency, bytes each way.
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, startRawOrigin } from "../support/origin.ts";
import { PATIENCE } from "../support/patience.ts";
import { connectTo } from "../support/raw-client.ts";
import { echo, startWsOrigin, wsClient } from "../support/web-socket.ts";

let house: TestHouse;

beforeAll(async () => {
  house = await startTestHouse({
    policy: `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: closed, deny: [closed.test] }
`,
  });
});
afterAll(() => house.close());

/** The lines of a scrape, once they hold `line`. */
async function scrapeWith(line: string): Promise<string[]> {
  for (const end = Date.now() + PATIENCE; ; await wait(20)) {
    const lines = (await (await fetch(`http://127.0.0.1:${house.adminPort}/metrics`)).text()).split("\n");
    if (lines.includes(line)) return lines;
    if (Date.now() > end) throw new Error(`no line ${line} in\n${lines.filter((l) => /^sally/.test(l)).join("\n")}`);
  }
}

async function statusOf(bytes: string): Promise<number> {
  const client = await connectTo(house.port);
  const { status } = await client.send(bytes).response();
  client.destroy();
  return status;
}

test("an answered request: counted, and with both latencies", async () => {
  const origin = await startRawOrigin(origins.text("hello"));
  const authority = `127.0.0.1:${origin.port}`;
  expect(await statusOf(`GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)).toBe(200);
  const lines = await scrapeWith('sallyport_requests_total{client="-",status="2xx",rule="-",decision="allow"} 1');
  expect(lines).toContain('sallyport_request_seconds_count{decision="allow"} 1');
  expect(lines).toContain('sallyport_proxy_seconds_count{decision="allow"} 1');
  await origin.close();
});

test("a refused CONNECT is a refused request", async () => {
  expect(await statusOf("CONNECT closed.test:443 HTTP/1.1\r\nHost: closed.test:443\r\n\r\n")).toBe(403);
  const lines = await scrapeWith('sallyport_requests_total{client="-",status="4xx",rule="closed",decision="deny"} 1');
  expect(lines).toContain('sallyport_failures_total{reason="not-allowed"} 1');
});

test("so is what never became a valid request", async () => {
  expect(await statusOf("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")).toBe(400);
  await scrapeWith('sallyport_requests_total{client="-",status="4xx",rule="-",decision="deny"} 1');
});

test("a CONNECT that was opened counts through the requests inside it, and a WebSocket's bytes are counted", async () => {
  const origin = await startWsOrigin(echo, {});
  const client = await wsClient("ws inside CONNECT", house, origin.port);
  client.socket.send("x".repeat(1000));
  await client.until(1);
  client.socket.close(1000);
  await client.closed;
  const lines = await scrapeWith('sallyport_content_bytes_total{client="-",direction="sent"} 1000');
  const requests = lines.filter((line) => /^sallyport_requests_total\{.*decision="allow"/.test(line));
  expect(requests.map((line) => line.replace(/^.*(status="\dxx").* /, "$1 "))).toEqual([
    'status="2xx" 1',
    'status="1xx" 1',
  ]);
  await origin.close();
});
