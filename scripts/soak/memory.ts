// What bodies and connections cost in memory: how far the resident set of the program grows over what it was when it had
// served a little of everything.
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { createGzip } from "node:zlib";
import { askOver, connectTo, securedTo, sessionTo } from "./client.ts";
import { type SoakOrigins, startOrigins } from "./origins.ts";
import { aProgram, OPEN, type Program } from "./program.ts";

const MIB = 1024 * 1024;
const PIECE = Buffer.alloc(262_144, "upload ");

/** Within so many milliseconds all bombs are refused. */
const BOMBS_MS = 10_000;

export interface MemorySizes {
  /** Bytes. */
  readonly down: number;
  readonly up: number;
  /** Down over HTTP/2, and up. */
  readonly second: number;
  readonly slow: number;
  readonly uploads: number;
  readonly uploadsAtOnce: number;
  /** What each bomb becomes. */
  readonly bombs: number;
  readonly bombsAtOnce: number;
  readonly idle: number;
}

/** What the promises are about. */
export const FULL: MemorySizes = {
  down: 1024 * MIB,
  up: 256 * MIB,
  second: 256 * MIB,
  slow: 300 * MIB,
  uploads: 8 * MIB,
  uploadsAtOnce: 200,
  bombs: 1024 * MIB,
  bombsAtOnce: 20,
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
    const searched = `rules: [{ id: searched, allow: ["http://127.0.0.1:${origins.plain}/up"], content: [{ block: secrets }] }]`;
    const policy = `server: { connections-per-client: 10000 }\n${OPEN}${what.includes("bombs") ? searched : ""}\n`;
    const program = await aProgram({ policy }, origins.roots);
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
    await measure(`${text(sizes.second)} down and up over HTTP/2`, 128 * MIB, (program) =>
      growth(program, () => transferOverSecond(program, origins, sizes.second)),
    );
    await measure(`${text(sizes.slow)} to a slow reader`, 64 * MIB, (program) =>
      growth(program, () => slowReader(program, origins, sizes.slow)),
    );
    await measure(
      `${sizes.uploadsAtOnce} uploads of ${text(sizes.uploads)} at once (all of the program)`,
      512 * MIB,
      (p) => uploads(p, origins, sizes),
    );
    const bomb = await gzipOf(sizes.bombs);
    await measure(`${sizes.bombsAtOnce} bombs at once that become ${text(sizes.bombs)} each`, 192 * MIB, (program) =>
      growth(program, () => bombs(program, origins, bomb, sizes.bombsAtOnce)),
    );
    for (const secure of [false, true])
      await measure(`${sizes.idle} idle connections${secure ? " inside TLS" : ""}, each`, 100 * 1024, (program) =>
        idle(program, origins, sizes.idle, secure),
      );
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

async function transferOverSecond(program: Program, origins: SoakOrigins, bytes: number): Promise<void> {
  const session = await sessionTo(program.port, `127.0.0.1:${origins.modern}`, program.ca);
  const down = await askOver(session, `/bytes/${bytes}`);
  if (down.bytes !== bytes) throw new Error(`${down.bytes} bytes came over HTTP/2`);
  const stream = session.request({ ":method": "POST", ":path": "/up" });
  for (let left = bytes; left > 0; left -= PIECE.length)
    if (!stream.write(PIECE.subarray(0, left))) await once(stream, "drain");
  stream.end();
  let taken = "";
  stream.setEncoding("latin1").on("data", (text: string) => {
    taken += text;
  });
  await once(stream, "end");
  if (Number(taken) !== bytes) throw new Error(`the origin took ${taken} bytes over HTTP/2`);
  session.destroy();
}

/** So many zeros, packed. */
async function gzipOf(bytes: number): Promise<Buffer> {
  const zeros = Buffer.alloc(MIB);
  const gzip = createGzip({ level: 9 });
  const pieces: Buffer[] = [];
  gzip.on("data", (b: Buffer) => pieces.push(b));
  for (let left = bytes; left > 0; left -= MIB) if (!gzip.write(zeros)) await once(gzip, "drain");
  gzip.end();
  await once(gzip, "end");
  return Buffer.concat(pieces);
}

/** Uploads for a rule that looks into them: each is refused, and soon. */
async function bombs(program: Program, origins: SoakOrigins, bomb: Buffer, count: number): Promise<void> {
  const host = `127.0.0.1:${origins.plain}`;
  const head = post(host, bomb.length, false).replace(/\r\n$/, "Content-Encoding: gzip\r\n\r\n");
  const began = performance.now();
  const one = async (): Promise<void> => {
    const client = await connectTo(program.port);
    const { status } = await client.ask(head, bomb);
    if (status !== 403) throw new Error(`a bomb was answered ${status}`);
    client.destroy();
  };
  await Promise.all(Array.from({ length: count }, one));
  const took = performance.now() - began;
  if (took > BOMBS_MS) throw new Error(`the bombs took ${Math.round(took)} ms`);
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

async function idle(program: Program, origins: SoakOrigins, count: number, secure: boolean): Promise<number> {
  const host = `127.0.0.1:${secure ? origins.secure : origins.plain}`;
  const open = async () => {
    const client = secure ? await securedTo(program.port, host, program.ca) : await connectTo(program.port);
    await client.ask(get(host, "/idle", secure));
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
