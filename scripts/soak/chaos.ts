// Everybody misbehaves: clients leave at any moment in any way, origins break off, hang and lie, in clear text, TLS, HTTP/2 and
// WebSockets, with and without content rules. Afterwards each request that an origin saw has exactly one record, no answer that
// broke is recorded as whole, and nothing is left open.
import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { WebSocket } from "ws";
import type { AuditRecord } from "../../src/audit/record.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { Random } from "../../test/fuzz/random.ts";
import { type ChaosOrigins, startChaosOrigins } from "./chaos-origins.ts";
import { connectTo, securedTo, sessionTo } from "./client.ts";
import { aProgram, type Program } from "./program.ts";

export interface ChaosReport {
  readonly seed: number;
  /** Requests that clients began, by kind, and those that an origin saw. */
  readonly begun: Readonly<Record<string, number>>;
  readonly seen: number;
  readonly problems: readonly string[];
}

/** Milliseconds in which everything that is open ends by itself; the limits of the policy are shorter. */
const SETTLE = 20_000;

const policyOf = ({ plain, secure, modern }: ChaosOrigins): string => {
  const searched = [`http://127.0.0.1:${plain}`, `https://127.0.0.1:${secure}`, `https://127.0.0.1:${modern}`];
  return `server: { connections-per-client: 10000, header-timeout: 3s, idle-timeout: 4s }
defaults: { action: allow, limits: { idle: 2s } }
network: { allow: [127.0.0.0/8] }
rules:
  - id: searched
    allow: [${searched.map((origin) => `"${origin}/searched/**"`).join(", ")}]
    content: [{ block: { text: malicious_pattern } }, { redact: { text: lorem, with: '-' } }]
`;
};

/** Runs it for so many seconds with so many clients at once. The program is built already. */
export async function chaos(seconds: number, clients = 16, seed = Date.now() >>> 0): Promise<ChaosReport> {
  const dice = new Random(seed);
  const origins = await startChaosOrigins(dice);
  const program = await aProgram({ policy: policyOf(origins) }, origins.roots);
  const begun: Record<string, number> = {};
  try {
    await program.start();
    const run = new Clients(program, origins, dice);
    const until = performance.now() + seconds * 1_000;
    const worker = async (): Promise<void> => {
      while (performance.now() < until) {
        const kind = KINDS[dice.below(KINDS.length)] as (typeof KINDS)[number];
        begun[kind] = (begun[kind] ?? 0) + 1;
        // Whatever a client meets is part of it; what counts is what is written down.
        await run[kind]().catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: clients }, worker));
    const open = await leftOpen(program);
    await program.end("SIGTERM");
    return { seed, begun, seen: origins.seen.size, problems: [...open, ...judge(program, origins)] };
  } finally {
    await program.close();
    origins.close();
  }
}

// ---- afterwards ---------------------------------------------------------------------------------------------------------

async function leftOpen(program: Program): Promise<string[]> {
  const gauges = ["client", "origin"].map((side) => `sallyport_connections{side="${side}"}`);
  for (const end = performance.now() + SETTLE; ; await wait(200)) {
    const lines = (await program.metrics()).split("\n");
    const open = gauges.filter((gauge) => !lines.includes(`${gauge} 0`));
    // Connections to origins are kept for a while, on purpose.
    if (!open.includes(gauges[0] as string)) return [];
    if (performance.now() > end) return open.map((gauge) => `left open: ${gauge}`);
  }
}

function judge(program: Program, origins: ChaosOrigins): string[] {
  const exchanges = new Map<string, AuditRecord[]>();
  const upgrades = new Map<string, number>();
  const problems: string[] = [];
  const reader = new AuditReader(program.data);
  for (const { record } of reader.oldest({})) {
    const path = record.path ?? "";
    if (record.reason === "internal") problems.push(`internal: ${record.error}`);
    if (record.kind === "upgrade") upgrades.set(path, (upgrades.get(path) ?? 0) + 1);
    if (record.kind === "exchange") exchanges.set(path, [...(exchanges.get(path) ?? []), record]);
  }
  reader.close();
  for (const [path, [record, ...more]] of exchanges) {
    if (record === undefined) continue;
    if (more.length > 0) problems.push(`${path}: ${more.length + 1} records`);
    const broke = record.reason !== null && record.status === 200;
    if (broke && record.received.complete) problems.push(`${path}: ${record.reason}, and recorded as whole`);
    if (record.status === 101 && upgrades.get(path) !== 1)
      problems.push(`${path}: a 101 without one record of what followed`);
  }
  for (const [path, times] of origins.seen) {
    const record = exchanges.get(path)?.[0];
    const twice = record?.notes.some((note) => note.startsWith("retried:")) ?? false;
    if (record === undefined) problems.push(`${path}: an origin saw it, and there is no record`);
    else if (times > (twice ? 2 : 1)) problems.push(`${path}: an origin saw it ${times} times, ${record.notes}`);
  }
  return problems;
}

// ---- what clients do ----------------------------------------------------------------------------------------------------

const KINDS = ["clear", "secured", "second", "webSocket"] as const;

class Clients {
  private readonly program: Program;
  private readonly origins: ChaosOrigins;
  private readonly dice: Random;
  private serial = 0;

  constructor(program: Program, origins: ChaosOrigins, dice: Random) {
    this.program = program;
    this.origins = origins;
    this.dice = dice;
  }

  /** Each path once, so that it can be found again. */
  private path(kind: string): string {
    return `${this.dice.chance(0.5) ? "/searched" : ""}/${kind}/${++this.serial}`;
  }
  private get content(): string {
    return this.dice.chance(0.5) ? "x" : "gz";
  }

  async clear(): Promise<void> {
    const host = `127.0.0.1:${this.origins.plain}`;
    await this.pipeline((await connectTo(this.program.port)).socket, host, `http://${host}`);
  }

  async secured(): Promise<void> {
    const host = `127.0.0.1:${this.origins.secure}`;
    await this.pipeline((await securedTo(this.program.port, host, this.program.ca)).socket, host, "");
  }

  /** Up to three requests in one write, some of them not whole. */
  private async pipeline(socket: Socket, host: string, prefix: string): Promise<void> {
    const { dice } = this;
    socket.on("error", () => {});
    for (let i = dice.below(3); i >= 0; i--) {
      const length = dice.chance(0.3) ? dice.below(50_000) : 0;
      const expects = length > 0 && dice.chance(0.25) ? "Expect: 100-continue\r\n" : "";
      const line = `${length > 0 ? "POST" : "GET"} ${prefix}${this.path(this.content)} HTTP/1.1\r\nHost: ${host}\r\n`;
      const sent = dice.chance(0.2) ? length >> 1 : length;
      socket.write(`${line}Content-Length: ${length}\r\n${expects}\r\n${"y".repeat(sent)}`);
    }
    await this.leave(() => {
      const manner = dice.below(3);
      if (manner === 0) socket.end();
      else if (manner === 1 && !("encrypted" in socket)) socket.resetAndDestroy();
      else socket.destroy();
    });
    socket.destroy();
  }

  /** Up to six requests at once, some of them reset. */
  async second(): Promise<void> {
    const { dice, program, origins } = this;
    const port = dice.chance(0.5) ? origins.modern : origins.secure;
    const session = await sessionTo(program.port, `127.0.0.1:${port}`, program.ca);
    for (let i = dice.below(6); i >= 0; i--) {
      const head = { ":method": dice.chance(0.6) ? "GET" : "POST", ":path": this.path(this.content) };
      const stream = session.request(head, { endStream: false });
      stream.on("error", () => {}).resume();
      if (dice.chance(0.7)) stream.write("z".repeat(dice.below(40_000)));
      if (dice.chance(0.7)) stream.end();
      if (dice.chance(0.3)) setTimeout(() => stream.close(dice.chance(0.5) ? 8 : 0), dice.below(20));
    }
    await this.leave(() => (dice.chance(0.5) ? session.destroy() : session.close()));
    session.destroy();
  }

  async webSocket(): Promise<void> {
    const { dice, program, origins } = this;
    const secure = dice.chance(0.5);
    const host = `127.0.0.1:${secure ? origins.secure : origins.plain}`;
    const client = secure ? await securedTo(program.port, host, program.ca) : await connectTo(program.port);
    const { socket } = client;
    socket.removeAllListeners("data").on("error", () => {});
    const path = this.path("ws");
    const opened = new WebSocket(`ws://${host}${path}`, {
      createConnection: () => socket,
      finishRequest: (request) => {
        if (!secure) request.path = `http://${host}${path}`;
        request.end();
      },
    });
    opened.on("error", () => {});
    opened.on("open", () => {
      for (let i = dice.below(5); i > 0; i--)
        opened.send(dice.chance(0.1) ? "malicious_pattern" : "lorem ".repeat(dice.below(5_000)));
      if (dice.chance(0.5)) opened.close(4_000);
    });
    await this.leave(() => (dice.chance(0.5) ? opened.terminate() : socket.destroy()));
    opened.terminate();
    socket.destroy();
    if (opened.readyState !== WebSocket.CLOSED) await once(opened, "close");
  }

  /** Two in three leave within a moment; the others stay for what they get. */
  private async leave(how: () => void): Promise<void> {
    if (this.dice.chance(0.66)) {
      await wait(this.dice.below(25));
      how();
    } else await wait(200);
  }
}
