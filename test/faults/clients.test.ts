// What clients do wrong, at each point, on each way: they leave, reset, stall, read nothing. One record that says so, the
// origin's connection closed, and nothing that broke off looks whole at the origin.
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { PATIENCE } from "../support/patience.ts";
import { afterPause, pause } from "../support/pause.ts";
import {
  blackHole,
  type Client,
  connections,
  type FaultyOrigin,
  HTTP_WAYS,
  type Meeting,
  type Rig,
  type Script,
  secured,
  startOrigin,
  startRig,
  type Way,
} from "./rig.ts";

interface At {
  readonly way: Way;
  readonly address: string;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** A request head without its empty line. */
  head(method?: string, fields?: string): string;
}

interface ClientFault {
  readonly name: string;
  readonly ways?: readonly Way[];
  readonly origin?: Script;
  /** `enter` opens the way; what comes before it happens outside. */
  readonly act: (at: At, enter: () => Promise<Client>) => Promise<Client | null>;
  /** Beside the record of the CONNECT, unless the way is the blind tunnel. */
  readonly records: readonly Readonly<Record<string, unknown>>[];
  /** The status line that the client got, when one is expected. */
  readonly status?: number;
  /** The record says that it was noticed at once, not by a deadline. */
  readonly soon?: boolean;
  readonly check?: (meetings: readonly Meeting[]) => void;
}

const gone = { reason: "client-gone", status: null } as const;
const leave = (client: Client): null => {
  client.socket.end();
  return null;
};
const reset = (client: Client): null => {
  client.reset();
  return null;
};
const LEAVINGS = [
  { how: "leaves", by: leave },
  { how: "resets", by: reset },
] as const;

const endless: Script = ({ socket }) => {
  socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
  const piece = `8000\r\n${"x".repeat(0x8000)}\r\n`;
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on("drain", more);
  more();
};
const silent: Script = () => {};
const soon: Script = ({ socket }) => {
  afterPause(300, () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
};
/** Answers when ten bytes of content are there. */
const whenWhole: Script = (meeting) => {
  const timer = setInterval(() => {
    if (meeting.closed) clearInterval(timer);
    if (!meeting.text.endsWith("0123456789")) return;
    clearInterval(timer);
    meeting.socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  }, 10);
};

const BLIND: readonly Way[] = ["blind tunnel"];
/** Half of a ClientHello. */
const HALF_HELLO = Buffer.from("16030100f0010000ec0303", "hex");

const FAULTS: readonly ClientFault[] = [
  ...LEAVINGS.flatMap(({ how, by }): ClientFault[] => [
    {
      name: `${how} before a request`,
      act: async (_at, enter) => {
        const client = await enter();
        await pause(100); // the proxy's end of the handshake is over, too
        return by(client);
      },
      records: [],
    },
    {
      name: `${how} inside a head`,
      act: async (at, enter) => {
        const client = (await enter()).send(at.head());
        await pause(100);
        return by(client);
      },
      records: [{ kind: "connection", ...gone }],
    },
    {
      name: `${how} inside an upload`,
      origin: silent,
      act: async (at, enter) => {
        const client = (await enter()).send(`${at.head("POST", "content-length: 20\r\n")}\r\n0123456789`);
        await pause(200);
        return by(client);
      },
      records: [{ kind: "exchange", ...gone, decision: "allow", sent: { bytes: 10, complete: false } }],
      check: (meetings) => expect(meetings[0]?.text.endsWith("\r\n\r\n0123456789")).toBe(true),
    },
    {
      name: `${how} inside an upload in chunks`,
      origin: silent,
      act: async (at, enter) => {
        const client = (await enter()).send(
          `${at.head("POST", "transfer-encoding: chunked\r\n")}\r\na\r\n0123456789\r\n`,
        );
        await pause(200);
        return by(client);
      },
      records: [{ kind: "exchange", ...gone, decision: "allow", sent: { bytes: 10, complete: false } }],
      check: (meetings) => {
        expect(meetings[0]?.text).toContain("0123456789");
        expect(meetings[0]?.text, "no last chunk").not.toContain("\r\n0\r\n");
      },
    },
    {
      name: `${how} before its ClientHello`,
      ways: BLIND,
      act: async (at) => {
        const client = await rig.connect(`${at.host}:${at.port}`, at.address);
        await pause(50);
        return by(client);
      },
      records: [{ kind: "connect", reason: "client-gone", status: 200, received: { complete: false } }],
    },
    {
      name: `${how} inside its ClientHello`,
      ways: ["intercepted"],
      act: async (at) => {
        const client = (await rig.connect(`${at.host}:${at.port}`, at.address)).send(HALF_HELLO);
        await pause(100);
        return by(client);
      },
      records: [{ kind: "connection", status: null, decision: "deny", reason: "client-tls-failed" }],
      soon: true,
    },
  ]),
  {
    name: "resets after its request",
    origin: silent,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      await pause(200);
      return reset(client);
    },
    records: [{ kind: "exchange", ...gone, decision: "allow", received: { bytes: 0, complete: false } }],
  },
  {
    name: "ends its half after its request",
    origin: soon,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      client.socket.end();
      return client;
    },
    status: 200,
    records: [{ kind: "exchange", status: 200, reason: null, received: { bytes: 2, complete: true } }],
  },
  {
    name: "resets inside a download",
    origin: endless,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      await client.until((text) => text.length > 100_000);
      return reset(client);
    },
    records: [{ kind: "exchange", reason: "client-gone", status: 200, received: { complete: false } }],
  },
  {
    name: "resets while the origin is dialled",
    act: async (at, enter) => {
      const client = await enter();
      client.send(`${at.head().replaceAll(`:${at.port}`, `:${hole.port}`)}\r\n`);
      await pause(200);
      return reset(client);
    },
    ways: ["plain"],
    records: [{ kind: "exchange", ...gone, decision: "allow" }],
  },
  {
    name: "resets while the tunnel is dialled",
    ways: BLIND,
    act: async (at) => {
      const client = await warm(await rig.open(at.address));
      client.send(`CONNECT ${at.host}:${hole.port} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await pause(200);
      return reset(client);
    },
    records: [{ kind: "connect", ...gone, decision: "allow" }],
  },
  {
    name: "resets while the tunnel is dialled, and has said something already",
    ways: BLIND,
    act: async (at) => {
      const client = await warm(await rig.open(at.address));
      client.send(
        Buffer.concat([Buffer.from(`CONNECT ${at.host}:${hole.port} HTTP/1.1\r\nHost: x\r\n\r\n`), HALF_HELLO]),
      );
      await pause(200);
      return reset(client);
    },
    records: [{ kind: "connect", ...gone, decision: "allow" }],
  },
  {
    name: "stalls inside a head",
    act: async (at, enter) => (await enter()).send(at.head()),
    status: 408,
    records: [{ kind: "connection", reason: "request-timeout", status: 408 }],
  },
  {
    name: "drips its head",
    act: async (at, enter) => {
      const client = await enter();
      const timer = setInterval(() => client.send("x"), 100);
      client.send(`${at.head()}X-Slow: `);
      client.socket.once("close", () => clearInterval(timer)).once("end", () => clearInterval(timer));
      return client;
    },
    status: 408,
    records: [{ kind: "connection", reason: "request-timeout", status: 408 }],
  },
  {
    name: "stalls inside an upload",
    origin: silent,
    act: async (at, enter) => (await enter()).send(`${at.head("POST", "content-length: 20\r\n")}\r\n0123456789`),
    status: 408,
    records: [{ kind: "exchange", reason: "request-timeout", status: 408, sent: { bytes: 10, complete: false } }],
  },
  {
    name: "writes slowly",
    origin: whenWhole,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head("POST", "content-length: 10\r\n")}\r\n`);
      for (const digit of "0123456789") {
        await wait(200);
        client.send(digit);
      }
      return client;
    },
    status: 200,
    records: [{ kind: "exchange", reason: null, status: 200, sent: { bytes: 10, complete: true } }],
  },
  {
    name: "reads nothing",
    origin: endless,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      await client.until((text) => text.length > 0);
      client.socket.pause();
      client.raw.pause();
      await brokenOff(at.path);
      return reset(client);
    },
    records: [{ kind: "exchange", reason: "client-gone", status: 200, received: { complete: false } }],
  },
  {
    name: "stalls inside its ClientHello",
    ways: ["intercepted"],
    act: async (at) => (await rig.connect(`${at.host}:${at.port}`, at.address)).send(HALF_HELLO),
    records: [{ kind: "connection", status: null, decision: "deny" }],
  },
  {
    name: "does not trust our CA",
    ways: ["intercepted"],
    act: async (at) => {
      const outer = await rig.connect(`${at.host}:${at.port}`, at.address);
      await secured(outer, at.host, rig.originCa.cert).catch(() => {});
      return null;
    },
    // Node verifies after its handshake and hangs up without an alert.
    records: [{ kind: "connection", reason: "client-tls-failed", status: null }],
  },
  {
    name: "says nothing after CONNECT",
    ways: ["intercepted"],
    act: async (at) => rig.connect(`${at.host}:${at.port}`, at.address),
    records: [{ kind: "connection", reason: "request-timeout" }],
  },
  {
    name: "says nothing in its tunnel",
    ways: BLIND,
    act: async (at) => rig.connect(`${at.host}:${at.port}`, at.address),
    records: [{ kind: "connect", reason: "request-timeout", decision: "deny", status: 200 }],
  },
  {
    name: "resets inside a tunnel",
    ways: BLIND,
    origin: endless,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      await client.until((text) => text.length > 100_000);
      return reset(client);
    },
    records: [{ kind: "connect", reason: "client-gone", status: 200, sent: { complete: false } }],
  },
  {
    name: "reads nothing of a tunnel",
    ways: BLIND,
    origin: endless,
    act: async (at, enter) => {
      const client = (await enter()).send(`${at.head()}\r\n`);
      await client.until((text) => text.length > 0);
      client.socket.pause();
      client.raw.pause();
      await brokenOff(at.path);
      return reset(client);
    },
    records: [{ kind: "connect", reason: "tunnel-limit", status: 200 }],
  },
];

interface Outcome {
  readonly address: string;
  readonly path: string;
  readonly way: Way;
  status: number | null;
  ending: string;
  records: readonly AuditRecord[];
  meetings: readonly Meeting[];
  error: Error | null;
}

let rig: Rig;
let plain: FaultyOrigin;
let secure: FaultyOrigin;
let hole: Awaited<ReturnType<typeof blackHole>>;
let before = 0;
let left = 0;
let gauges = "";
const scripts = new Map<string, Script>();
const outcomes = new Map<string, Outcome>();
const rows = FAULTS.flatMap((fault) =>
  (fault.ways ?? HTTP_WAYS).map((way) => ({ title: `${fault.name} (${way})`, fault, way })),
);

beforeAll(async () => {
  const originCa = new TestCa();
  scripts.set("/warm", ({ socket }) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
  const script = (path: string): Script => scripts.get(path) ?? soon;
  plain = await startOrigin(script, null);
  secure = await startOrigin(script, originCa.leaf("o.test", { names: ["o.test", "b.test"] }));
  hole = await blackHole();
  rig = await startRig({
    originCa,
    policy: `server: { header-timeout: 3s, idle-timeout: 5s, connect-timeout: 2s }
defaults: { action: allow, limits: { idle: 2s, total: 15s } }
network: { allow: [127.0.0.0/8] }
rules:
  - id: blind
    allow: ["https://b.test:${secure.port}", "https://b.test:${hole.port}"]
    tunnel: { reason: test, idle: 1s }
`,
  });
  before = connections();
  const todo = [...rows];
  const worker = async (): Promise<void> => {
    for (let row = todo.shift(); row !== undefined; row = todo.shift()) await play(row);
  };
  await Promise.all(Array.from({ length: 20 }, worker));
  await rig.house.house.reload(); // idle origin connections go
  for (const end = Date.now() + PATIENCE; connections() > before && Date.now() < end; ) await wait(100);
  left = connections();
  // The last records may still be on their way to the database.
  for (const end = Date.now() + PATIENCE; Date.now() < end; await wait(100)) {
    gauges = await (await fetch(`http://127.0.0.1:${rig.house.adminPort}/metrics`)).text();
    if (/^sallyport_audit_lag_records 0$/m.test(gauges)) break;
  }
  const records = rig.house.records();
  for (const outcome of outcomes.values()) {
    outcome.records = records.filter((r) => r.address === outcome.address && r.path !== "/warm");
    outcome.meetings = [...plain.meetings, ...secure.meetings].filter((m) => m.text.includes(`${outcome.path} `));
  }
});

afterAll(async () => {
  await rig.close();
  await Promise.all([plain.close(), secure.close(), hole.close()]);
});

/** Until no connection of an origin on which this path was asked for is open. */
async function brokenOff(path: string): Promise<void> {
  const open = (): boolean =>
    [...plain.meetings, ...secure.meetings].some((m) => !m.closed && m.text.includes(`${path} `));
  for (const end = Date.now() + PATIENCE; open(); await wait(20))
    if (Date.now() > end) throw new Error(`the origin's connection is still open: ${path}`);
}

/** One request first: a connection that is reset before it was accepted leaves nothing to record. */
async function warm(client: Client): Promise<Client> {
  client.send(`GET http://o.test:${plain.port}/warm HTTP/1.1\r\nHost: o.test:${plain.port}\r\n\r\n`);
  await client.response();
  return client;
}

async function play({ title, fault, way }: (typeof rows)[number]): Promise<void> {
  const path = `/${encodeURIComponent(title)}`;
  const address = rig.newAddress();
  const outcome: Outcome = { address, path, way, status: null, ending: "open", records: [], meetings: [], error: null };
  outcomes.set(title, outcome);
  if (fault.origin !== undefined) scripts.set(path, fault.origin);
  const host = way === "blind tunnel" ? "b.test" : "o.test";
  const { port } = way === "plain" || way === "clear text inside CONNECT" ? plain : secure;
  const at: At = {
    ...{ way, address, host, port, path },
    head: (method = "GET", fields = "") =>
      `${method} ${way === "plain" ? `http://${host}:${port}` : ""}${path} HTTP/1.1\r\nHost: ${host}:${port}\r\n${fields}`,
  };
  try {
    const client = await fault.act(at, async () => {
      const entered = await rig.enter(way, host, port, address);
      return way === "plain" ? warm(entered) : entered;
    });
    if (client === null) return;
    if (fault.status === undefined) outcome.ending = await client.closed();
    else outcome.status = (await client.response()).status;
    client.destroy();
  } catch (error) {
    outcome.error = error as Error;
  }
}

test.each(rows)("$title", ({ title, fault, way }) => {
  const outcome = outcomes.get(title) as Outcome;
  if (outcome.error !== null) throw outcome.error;
  if (fault.status !== undefined) expect(outcome.status).toBe(fault.status);
  const connects = way === "intercepted" || way === "clear text inside CONNECT" ? 1 : 0;
  const opened = outcome.records.filter((r) => r.kind === "connect" && connects === 1);
  expect(opened).toHaveLength(connects);
  const rest = outcome.records.filter((r) => !opened.includes(r));
  expect(rest).toHaveLength(fault.records.length);
  for (const [i, expected] of fault.records.entries()) expect(rest[i]).toMatchObject(expected);
  for (const meeting of outcome.meetings) expect(meeting.closed, "the origin's connection is closed").toBe(true);
  if (fault.soon) expect(rest[0]?.timings.total).toBeLessThan(2_500);
  fault.check?.(outcome.meetings);
});

test("nothing is left open", () => {
  expect(gauges).toMatch(/^sallyport_connections\{side="client"\} 0$/m);
  expect(gauges).toMatch(/^sallyport_connections\{side="origin"\} 0$/m);
  expect(gauges).toMatch(/^sallyport_tunnels 0$/m);
  expect(left).toBeLessThanOrEqual(before);
});
