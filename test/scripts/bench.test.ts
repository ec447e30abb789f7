// The benchmark's own parts: what it reads, what it counts, and how it judges. The figures themselves are `npm run bench`'s.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { Latencies } from "../../scripts/bench/load/latencies.ts";
import { ResponseReader } from "../../scripts/bench/load/response-reader.ts";
import { type Portion, Tally, type Worker, work } from "../../scripts/bench/load/run.ts";
import { readOptions } from "../../scripts/bench/options.ts";
import { cpuSeconds, parseStat, residentBytes } from "../../scripts/bench/process-tree.ts";
import { tables } from "../../scripts/bench/report.ts";
import { costIn, type Measurement, median, OWN, type Results, ratioTo } from "../../scripts/bench/results.ts";
import { costOf, SCENARIOS, type ScenarioId } from "../../scripts/bench/scenarios.ts";
import { closeCalls, judge, TARGETS } from "../../scripts/bench/targets.ts";

const measured = (scenario: ScenarioId, participant: string, cost: number | null, round = 0): Measurement => ({
  scenario,
  participant,
  round,
  cost,
  rate: 1000,
  p50: 1,
  p99: 2,
  residentBytes: 50e6,
  reopened: 0,
  failed: cost === null ? "status 502 instead of 200" : null,
});

const results = (measurements: Measurement[], changes: Partial<Results> = {}): Results => ({
  participants: [
    { name: OWN, version: "1", install: "", residentAtEnd: 100e6 },
    { name: "squid", version: "5.7", install: "apt-get install squid-openssl", residentAtEnd: 1 },
  ],
  measurements,
  ...changes,
});

test.each([
  ["met at the very ratio", 50, 100, true, "0.500"],
  ["missed above it", 51, 100, false, "0.510"],
  ["missed when the peer failed", 50, null, false, "squid failed: status 502 instead of 200"],
  ["missed when we failed", null, 100, false, `${OWN} failed: status 502 instead of 200`],
])("a target is %s", (_, ours, theirs, met, found) => {
  const all = results([measured("plain", OWN, ours), measured("plain", "squid", theirs)]);
  expect(judge(all, ["plain"])[0]).toEqual({ what: "plain: at most 0.5 of squid", met, found });
});

test("a target whose peer is not installed is missed, and says how to install it", () => {
  const participants = [
    { name: "squid", version: null, install: "apt-get install squid-openssl", residentAtEnd: null },
  ];
  const [verdict] = judge(results([measured("plain", OWN, 1)], { participants }), ["plain"]);
  expect(verdict).toMatchObject({ met: false, found: "squid is not installed (apt-get install squid-openssl)" });
});

test("the memory target holds for the whole tree after everything, and is missed when we are gone", () => {
  const at = (residentAtEnd: number | null) =>
    judge(results([], { participants: [{ name: OWN, version: "1", install: "", residentAtEnd }] }), []).map(
      (v) => v.met,
    );
  expect([at(159e6), at(160e6), at(null)]).toEqual([[true], [false], [false]]);
});

test("every target is of a scenario that both run", () => {
  for (const { scenario } of TARGETS) expect(SCENARIOS.map((s) => s.id)).toContain(scenario);
  expect(
    judge(
      results([]),
      SCENARIOS.map((s) => s.id),
    ),
  ).toHaveLength(TARGETS.length + 1);
});

test("the cost is the median of the rounds, and one bad round spoils it", () => {
  const rounds = [3, 1, 2].map((cost, round) => measured("plain", OWN, cost, round));
  expect(costIn(results(rounds), "plain", OWN)).toBe(2);
  expect(costIn(results([...rounds, measured("plain", OWN, null, 3)]), "plain", OWN)).toBeNull();
  expect([median([]), median([4, 2])]).toEqual([null, 3]);
});

test("a ratio compares what ran side by side: the median of the rounds' ratios, not the ratio of medians", () => {
  const both = (ours: number, squid: number, round: number) => [
    measured("plain", OWN, ours, round),
    measured("plain", "squid", squid, round),
  ];
  const slower = results([...both(30, 100, 0), ...both(80, 200, 1), ...both(60, 100, 2)]);
  expect(ratioTo(slower, "plain", "squid")).toBe(0.4);
  expect(judge(slower, ["plain"])[0]).toMatchObject({ met: true, found: "0.400" });
  const broken = results([...both(30, 100, 0), measured("plain", OWN, null, 1)]);
  expect([ratioTo(broken, "plain", "squid"), ratioTo(results([]), "plain", "squid")]).toEqual([null, null]);
});

test("what is near a target is measured again, on either side of it, by us and the peers of such targets", () => {
  const all = (ours: number) =>
    results([
      ...[measured("plain", OWN, ours), measured("plain", "squid", 100)],
      ...[
        measured("keep-alive", OWN, 60),
        measured("keep-alive", "squid", 100),
        measured("keep-alive", "privoxy", 200),
      ],
    ]);
  const again = (ours: number) =>
    [...closeCalls(all(ours), ["plain", "keep-alive", "up"])].map(([id, who]) => [id, ...who]);
  const kept = ["keep-alive", OWN, "squid"];
  const plain = ["plain", OWN, "squid"];
  expect([30, 40, 50, 60, 70].map(again)).toEqual([[kept], [kept, plain], [kept, plain], [kept, plain], [kept]]);
  expect(closeCalls(all(50), ["up"]).size).toBe(0);
});

test("the table shows each participant with its ratio, or what was not right", () => {
  const all = results([measured("plain", OWN, 20), measured("plain", "squid", 80), measured("plain", "other", null)]);
  const text = tables(all);
  expect(text).toMatch(/squid +80\.0 +0\.25 +1000\/s/);
  expect(text).toMatch(/other +- +status 502/);
});

test.each([
  ["us/request", { count: 1000, bytes: 0 }, 500],
  ["us/message", { count: 1000, bytes: 0 }, 250],
  ["s/GB", { count: 1, bytes: 2e9 }, 0.25],
] as const)("half a second of CPU in %s", (unit, done, cost) => {
  expect(costOf(unit, 0.5, done)).toBe(cost);
});

test.each([
  [["--quick"], { rounds: 1, seconds: 1, check: false }],
  [["--only", "plain,up", "--peers", "squid"], { scenarios: ["plain", "up"], peers: ["squid"] }],
  [["--peers", "none", "--check", "--json", "x"], { peers: [], check: true, json: "x" }],
])("options %j", (args, wanted) => {
  expect(readOptions(args)).toMatchObject(wanted);
});

test.each([[["--only", "plane"]], [["--rounds", "0"]], [["--seconds", "x"]], [["--unknown"]]])(
  "options %j are refused",
  (args) => {
    expect(() => readOptions(args)).toThrow();
  },
);

/** Feeds the bytes in pieces of this size; what was read. */
function read(bytes: string, size: number): { content: string; status: number; done: boolean; closes: boolean } {
  const reader = new ResponseReader();
  let content = "";
  reader.begin((view) => {
    content += view.toString("latin1");
  });
  let done = false;
  for (let at = 0; at < bytes.length; at += size) done = reader.feed(Buffer.from(bytes.slice(at, at + size), "latin1"));
  return { content, status: reader.status, done, closes: reader.closes };
}

test.each([
  ["a length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", true, false],
  [
    "chunks",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    "hello",
    true,
    false,
  ],
  ["trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n", "", true, false],
  ["no content", "HTTP/1.1 204 No\r\nconnection: close\r\n\r\n", "", true, true],
  ["1xx first", "HTTP/1.1 103 E\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "x", true, false],
  ["cut short", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", "hell", false, false],
  ["until the end", "HTTP/1.0 200 OK\r\n\r\nhello", "hello", false, true],
])("a response with %s reads the same in any pieces", (_, bytes, content, done, closes) => {
  for (const size of [1, 3, 7, bytes.length]) expect(read(bytes, size)).toMatchObject({ content, done, closes });
});

test.each([
  ["bytes after it", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy"],
  ["no status line", "HELLO\r\n\r\n"],
  ["a bad chunk size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"],
])("a response with %s is an error", (_, bytes) => {
  expect(() => read(bytes, bytes.length)).toThrow();
});

test("percentiles stay right when there are more values than are kept", () => {
  const latencies = new Latencies();
  for (let i = 0; i < 600_000; i++) latencies.add(i % 1000);
  expect(latencies.percentile(0.5)).toBeGreaterThan(480);
  expect(latencies.percentile(0.5)).toBeLessThan(520);
  expect(new Latencies().percentile(0.5)).toBe(0);
});

test.each([
  ["until the time is over", { seconds: 1, count: 0 }, 5, 1000],
  ["until the count is reached", { seconds: 0.02, count: 12 }, 12, 14],
  ["never eight times as long", { seconds: 0.1, count: 1e9 }, 5, 330],
] as [string, Portion, number, number][])("workers work %s", async (_, portion, least, most) => {
  const once_ = async (tally: Tally): Promise<void> => {
    await wait(5);
    tally.add(1, performance.now());
  };
  const worker = (): Worker => ({ open: async () => {}, once: once_, close: () => {} });
  const tally = new Tally();
  await work([worker(), worker()], tally, portion);
  expect(tally.count).toBeGreaterThanOrEqual(least);
  expect(tally.count).toBeLessThanOrEqual(most);
});

test("a stat line is read behind a command with spaces and parentheses", () => {
  const line = `42 (a) b (c) S 7 ${Array.from({ length: 9 }, () => "0").join(" ")} 100 50 25 25 20 0`;
  expect(parseStat(line)).toEqual({ pid: 42, parent: 7, cpu: 2 });
});

test("the CPU time and the memory of a child's child count", async () => {
  const burn = "while (process.cpuUsage().user < 400e3); setInterval(() => {}, 1000); console.log('done')";
  const program = `require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(burn)}], { stdio: "inherit" })`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  try {
    await once(child.stdout, "data");
    const pid = child.pid as number;
    expect(cpuSeconds(pid)).toBeGreaterThan(0.15);
    expect(residentBytes(pid)).toBeGreaterThan(60e6);
  } finally {
    child.stdout.destroy();
    process.kill(-(child.pid as number), "SIGKILL");
  }
});

test("a benchmark that is told to stop takes its processes and files with it, and judges nothing", {
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), "bench-stop-"));
  const args = ["--import", "tsx", "scripts/bench/main.ts", "--only", "plain", "--peers", "none"];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, TMPDIR: dir },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  child.stdout.on("data", (chunk: Buffer) => {
    printed += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    if (chunk.includes("listens")) child.kill("SIGTERM");
  });
  await once(child, "exit");
  expect([child.exitCode, printed]).toEqual([2, ""]);
  const left = readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(dir));
  expect([left, readdirSync(dir).filter((name) => name.startsWith("sallyport-bench"))]).toEqual([[], []]);
  rmSync(dir, { recursive: true });
});

/** "" when it has ended meanwhile. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
