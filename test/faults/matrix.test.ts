// What origins and name servers do wrong, at each point, on each way. Every case: exactly one record that says so, a broken
// transfer that the client sees as broken, both sides closed, everybody else served, and nothing left open afterwards.
import type net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import type { DnsAnswer } from "../support/dns.ts";
import { refusedPort } from "../support/origin.ts";
import { PATIENCE } from "../support/patience.ts";
import { afterPause } from "../support/pause.ts";
import type { Ending } from "../support/raw-client.ts";
import {
  blackHole,
  type Client,
  connections,
  type FaultyOrigin,
  HTTP_WAYS,
  listening,
  type Meeting,
  Refused,
  type Rig,
  type Script,
  sha256,
  startOrigin,
  startRig,
  WAYS,
  type Way,
} from "./rig.ts";

const HEAD = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
const WHOLE = `${HEAD}0123456789`;
const CHUNKED = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n";

/** The points at which a response with a length can stop. `before`: no status line went out yet. */
const POINTS = [
  { at: "before the first byte", bytes: 0, before: true, content: 0 },
  { at: "in the middle of the head", bytes: 25, before: true, content: 0 },
  { at: "at the end of the head", bytes: HEAD.length, before: false, content: 0 },
  { at: "in the middle of the content", bytes: HEAD.length + 5, before: false, content: 5 },
  { at: "one byte before the end", bytes: WHOLE.length - 1, before: false, content: 9 },
] as const;

/** Says these bytes, lets them arrive, and does something. */
const after =
  (bytes: string, act: (meeting: Meeting) => void): Script =>
  (meeting) => {
    if (bytes !== "") meeting.socket.write(bytes);
    afterPause(60, () => act(meeting));
  };
const reset = (meeting: Meeting): unknown => meeting.raw.resetAndDestroy();
const close = (meeting: Meeting): unknown => meeting.socket.end();
const nothing = (): void => {};

interface OriginFault {
  readonly name: string;
  readonly script: Script;
  /** A refusal with this status, or null: the response began and broke, or came through (`whole`). */
  readonly status: number | null;
  readonly reason: string | null;
  /** Content that the client got and the record counts. */
  readonly content: string;
  readonly whole?: boolean;
  /** Whether a blind tunnel sees it as an end in order, as broken, or as a limit. */
  readonly blind: { readonly ending: Ending; readonly reason: string | null };
}

const orderly = { ending: "end", reason: null } as const;
const brokenTunnel = { ending: "reset", reason: "origin-incomplete" } as const;
const idleTunnel = { ending: "reset", reason: "tunnel-limit" } as const;

const ORIGIN_FAULTS: readonly OriginFault[] = [
  ...POINTS.flatMap((point): OriginFault[] => {
    const bytes = WHOLE.slice(0, point.bytes);
    const common = { content: "0123456789".slice(0, point.content) };
    const status = point.before ? 502 : null;
    return [
      {
        ...common,
        name: `reset ${point.at}`,
        script: after(bytes, reset),
        status,
        reason: "origin-incomplete",
        blind: brokenTunnel,
      },
      {
        ...common,
        name: `closed ${point.at}`,
        script: after(bytes, close),
        status,
        reason: "origin-incomplete",
        blind: orderly,
      },
      {
        ...common,
        name: `stalled ${point.at}`,
        script: after(bytes, nothing),
        status: point.before ? 504 : null,
        reason: "origin-timeout",
        blind: idleTunnel,
      },
    ];
  }),
  {
    name: "a length that is too long",
    script: after("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789", close),
    status: null,
    reason: "origin-incomplete",
    content: "0123456789",
    blind: orderly,
  },
  {
    name: "a length that is too short",
    script: after("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n0123456789", close),
    status: null,
    reason: null,
    content: "01234",
    whole: true,
    blind: orderly,
  },
  {
    name: "two lengths",
    script: after("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 10\r\n\r\n0123456789", close),
    status: 502,
    reason: "origin-protocol",
    content: "",
    blind: orderly,
  },
  {
    name: "a length and a coding",
    script: after("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", close),
    status: 502,
    reason: "origin-protocol",
    content: "",
    blind: orderly,
  },
  {
    name: "chunks that break off with a close",
    script: after(CHUNKED, close),
    status: null,
    reason: "origin-incomplete",
    content: "0123456789",
    blind: orderly,
  },
  {
    name: "chunks that break off with a reset",
    script: after(CHUNKED, reset),
    status: null,
    reason: "origin-incomplete",
    content: "0123456789",
    blind: brokenTunnel,
  },
  {
    name: "a chunk that is none",
    script: after(`${CHUNKED}zz\r\n`, nothing),
    status: null,
    reason: "origin-protocol",
    content: "0123456789",
    blind: idleTunnel,
  },
  {
    name: "content until the end, which is a reset",
    script: after("HTTP/1.1 200 OK\r\n\r\n0123456789", reset),
    status: null,
    reason: "origin-incomplete",
    content: "0123456789",
    blind: brokenTunnel,
  },
  {
    name: "not HTTP",
    script: after("SSH-2.0-x\r\n\r\n", nothing),
    status: 502,
    reason: "origin-protocol",
    content: "",
    blind: idleTunnel,
  },
];

interface WayFault {
  readonly name: string;
  readonly ways: readonly Way[];
  readonly host?: string;
  readonly port: () => number;
  readonly status: number;
  readonly reason: string | null;
}

const TLS_WAYS: readonly Way[] = ["intercepted"];
const ports = new Map<string, number>();
const port = (name: string) => () => ports.get(name) as number;
/** The port of an origin that is well; on TLS ways its TLS twin. */
const WELL = () => -1;

const WAY_FAULTS: readonly WayFault[] = [
  { name: "refused", ways: WAYS, port: port("refused"), status: 502, reason: "origin-refused" },
  { name: "a black hole", ways: WAYS, port: port("black hole"), status: 504, reason: "origin-connect-timeout" },
  { name: "TLS: an alert", ways: TLS_WAYS, port: port("alert"), status: 502, reason: "origin-tls" },
  { name: "TLS: no answer", ways: TLS_WAYS, port: port("silent"), status: 504, reason: "origin-connect-timeout" },
  { name: "TLS: plain text", ways: TLS_WAYS, port: port("plain text"), status: 502, reason: "origin-tls" },
  { name: "TLS: a reset", ways: TLS_WAYS, port: port("resets"), status: 502, reason: "origin-tls" },
  { name: "TLS: closed", ways: TLS_WAYS, port: port("closes"), status: 502, reason: "origin-tls" },
  {
    name: "DNS: no such name",
    ways: WAYS,
    host: "missing.invalid",
    port: WELL,
    status: 502,
    reason: "origin-unresolved",
  },
  { name: "DNS: broken", ways: WAYS, host: "broken.test", port: WELL, status: 502, reason: "origin-unresolved" },
  { name: "DNS: dead", ways: WAYS, host: "dead.test", port: WELL, status: 504, reason: "origin-dns-timeout" },
  { name: "DNS: private", ways: WAYS, host: "private.test", port: WELL, status: 403, reason: "address-prohibited" },
  {
    name: "DNS: public and private mixed",
    ways: WAYS,
    host: "mixed.test",
    port: WELL,
    status: 403,
    reason: "address-prohibited",
  },
  { name: "DNS: slow", ways: HTTP_WAYS, host: "slow.test", port: WELL, status: 200, reason: null },
];

const NAMES: DnsAnswer = (name, type, count) => {
  const v4 = (...addresses: string[]) => ({ addresses: type === "A" ? addresses : [], ttl: 0 });
  if (name.startsWith("broken")) return { code: "servfail" };
  if (name.startsWith("dead")) return null;
  if (name.startsWith("private")) return v4("10.1.2.3");
  if (name.startsWith("mixed")) return v4("127.0.0.1", "10.1.2.3");
  if (name.startsWith("slow")) return { ...v4("127.0.0.1"), delay: 300 };
  if (name.startsWith("rebinding")) return v4(count === 0 ? "127.0.0.1" : "10.1.2.3");
  return undefined as never;
};

interface Outcome {
  status: number | null;
  content: string;
  ending: Ending;
  /** The client can tell that the response is not whole. */
  broken: boolean;
  records: readonly AuditRecord[];
  meetings: readonly Meeting[];
  error: Error | null;
}

let rig: Rig;
let plain: FaultyOrigin;
let secure: FaultyOrigin;
const others: { close(): Promise<void> }[] = [];
const scripts = new Map<string, Script>();
const outcomes = new Map<string, Outcome>();
const bystander = { times: [] as number[], failed: [] as string[] };
let before = 0;
let left = 0;
let gauges = "";

const script = (path: string): Script => scripts.get(path) ?? ((meeting) => meeting.socket.write(WHOLE));
const titles = [
  ...ORIGIN_FAULTS.flatMap((fault) => WAYS.map((way) => ({ title: `${fault.name} (${way})`, fault, way }))),
];
const wayTitles = WAY_FAULTS.flatMap((fault) =>
  fault.ways.map((way) => ({ title: `${fault.name} (${way})`, fault, way })),
);

beforeAll(async () => {
  const originCa = new TestCa();
  const names = ["o.test", "b.test", "slow.test"];
  plain = await startOrigin(script, null);
  secure = await startOrigin(script, originCa.leaf("o.test", { names }));
  await startSpecialPorts();
  // Hosts that begin with b are tunnelled blindly.
  const blind = WAY_FAULTS.filter((f) => f.ways.includes("blind tunnel")).map((f) => `b-${f.host ?? "x.test"}`);
  const everyPort = [secure.port, plain.port, ...ports.values()];
  const patterns = [...new Set(["b.test", ...blind])].flatMap((host) => everyPort.map((p) => `"https://${host}:${p}"`));
  rig = await startRig({
    originCa,
    dns: (name, type, count) => NAMES(name.replace(/^b-/, ""), type, count),
    policy: `server: { header-timeout: 3s, idle-timeout: 5s, connect-timeout: 2s }
defaults: { action: allow, limits: { idle: 3s, total: 15s } }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: [${patterns.join(", ")}], tunnel: { reason: test, idle: 2s } }
`,
  });
  await serveBystander(1);
  await rig.house.house.reload();
  await wait(200);
  before = connections();
  let over = false;
  const watching = (async () => {
    while (!over) await serveBystander(1);
  })();
  await together(24, [
    ...titles.map(
      ({ title, fault, way }) =>
        () =>
          playOriginFault(title, fault, way),
    ),
    ...wayTitles.map(
      ({ title, fault, way }) =>
        () =>
          playWayFault(title, fault, way),
    ),
  ]);
  over = true;
  await watching;
  await collect();
});

afterAll(async () => {
  await rig.close();
  await Promise.all([plain.close(), secure.close(), ...others.map((o) => o.close())]);
});

async function startSpecialPorts(): Promise<void> {
  ports.set("refused", await refusedPort());
  const special = async (name: string, accept: (raw: net.Socket) => void): Promise<void> => {
    const opened = await listening(accept);
    others.push(opened);
    ports.set(name, opened.port);
  };
  const hole = await blackHole();
  others.push(hole);
  ports.set("black hole", hole.port);
  await special("alert", (raw) => raw.once("data", () => raw.end(Buffer.from("15030100020228", "hex"))));
  await special("silent", (raw) => raw.resume().on("end", () => raw.end()));
  await special("plain text", (raw) => raw.once("data", () => raw.end(WHOLE)));
  await special("resets", (raw) => raw.once("data", () => raw.resetAndDestroy()));
  await special("closes", (raw) => raw.once("data", () => raw.end()));
}

async function together(width: number, jobs: (() => Promise<void>)[]): Promise<void> {
  const worker = async (): Promise<void> => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) await job();
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** Somebody else, all the while: served, and soon. */
async function serveBystander(times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const started = performance.now();
    try {
      const client = await rig.open("127.9.9.9");
      client.send(`GET http://well.test:${plain.port}/well HTTP/1.1\r\nHost: well.test:${plain.port}\r\n\r\n`);
      const { status, content } = await client.response();
      if (status !== 200 || content !== "0123456789") bystander.failed.push(`${status} ${content}`);
      client.destroy();
    } catch (error) {
      bystander.failed.push((error as Error).message);
    }
    bystander.times.push(performance.now() - started);
    await wait(40);
  }
}

const targetOf = (way: Way, host: string, port: number, path: string): string =>
  way === "plain" ? `http://${host}:${port}${path}` : path;
const portOn = (way: Way): number =>
  way === "plain" || way === "clear text inside CONNECT" ? plain.port : secure.port;

async function playOriginFault(title: string, fault: OriginFault, way: Way): Promise<void> {
  const path = `/${encodeURIComponent(title)}`;
  scripts.set(path, fault.script);
  const host = way === "blind tunnel" ? "b.test" : "o.test";
  await play(title, way, host, portOn(way), path);
}

async function playWayFault(title: string, fault: WayFault, way: Way): Promise<void> {
  const own = fault.port();
  const prefix = way === "blind tunnel" ? "b-" : "";
  await play(
    title,
    way,
    `${prefix}${fault.host ?? "x.test"}`,
    own < 0 ? portOn(way) : own,
    `/${encodeURIComponent(title)}`,
  );
}

async function play(title: string, way: Way, host: string, port: number, path: string): Promise<void> {
  const address = rig.newAddress();
  addressOf.set(title, { address, path });
  const outcome: Outcome = {
    status: null,
    content: "",
    ending: "open",
    broken: false,
    records: [],
    meetings: [],
    error: null,
  };
  outcomes.set(title, outcome);
  let client: Client | null = null;
  try {
    client = await rig.enter(way, host, port, address);
    client.send(`GET ${targetOf(way, host, port, path)} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
    await settled(client, way);
    const head = client.text.indexOf("\r\n\r\n");
    outcome.status = Number(/^HTTP\/1\.1 (\d+)/.exec(client.text)?.[1] ?? 0) || null;
    outcome.content = contentOf(client.text, head);
    outcome.ending = client.ending;
    const chunked = /\r\ntransfer-encoding: *chunked\r\n/i.test(client.text.slice(0, head + 2));
    const cut = chunked && !client.text.endsWith("\r\n0\r\n\r\n");
    outcome.broken = client.ending === "reset" || (client.ending === "end" && cut);
  } catch (error) {
    if (error instanceof Refused) outcome.status = error.status;
    else outcome.error = error as Error;
  }
  client?.destroy();
}
const addressOf = new Map<string, { address: string; path: string }>();

/** Until the connection ended, or a whole response came. */
async function settled(client: Client, way: Way): Promise<void> {
  for (const end = Date.now() + PATIENCE; client.ending === "open"; await wait(5)) {
    const text = client.text;
    const head = text.indexOf("\r\n\r\n");
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text.slice(0, head + 2))?.[1] ?? Number.NaN);
    // In a tunnel the origin's own end is waited for.
    if (way !== "blind tunnel" && head >= 0 && text.length >= head + 4 + length) return;
    if (Date.now() > end) throw new Error(`still open: ${JSON.stringify(text.slice(0, 300))}`);
  }
}

function contentOf(text: string, head: number): string {
  const body = text.slice(head + 4);
  return /\r\ntransfer-encoding: *chunked/i.test(text.slice(0, head + 2))
    ? body.replace(/[0-9a-f]+\r\n([0-9]*)\r\n/g, "$1")
    : body;
}

/** What the log and the origins say when everything has settled. */
async function collect(): Promise<void> {
  const started = Date.now();
  await rig.house.house.reload(); // idle origin connections go
  for (; connections() > before && Date.now() - started < PATIENCE; ) await wait(100);
  left = connections();
  // The last answers were a moment ago: their records may still be on their way to the database.
  do {
    await wait(50);
    gauges = await (await fetch(`http://127.0.0.1:${rig.house.adminPort}/metrics`)).text();
  } while (!/^sallyport_audit_lag_records 0$/m.test(gauges) && Date.now() - started < 2 * PATIENCE);
  const records = rig.house.records();
  for (const [title, outcome] of outcomes) {
    const { address, path } = addressOf.get(title) as { address: string; path: string };
    outcome.records = records.filter((r) => r.address === address);
    outcome.meetings = [...plain.meetings, ...secure.meetings].filter((m) => m.text.includes(` ${path} `));
  }
}

/** The one record that says what happened, beside that of an answered CONNECT. */
function theRecord(outcome: Outcome, way: Way): AuditRecord {
  const inside = way === "intercepted" || way === "clear text inside CONNECT";
  const connects = outcome.records.filter((r) => r.kind === "connect");
  const rest = outcome.records.filter((r) => r.kind !== "connect");
  if (way === "plain") expect(connects).toEqual([]);
  else expect(connects).toHaveLength(1);
  if (way === "blind tunnel") {
    expect(rest).toEqual([]);
    return connects[0] as AuditRecord;
  }
  if (inside) expect(connects[0]).toMatchObject({ decision: "allow", status: 200 });
  expect(rest).toHaveLength(1);
  return rest[0] as AuditRecord;
}

describe("origins that fail", () => {
  test.each(titles)("$title", ({ title, fault, way }) => {
    const outcome = outcomes.get(title) as Outcome;
    if (outcome.error !== null) throw outcome.error;
    const record = theRecord(outcome, way);
    for (const meeting of outcome.meetings) expect(meeting.closed, "the origin's connection is closed").toBe(true);
    expect(outcome.meetings).toHaveLength(1);
    if (way === "blind tunnel") {
      const { ending, reason } = fault.blind;
      expect(outcome.ending).toBe(ending);
      expect(record).toMatchObject({ kind: "connect", status: 200, reason, uninspected: true, rule: "blind" });
      expect(record.received.complete).toBe(reason === null);
      return;
    }
    const complete = fault.whole === true;
    const status = fault.status ?? 200;
    expect(outcome.status).toBe(status);
    expect(record).toMatchObject({ kind: "exchange", decision: "allow", reason: fault.reason, status });
    if (fault.status !== null) return; // a refusal of ours, whole
    expect(outcome.content).toBe(fault.content);
    if (!complete) expect(outcome.broken, "a reset, or the end without a last chunk").toBe(true);
    expect(record.received).toMatchObject({ bytes: fault.content.length, sha256: sha256(fault.content), complete });
  });
});

describe("ways that fail", () => {
  test.each(wayTitles)("$title", ({ title, fault, way }) => {
    const outcome = outcomes.get(title) as Outcome;
    if (outcome.error !== null) throw outcome.error;
    expect(outcome.status).toBe(fault.status);
    const record = theRecord(outcome, way);
    const decision = fault.status === 403 ? "deny" : "allow";
    expect(record).toMatchObject({ status: fault.status, reason: fault.reason, decision });
    if (fault.status !== 200) expect(outcome.meetings).toEqual([]);
  });

  test("a name that moves from an open address to a closed one is dialled once", async () => {
    const ask = async (path: string): Promise<number> => {
      const client = await rig.open(rig.newAddress());
      const authority = `rebinding.test:${plain.port}`;
      client.send(`GET http://${authority}${path} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
      const { status } = await client.response();
      client.destroy();
      return status;
    };
    expect([await ask("/first"), await ask("/second"), await ask("/third")]).toEqual([200, 403, 403]);
  });
});

describe("everybody else", () => {
  test("was served all the while", () => {
    expect(bystander.failed).toEqual([]);
    expect(bystander.times.length).toBeGreaterThan(5);
    // The machine may have other work: one of them may be late, not most.
    expect(bystander.times.sort((a, b) => a - b)[bystander.times.length >> 1]).toBeLessThan(1_000);
  });

  test("nothing is left open", () => {
    expect(left).toBeLessThanOrEqual(before);
    expect(gauges).toMatch(/^sallyport_connections\{side="client"\} 0$/m);
    expect(gauges).toMatch(/^sallyport_tunnels 0$/m);
  });

  test("ids are never used twice", () => {
    const ids = rig.house.records().map((r) => r.id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
