// kill -9 under load, again and again: whatever was answered is in the log afterwards, the chain holds, the database is whole.
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { verifyLog } from "../../src/edge/audit/verify.ts";
import { connectTo, securedTo } from "./client.ts";
import { startOrigins } from "./origins.ts";
import { aProgram, OPEN, type Program } from "./program.ts";

export interface KillReport {
  readonly kills: number;
  /** Requests whose whole answer reached a client. */
  readonly answered: number;
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
  /** Clients at once, half of them over TLS. */
  readonly clients: number;
  /** Milliseconds of load before each kill: this, and up to as much again. */
  readonly load: number;
}

/** Runs it. The program is built already. */
export async function killLoop(options: KillOptions): Promise<KillReport> {
  const origins = await startOrigins();
  const program = await aProgram({ policy: `server: { connections-per-client: 10000 }\n${OPEN}` }, origins.roots);
  const answered: string[] = [];
  const firstAnswers: number[] = [];
  const firstAnswersCpu: number[] = [];
  let over = false;
  const clients = Array.from({ length: options.clients }, (_, n) => client(n));
  try {
    for (let i = 0; i <= options.kills; i++) {
      const started = performance.now();
      const before = answered.length;
      await program.start();
      while (answered.length === before) {
        if (!program.running) throw new Error(`it ended by itself: ${program.errors}`);
        await wait(2);
      }
      firstAnswers.push(performance.now() - started);
      firstAnswersCpu.push(program.cpu() * 1_000);
      await wait(options.load * (1 + Math.random()));
      if (i < options.kills) await program.end("SIGKILL");
    }
    over = true;
    await Promise.all(clients);
    await program.end("SIGTERM");
    return {
      kills: options.kills,
      answered: answered.length,
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

  async function client(n: number): Promise<void> {
    const secure = n % 2 === 1;
    const host = `127.0.0.1:${secure ? origins.secure : origins.plain}`;
    for (let i = 0; !over; i++) {
      try {
        const open = secure ? await securedTo(program.port, host, program.ca) : await connectTo(program.port);
        for (; !over; i++) {
          const path = `/k/${n}/${i}`;
          const head = `GET ${secure ? "" : `http://${host}`}${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
          const { status } = await open.ask(head);
          if (status === 200) answered.push(path);
        }
        open.destroy();
      } catch {
        await wait(50); // it is down: try again
      }
    }
  }
}

function check(program: Program, answered: readonly string[]) {
  const reader = new AuditReader(program.data);
  try {
    const seen = new Map<string, number>();
    let records = 0;
    for (const { record } of reader.oldest({})) {
      records++;
      if (record.kind === "exchange" && record.path !== null) seen.set(record.path, (seen.get(record.path) ?? 0) + 1);
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
