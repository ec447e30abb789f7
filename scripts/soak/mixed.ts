// Everything at once for a time: plain, intercepted, over HTTP/2, uploads, blind tunnels, WebSockets, refusals, clients that
// leave. Afterwards there is one record for each, and neither memory nor descriptors have grown.
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { askOver, connectTo, SoakClient, securedTo, sessionTo, tunnelTo, webSocketOver } from "./client.ts";
import { type SoakOrigins, startOrigins } from "./origins.ts";
import { aProgram, type Program } from "./program.ts";

const MIB = 1024 * 1024;
const PIECE = Buffer.alloc(65_536, "x");
/** Milliseconds in which connections that nobody uses are closed. */
const SETTLE = 15_000;
/** Growth of the resident set from the first third to the last that counts as flat. */
const FLAT = 48 * MIB;

export interface MixedReport {
  readonly seconds: number;
  /** What clients did, by the kind of record that it must leave. */
  readonly expected: Readonly<Record<string, number>>;
  readonly recorded: Readonly<Record<string, number>>;
  readonly unexpected: readonly string[];
  /** Bytes: in the middle of the first third, and at the lowest of the last. */
  readonly memoryEarly: number;
  readonly memoryLate: number;
  readonly descriptorsBefore: number;
  readonly descriptorsAfter: number;
  readonly problems: readonly string[];
}

class Counted {
  readonly by: Record<string, number> = {};
  readonly unexpected: string[] = [];
  add(kind: string): void {
    this.by[kind] = (this.by[kind] ?? 0) + 1;
  }
  wrong(text: string): void {
    if (this.unexpected.length < 20) this.unexpected.push(text);
  }
}

/** Runs it for so many seconds. */
export async function mixedTraffic(seconds: number, clients = 12): Promise<MixedReport> {
  const origins = await startOrigins();
  const program = await aProgram(
    {
      policy: `server: { connections-per-client: 10000 }
defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: denied, deny: ["http://127.0.0.1:${origins.plain}/denied/**"], reason: for the soak }
  - { id: blind, allow: ["https://localhost:${origins.secure}"], tunnel: { reason: for the soak } }
`,
    },
    origins.roots,
  );
  const counted = new Counted();
  try {
    await program.start();
    return await observe(program, origins, counted, seconds, clients);
  } finally {
    await program.close();
    await origins.close();
  }
}

async function observe(program: Program, origins: SoakOrigins, counted: Counted, seconds: number, clients: number) {
  const until = performance.now() + seconds * 1_000;
  const kinds = [plain, intercepted, second, upload, tunnel, webSocket, refused, leaver, resetter];
  // Whatever is loaded or made at first use is there before anything is measured.
  for (const kind of kinds) await kind(program, origins, counted);
  await wait(500);
  const descriptorsBefore = program.descriptors();
  const worker = async (n: number): Promise<void> => {
    for (let i = n; performance.now() < until; i++) {
      try {
        await kinds[i % kinds.length]?.(program, origins, counted);
      } catch (error) {
        counted.wrong(`${kinds[i % kinds.length]?.name}: ${(error as Error).message}`);
      }
    }
  };
  const samples: number[] = [];
  const sampling = setInterval(() => samples.push(program.memory().now), 250);
  await Promise.all(Array.from({ length: clients }, (_, n) => worker(n)));
  clearInterval(sampling);
  program.child?.kill("SIGHUP"); // a reload lets idle origin connections go
  for (const end = performance.now() + SETTLE; performance.now() < end; await wait(100))
    if (program.descriptors() <= descriptorsBefore) break;
  const descriptorsAfter = program.descriptors();
  await program.end("SIGTERM");
  return report(program, counted, { seconds, samples, descriptorsBefore, descriptorsAfter });
}

function report(
  program: Program,
  counted: Counted,
  seen: { seconds: number; samples: number[]; descriptorsBefore: number; descriptorsAfter: number },
): MixedReport {
  const recorded = recordsByKind(program);
  const third = Math.max(1, Math.floor(seen.samples.length / 3));
  const middle = (list: number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;
  const memoryEarly = middle(seen.samples.slice(0, third));
  // The collector lets it rise and fall by some 50 MiB: what is really kept shows where it is lowest.
  const memoryLate = Math.min(...seen.samples.slice(-third));
  const problems = [
    ...Object.entries(counted.by)
      .filter(([kind, count]) => recorded[kind] !== count)
      .map(([kind, count]) => `${count} ${kind}, and ${recorded[kind] ?? 0} records of them`),
    ...(counted.unexpected.length > 0 ? ["clients got something else than they should"] : []),
    ...(memoryLate - memoryEarly > FLAT ? ["memory grew"] : []),
    ...(seen.descriptorsAfter > seen.descriptorsBefore + 2 ? ["descriptors were left open"] : []),
  ];
  const { seconds, descriptorsBefore, descriptorsAfter } = seen;
  return {
    ...{ seconds, expected: counted.by, recorded, unexpected: counted.unexpected, memoryEarly, memoryLate },
    ...{ descriptorsBefore, descriptorsAfter, problems },
  };
}

function recordsByKind(program: Program): Record<string, number> {
  const by: Record<string, number> = {};
  const reader = new AuditReader(program.data);
  try {
    for (const { record } of reader.oldest({})) {
      const verb = record.path?.split("/")[1] ?? "";
      const kind = record.kind === "connect" ? (record.uninspected ? "tunnel" : "connect") : `${record.kind} ${verb}`;
      by[kind] = (by[kind] ?? 0) + 1;
    }
  } finally {
    reader.close();
  }
  return by;
}

// ---- what clients do ----------------------------------------------------------------------------------------------------

const line = (method: string, host: string, path: string, absolute: boolean, fields = ""): string =>
  `${method} ${absolute ? `http://${host}` : ""}${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;

async function plain(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const client = await connectTo(program.port);
  for (const size of [0, 100, 20_000, 300_000]) {
    const { status, bytes } = await client.ask(line("GET", host, `/bytes/${size}`, true));
    counted.add("exchange bytes");
    if (status !== 200 || bytes !== size) counted.wrong(`plain: ${status}, ${bytes} of ${size}`);
  }
  client.destroy();
}

async function intercepted(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `127.0.0.1:${origins.secure}`;
  const client = await securedTo(program.port, host, program.ca);
  counted.add("connect");
  for (const size of [10, 5_000, 500_000]) {
    const { status, bytes } = await client.ask(line("GET", host, `/bytes/${size}`, false));
    counted.add("exchange bytes");
    if (status !== 200 || bytes !== size) counted.wrong(`intercepted: ${status}, ${bytes} of ${size}`);
  }
  client.destroy();
}

/** HTTP/2, several requests at once, to an origin of HTTP/2 and to one of HTTP/1.1. */
async function second(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  for (const port of [origins.modern, origins.secure]) {
    const session = await sessionTo(program.port, `127.0.0.1:${port}`, program.ca);
    counted.add("connect");
    const sizes = [0, 10, 5_000, 300_000];
    const answers = await Promise.all(sizes.map((size) => askOver(session, `/bytes/${size}`)));
    for (const [i, { status, bytes }] of answers.entries()) {
      counted.add("exchange bytes");
      if (status !== 200 || bytes !== sizes[i]) counted.wrong(`HTTP/2: ${status}, ${bytes} of ${sizes[i]}`);
    }
    session.destroy();
  }
}

/** Resets its stream while it waits; the others of the session go on. */
async function resetter(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const session = await sessionTo(program.port, `127.0.0.1:${origins.modern}`, program.ca);
  counted.add("connect");
  const stream = session.request({ ":path": "/slow/400" }).on("error", () => {});
  counted.add("exchange slow");
  await wait(100);
  stream.close(8);
  const { status, bytes } = await askOver(session, "/bytes/1000");
  counted.add("exchange bytes");
  if (status !== 200 || bytes !== 1_000) counted.wrong(`resetter: ${status}, ${bytes}`);
  session.destroy();
}

/** In clear text and in TLS: two messages that come back, and a close in order. */
async function webSocket(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const secure = `127.0.0.1:${origins.secure}`;
  const clear = await connectTo(program.port);
  const inside = await securedTo(program.port, secure, program.ca);
  counted.add("connect");
  for (const [client, host] of [
    [clear, `127.0.0.1:${origins.plain}`],
    [inside, secure],
  ] as const) {
    const open = await webSocketOver(client.socket, host, "/talk");
    for (const text of ["hello", "x".repeat(100_000)]) {
      open.send(text);
      const [data] = (await once(open, "message")) as [Buffer];
      if (data.length !== text.length) counted.wrong(`WebSocket: ${data.length} of ${text.length}`);
    }
    open.close(4_000);
    const [code] = await once(open, "close");
    if (code !== 4_000) counted.wrong(`WebSocket: closed with ${code}`);
    counted.add("exchange talk");
    counted.add("upgrade talk");
  }
}

async function upload(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const client = await connectTo(program.port);
  const size = 400_000;
  const head = line("POST", host, "/up", true, `Content-Length: ${size}\r\n`);
  const { status } = await client.upload(head, size, PIECE);
  counted.add("exchange up");
  if (status !== 200) counted.wrong(`upload: ${status}`);
  client.destroy();
}

async function tunnel(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `localhost:${origins.secure}`;
  const socket = await tunnelTo(program.port, host);
  counted.add("tunnel");
  const secured = tls.connect({ socket, ca: origins.roots, servername: "localhost" });
  const client = new SoakClient(secured);
  const { status, bytes } = await client.ask(line("GET", host, "/bytes/50000", false));
  if (status !== 200 || bytes !== 50_000) counted.wrong(`tunnel: ${status}, ${bytes}`);
  client.destroy();
}

async function refused(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const client = await connectTo(program.port);
  const { status } = await client.ask(line("GET", host, "/denied/x", true));
  counted.add("exchange denied");
  if (status !== 403) counted.wrong(`refused: ${status}`);
  client.destroy();
}

/** Leaves while it waits. */
async function leaver(program: Program, origins: SoakOrigins, counted: Counted): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const client = await connectTo(program.port);
  const answer = client.ask(line("GET", host, "/slow/400", true)).then(
    () => counted.wrong("leaver: it was answered"),
    () => {},
  );
  counted.add("exchange slow");
  await wait(150);
  client.destroy();
  await answer;
}
