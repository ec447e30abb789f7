// Chromium through the proxy: pages with everything that pages load, over HTTP/2, HTTP/1.1 and clear HTTP, and one record for
// each thing that was loaded. The pages say themselves what they saw.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { PATIENCE } from "../support/patience.ts";
import { BIG, BROTLI, type BrowserSite, HELLO, openBrowserSite, type PageSeen, RESOURCES } from "./browser-site.ts";
import { type BuiltHouse, notHere, startHouseFor } from "./built-house.ts";
import { browse, findChromium, flagsFor, hasCertutil, homeThatTrusts } from "./chromium.ts";

const BROWSER = findChromium();
const MISSING = BROWSER === null ? "chromium" : hasCertutil() ? null : "certutil (libnss3-tools)";
const sha256 = (content: string | Buffer): string => createHash("sha256").update(content).digest("hex");
const ORIGINS = ["https://new.test", "https://old.test", "http://plain.test"] as const;
const PAGES = ORIGINS.map((origin) => `${origin}/`);

/** What a page sees that nobody stands in the way of. */
const EVERYWHERE: Readonly<Record<string, unknown>> = {
  module: "imported module",
  classic: "classic script",
  style: "rgb(1, 2, 3)",
  picture: "1x1",
  refusedPicture: "0x0",
  refusedHost: "TypeError: Failed to fetch",
  refusedPath: "403 not-allowed",
  gzip: `200 ${HELLO}`,
  post: "200 sent by the page",
  head: `${HELLO.length}`,
  range: "206 3456",
  redirect: "/hello",
  missing: "404 nothing here\n",
  cookie: "200 set\n200 a=1",
  cached: `200 ${HELLO}200 ${HELLO}`,
  form: "200 true",
  frame: "frame",
  events: "1,2,3",
  webSocket: "text äöü true 3001 bye true",
  worker: `worker: ${HELLO}`,
  broken: expect.stringMatching(/^TypeError: /),
  alternative: "null",
};
const SECURE = { ...EVERYWHERE, brotli: `200 ${HELLO}`, big: sha256(BIG), upload: "true", crossOrigin: "200 own: 1" };
const STREAMED = { ...SECURE, streamed: "200 one two three" };

/** What goes on record of each page: method and path, and what is known of the record. */
function expectedRecords(origin: string): [what: string, times: number, object][] {
  const whole = (content: string | Buffer) => ({
    decision: "allow",
    uninspected: false,
    received: { bytes: Buffer.byteLength(content), sha256: sha256(content), complete: true },
  });
  const secure = origin.startsWith("https");
  const elsewhere = ["/secret", "/hello", "/brotli", "/big"];
  const simple = Object.keys(RESOURCES).filter((path) => !elsewhere.includes(path) && path !== "/head");
  const rows: [string, number, object][] = simple.map((path) => [
    `GET ${path}`,
    1,
    { status: 200, ...whole(RESOURCES[path]?.content ?? "") },
  ]);
  const posted = { bytes: 16, sha256: sha256("sent by the page"), complete: true };
  rows.push(
    ["GET /hello", 2, { status: 200, ...whole(HELLO) }],
    ["HEAD /head", 1, { status: 200, ...whole("") }],
    ["GET /secret", 1, { status: 403, decision: "deny", rule: "secret", reason: "not-allowed" }],
    ["POST /echo/post", 1, { status: 200, ...whole("sent by the page"), sent: posted }],
    ["GET /range", 1, { status: 206, ...whole("3456") }],
    ["GET /redirect", 1, { status: 302, ...whole("") }],
    ["GET /missing", 1, { status: 404, ...whole("nothing here\n") }],
    ["GET /cookie/get", 1, { status: 200, ...whole("a=1") }],
    ["POST /count", 1, { status: 200, ...whole("true") }],
    ["GET /events", 1, { status: 200, ...whole("data: 1\n\ndata: 2\n\ndata: 3\n\n") }],
    ["POST /ack/3", 1, { status: 204, ...whole("") }],
    ["POST /report", 1, { status: 200 }],
    ["GET /ws", 1, { status: 101, decision: "allow", clientProtocol: "1.1" }],
    ["GET /broken", 1, { status: 200, received: { bytes: 13, sha256: sha256("the beginning"), complete: false } }],
  );
  if (!secure) return rows;
  rows.push(["GET /brotli", 1, { status: 200, ...whole(BROTLI) }], ["GET /big", 1, { status: 200, ...whole(BIG) }]);
  return [...rows, ["PUT /echo/upload", 1, { status: 200, sent: { bytes: 3_000_000, complete: true } }]];
}

const startBrowserHouse = (withTls: boolean): Promise<BuiltHouse<BrowserSite>> =>
  startHouseFor(async (ca, folder) => {
    const site = await openBrowserSite(ca);
    if (!withTls) return site;
    const pair = ca.leaf("127.0.0.1", { commonName: "the proxy" });
    writeFileSync(join(folder, "proxy.crt"), pair.cert);
    writeFileSync(join(folder, "proxy.key"), pair.key, { mode: 0o600 });
    return Object.assign(site, {
      policy: `server: { tls: { cert: proxy.crt, key: proxy.key, http2: true } }\n${site.policy}`,
    });
  });

/** The records of one origin and client, once `done` holds for them. */
async function recordsOf(
  house: BuiltHouse<BrowserSite>,
  done: (all: AuditRecord[]) => boolean,
): Promise<AuditRecord[]> {
  for (const end = Date.now() + PATIENCE; ; await wait(50)) {
    const all = house.records();
    if (done(all) || Date.now() > end) return all;
  }
}

function checkSeen(seen: readonly PageSeen[], http2: boolean): void {
  // Browsers send a stream as it comes over HTTP/2 only; the origin may speak HTTP/1.1.
  const secure = http2 ? STREAMED : SECURE;
  expect(seen).toEqual([
    { origin: ORIGINS[0], seen: secure },
    { origin: ORIGINS[1], seen: secure },
    { origin: ORIGINS[2], seen: EVERYWHERE },
  ]);
}

function checkRecords(all: readonly AuditRecord[], origin: string, version: string): void {
  const { protocol, hostname } = new URL(origin);
  const of = all.filter((r) => r.host === hostname && `${r.scheme}:` === protocol && r.kind === "exchange");
  for (const [what, times, expected] of expectedRecords(origin)) {
    const found = of.filter((r) => `${r.method} ${r.path}` === what);
    expect(
      found.map((r) => r.status),
      `${origin}: ${what}`,
    ).toHaveLength(times);
    for (const record of found) expect(record, `${origin}: ${what}`).toMatchObject(expected);
  }
  const versions = new Set(of.filter((r) => r.path !== "/ws").map((r) => r.clientProtocol));
  expect([origin, ...versions]).toEqual([origin, version]);
  const upgrades = all.filter((r) => r.kind === "upgrade" && r.host === hostname);
  expect(upgrades).toHaveLength(1);
  const bytes = Buffer.byteLength("text äöü") + 70_000;
  const body = { bytes, messages: 2, complete: true };
  expect(upgrades[0]).toMatchObject({ decision: "allow", path: "/ws", sent: body, received: body });
}

/** What Chromium does for ws://: CONNECT to port 80, and clear HTTP inside. */
function checkClearTunnel(all: readonly AuditRecord[]): void {
  const asked = all.find((r) => r.kind === "exchange" && r.host === "plain.test" && r.path === "/ws");
  const inside = all.find((r) => r.id === asked?.parent);
  expect(inside).toMatchObject({
    kind: "connect",
    decision: "allow",
    host: "plain.test",
    port: 80,
    uninspected: false,
  });
  expect(all.find((r) => r.kind === "upgrade" && r.host === "plain.test")?.parent).toBe(asked?.id);
}

/** Nothing but refusals of the host that no rule allows, and no connection to it. */
function checkRefused(all: readonly AuditRecord[]): void {
  const refused = all.filter((r) => r.host === "denied.test");
  expect(refused.length).toBeGreaterThanOrEqual(2);
  for (const record of refused) {
    expect(record).toMatchObject({
      kind: "connect",
      decision: "deny",
      reason: "not-allowed",
      status: 403,
      origin: null,
    });
  }
}

/** What ends last is there. */
const complete = (all: AuditRecord[]): boolean =>
  all.some((r) => r.kind === "connect" && r.host === "plain.test") &&
  all.filter((r) => r.kind === "upgrade").length === ORIGINS.length &&
  all.filter((r) => r.path === "/report").length === ORIGINS.length;

describe.each([
  ["under sallyport run, with HTTP/2", { run: true, tls: false, http2: true }],
  ["with HTTP/1.1 alone", { run: false, tls: false, http2: false }],
  ["over TLS to the proxy", { run: false, tls: true, http2: true }],
] as const)("%s", (_, { run, tls, http2 }) => {
  let house: BuiltHouse<BrowserSite>;
  beforeAll(async () => {
    if (MISSING === null) house = await startBrowserHouse(tls);
  });
  afterAll(() => house?.close());

  test("pages see everything, and everything is on record", { timeout: 100_000 }, async () => {
    if (BROWSER === null || MISSING !== null) return expect(notHere(MISSING ?? "chromium")).toBe(true);
    const ours = readFileSync(house.caFile, "utf8");
    const home = homeThatTrusts(
      house.folder,
      tls ? { ours, origins: readFileSync(join(house.folder, "roots.pem"), "utf8") } : { ours },
    );
    const flags = [...(http2 ? [] : ["--disable-http2"]), ...(run ? [] : [`--proxy-server=${house.proxy}`])];
    const command = [BROWSER, ...flagsFor(home), ...flags, PAGES[0] ?? ""];
    const seen = await browse(run ? house.line(["run", "--as", "browser", "--", ...command]) : command, {
      env: house.environment({ HOME: home, TMPDIR: home }),
      reported: house.scene.reports(PAGES, http2),
    });
    checkSeen(seen, http2);
    const all = await recordsOf(house, complete);
    // Without CONNECT the browser speaks to us: over TLS in HTTP/2, which has its CONNECTs as well.
    const version = (origin: string): string => (http2 && (tls || origin.startsWith("https")) ? "2" : "1.1");
    for (const origin of ORIGINS) checkRecords(all, origin, version(origin));
    const outside = all.filter((r) => r.kind === "connect").map((r) => r.clientProtocol);
    expect(new Set(outside)).toEqual(new Set([tls ? "2" : "1.1"]));
    checkClearTunnel(all);
    checkRefused(all);
    if (run) expect(new Set(all.map((r) => r.client))).toEqual(new Set(["browser"]));
    return undefined;
  });
});
