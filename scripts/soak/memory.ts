// What bodies and connections cost in memory: how far the resident set of the program grows over what it was when it had
// served a little of everything.
import { setTimeout as wait } from "node:timers/promises";
import { connectTo, securedTo } from "./client.ts";
import { type SoakOrigins, startOrigins } from "./origins.ts";
import { aProgram, OPEN, type Program } from "./program.ts";

const MIB = 1024 * 1024;
const PIECE = Buffer.alloc(262_144, "upload ");

export interface MemorySizes {
  /** Bytes. */
  readonly down: number;
  readonly up: number;
  readonly slow: number;
  readonly uploads: number;
  readonly uploadsAtOnce: number;
  readonly idle: number;
}

/** What the promises are about. */
export const FULL: MemorySizes = {
  down: 1024 * MIB,
  up: 256 * MIB,
  slow: 300 * MIB,
  uploads: 8 * MIB,
  uploadsAtOnce: 200,
  idle: 2_000,
};

export interface MemoryFigure {
  readonly what: string;
  /** Bytes: growth of the peak, or of the resident set (`each`: divided by the number of connections). */
  readonly grown: number;
  readonly limit: number;
}

/** Measures every figure, each in a program of its own. */
export async function measureMemory(sizes: MemorySizes): Promise<MemoryFigure[]> {
  const origins = await startOrigins();
  const figures: MemoryFigure[] = [];
  const measure = async (what: string, limit: number, work: (program: Program) => Promise<number>): Promise<void> => {
    const program = await aProgram({ policy: `server: { connections-per-client: 10000 }\n${OPEN}` }, origins.roots);
    try {
      await program.start();
      await warmUp(program, origins);
      figures.push({ what, limit, grown: await work(program) });
    } finally {
      await program.close();
    }
  };
  try {
    const text = (bytes: number) => `${Math.round(bytes / MIB)} MiB`;
    await measure(`${text(sizes.down)} down and ${text(sizes.up)} up, intercepted`, 128 * MIB, (program) =>
      growth(program, () => transfer(program, origins, sizes)),
    );
    await measure(`${text(sizes.slow)} to a slow reader`, 64 * MIB, (program) =>
      growth(program, () => slowReader(program, origins, sizes.slow)),
    );
    await measure(
      `${sizes.uploadsAtOnce} uploads of ${text(sizes.uploads)} at once (all of the program)`,
      512 * MIB,
      (p) => uploads(p, origins, sizes),
    );
    await measure(`${sizes.idle} idle connections, each`, 100 * 1024, (program) => idle(program, origins, sizes.idle));
  } finally {
    await origins.close();
  }
  return figures;
}

const get = (host: string, path: string, secure: boolean): string =>
  `GET ${secure ? "" : `http://${host}`}${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const post = (host: string, length: number, secure: boolean): string =>
  `POST ${secure ? "" : `http://${host}`}/up HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${length}\r\n\r\n`;

async function warmUp(program: Program, origins: SoakOrigins): Promise<void> {
  const plain = `127.0.0.1:${origins.plain}`;
  const secure = `127.0.0.1:${origins.secure}`;
  const client = await connectTo(program.port);
  const inside = await securedTo(program.port, secure, program.ca);
  for (let i = 0; i < 200; i++) {
    await client.ask(get(plain, "/bytes/10000", false));
    await inside.ask(get(secure, "/bytes/10000", true));
  }
  await client.upload(post(plain, MIB, false), MIB, PIECE);
  client.destroy();
  inside.destroy();
  await wait(300);
}

/** Growth of the resident set while the work goes on, sampled; the peak since the start of the process says nothing here. */
async function growth(program: Program, work: () => Promise<void>): Promise<number> {
  const before = program.memory().now;
  let most = before;
  const sampling = setInterval(() => {
    if (program.running) most = Math.max(most, program.memory().now);
  }, 20);
  await work();
  clearInterval(sampling);
  return Math.max(most, program.memory().now) - before;
}

async function transfer(program: Program, origins: SoakOrigins, sizes: MemorySizes): Promise<void> {
  const host = `127.0.0.1:${origins.secure}`;
  const client = await securedTo(program.port, host, program.ca);
  const down = await client.ask(get(host, `/bytes/${sizes.down}`, true));
  if (down.bytes !== sizes.down) throw new Error(`${down.bytes} bytes came`);
  const up = await client.upload(post(host, sizes.up, true), sizes.up, PIECE);
  if (up.status !== 200) throw new Error(`the upload was answered ${up.status}`);
  client.destroy();
}

async function slowReader(program: Program, origins: SoakOrigins, bytes: number): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const client = await connectTo(program.port);
  const answer = client.ask(get(host, `/bytes/${bytes}`, false));
  // Stands still for a second at a time at first; then reads on.
  for (let i = 0; i < 5; i++) {
    client.socket.pause();
    await wait(1_000);
    client.socket.resume();
    await wait(20);
  }
  if ((await answer).bytes !== bytes) throw new Error("the download was cut");
  client.destroy();
}

async function uploads(program: Program, origins: SoakOrigins, sizes: MemorySizes): Promise<number> {
  const host = `127.0.0.1:${origins.plain}`;
  let most = 0;
  const sampling = setInterval(() => {
    if (program.running) most = Math.max(most, program.memory().now);
  }, 20);
  const one = async (): Promise<void> => {
    const client = await connectTo(program.port);
    const { status } = await client.upload(post(host, sizes.uploads, false), sizes.uploads, PIECE);
    if (status !== 200) throw new Error(`an upload was answered ${status}`);
    client.destroy();
  };
  await Promise.all(Array.from({ length: sizes.uploadsAtOnce }, one));
  clearInterval(sampling);
  return most;
}

async function idle(program: Program, origins: SoakOrigins, count: number): Promise<number> {
  const host = `127.0.0.1:${origins.plain}`;
  const open = async () => {
    const client = await connectTo(program.port);
    await client.ask(get(host, "/idle", false));
    return client;
  };
  const before = program.memory().now;
  const clients = [];
  for (let i = 0; i < count; i += 50) clients.push(...(await Promise.all(Array.from({ length: 50 }, open))));
  await wait(300);
  const each = (program.memory().now - before) / count;
  for (const client of clients) client.destroy();
  return each;
}
