// kill -9 under load, again and again, or other trouble: whatever was answered is in the log afterwards, the chain holds, the database
// is whole.
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { verifyLog } from "../../src/edge/audit/verify.ts";
import { askOver, connectTo, type SoakClient, securedTo, sessionTo, webSocketOver } from "./client.ts";
import { type SoakOrigins, startOrigins } from "./origins.ts";
import { aProgram, OPEN, type Program } from "./program.ts";

export interface KillReport {
  readonly kills: number;
  /** Requests whose whole answer reached a client: in clear text, in TLS, over HTTP/2, refused, handshakes of WebSockets. */
  readonly answered: number;
  /** The same by kind. */
  readonly answeredBy: Readonly<Record<string, number>>;
  /** Of these, how many are not in the log, and how many are there twice. */
  readonly missing: readonly string[];
  readonly twice: readonly string[];
  readonly records: number;
  /** What `verify` and SQLite say. */
  readonly chain: string | null;
  readonly integrity: string;
  /** Milliseconds from each start to the first answer. */
  readonly firstAnswers: readonly number[];
  /** The program's CPU time until then: what it takes when a core is free for it. */
  readonly firstAnswersCpu: readonly number[];
}

export interface KillOptions {
  readonly kills: number;
  /** Clients at once, of five kinds. */
  readonly clients: number;
  /** Milliseconds of load before each kill: this, and up to as much again. */
  readonly load: number;
  /** What is done to the program that runs, in place of killing and starting it. */
  readonly trouble?: (program: Program) => Promise<void>;
  /** See `ProgramOptions`. */
  readonly before?: string;
}

/** Runs it. The program is built already. */
export async function killLoop(options: KillOptions): Promise<KillReport> {
  const origins = await startOrigins();
  const policy = `server: { connections-per-client: 10000 }
${OPEN}rules: [{ id: denied, deny: ["http://127.0.0.1:${origins.plain}/denied/**"], reason: for the soak }]
`;
  const { trouble, before: shell = "" } = options;
  const program = await aProgram({ policy, before: shell }, origins.roots);
  const answered: string[] = [];
  const firstAnswers: number[] = [];
  const firstAnswersCpu: number[] = [];
  let over = false;
  const clients = Array.from({ length: options.clients }, (_, n) => client(n));
  try {
    for (let i = 0; i <= options.kills; i++) {
      if (!program.running) await startTimed();
      await wait(options.load * (1 + Math.random()));
      if (i < options.kills) await (trouble?.(program) ?? program.end("SIGKILL"));
    }
    over = true;
    await Promise.all(clients);
    await program.end("SIGTERM");
    return {
      kills: options.kills,
      answered: answered.length,
      answeredBy: byKind(answered),
      firstAnswers,
      firstAnswersCpu,
      ...check(program, answered),
    };
  } finally {
    over = true;
    await program.close();
    await Promise.all(clients);
    await origins.close();
  }

  /** Starts it, and waits until somebody was answered. */
  async function startTimed(): Promise<void> {
    const started = performance.now();
    const before = answered.length;
    await program.start();
    while (answered.length === before) {
      if (!program.running) throw new Error(`it ended by itself: ${program.errors}`);
      await wait(2);
    }
    firstAnswers.push(performance.now() - started);
    firstAnswersCpu.push(program.cpu() * 1_000);
  }

  /** Asks until it is over; each path once. */
  async function client(n: number): Promise<void> {
    for (let i = 0; !over; ) {
      const asker = await kindOf(n)[1](program, origins).catch(() => null);
      try {
        for (; asker && !over; i++) {
          const path = `/k/${n}/${i}`;
          if (await asker.ask(path)) answered.push(path);
        }
      } catch {
        i++; // asked, and not answered: it may be in the log
      }
      asker?.close();
      if (!over) await wait(50); // it is down: try again
    }
  }
}

/** One connection, or as many as it needs. `ask`: false when the answer is of the wrong kind; rejects when it broke off. */
interface Asker {
  ask(path: string): Promise<boolean>;
  close(): void;
}
type Opens = (program: Program, origins: SoakOrigins) => Promise<Asker>;

const overFirst =
  (open: (program: Program, host: string) => Promise<SoakClient>, at: "plain" | "secure", wanted = 200): Opens =>
  async (program, origins) => {
    const host = `127.0.0.1:${origins[at]}`;
    const client = await open(program, host);
    const where = `${at === "plain" ? `http://${host}` : ""}${wanted === 200 ? "" : "/denied"}`;
    return {
      ask: async (path) =>
        (await client.ask(`GET ${where}${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).status === wanted,
      close: () => client.destroy(),
    };
  };

const overSecond: Opens = async (program, origins) => {
  const session = await sessionTo(program.port, `127.0.0.1:${origins.modern}`, program.ca);
  return {
    ask: async (path) => (await askOver(session, path)).status === 200,
    close: () => session.destroy(),
  };
};

/** Opened, spoken to and closed: the handshake is an answer. */
const webSockets: Opens = async (program, origins) => ({
  async ask(path) {
    const { socket } = await connectTo(program.port);
    const open = await webSocketOver(socket, `127.0.0.1:${origins.plain}`, path);
    open.send("hello");
    await Promise.race([once(open, "message"), once(open, "close")]);
    open.close();
    return true;
  },
  close() {},
});

const KINDS: readonly (readonly [string, Opens])[] = [
  ["in clear text", overFirst((program) => connectTo(program.port), "plain")],
  ["in TLS", overFirst((program, host) => securedTo(program.port, host, program.ca), "secure")],
  ["over HTTP/2", overSecond],
  ["refused", overFirst((program) => connectTo(program.port), "plain", 403)],
  ["WebSockets", webSockets],
];

const kindOf = (client: number): readonly [string, Opens] => KINDS[client % KINDS.length] as (typeof KINDS)[number];

function byKind(paths: readonly string[]): Record<string, number> {
  const by: Record<string, number> = Object.fromEntries(KINDS.map(([name]) => [name, 0]));
  for (const path of paths) {
    const [name] = kindOf(Number(path.split("/")[2]));
    by[name] = (by[name] ?? 0) + 1;
  }
  return by;
}

function check(program: Program, answered: readonly string[]) {
  const reader = new AuditReader(program.data);
  try {
    const seen = new Map<string, number>();
    let records = 0;
    for (const { record } of reader.oldest({})) {
      records++;
      const path = record.path?.replace(/^\/denied/, "") ?? null;
      if (record.kind === "exchange" && path !== null) seen.set(path, (seen.get(path) ?? 0) + 1);
    }
    const { problem } = verifyLog(program.data, reader, { key: null, head: null });
    return {
      records,
      missing: answered.filter((path) => !seen.has(path)),
      twice: [...seen].filter(([, count]) => count > 1).map(([path]) => path),
      chain: problem === null ? null : JSON.stringify(problem),
      integrity: integrityOf(program),
    };
  } finally {
    reader.close();
  }
}

function integrityOf(program: Program): string {
  const db = new Database(join(program.data, "audit.db"), { readonly: true });
  try {
    return String(db.pragma("integrity_check", { simple: true }));
  } finally {
    db.close();
  }
}
