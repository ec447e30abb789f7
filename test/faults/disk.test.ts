// The disk and the clock go wrong under a running program: full, read-only, locked, corrupt, back in time. It stays up, answers
// nothing that it cannot record, says so, and goes on alone when it can again.

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connectTo, webSocketOver } from "../../scripts/soak/client.ts";
import { killLoop } from "../../scripts/soak/kill-loop.ts";
import { type SoakOrigins, startOrigins } from "../../scripts/soak/origins.ts";
import { aProgram, type Program, type ProgramOptions } from "../../scripts/soak/program.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { verifyLog } from "../../src/edge/audit/verify.ts";
import { PATIENCE } from "../support/patience.ts";

let origins: SoakOrigins;
let program: Program;
beforeAll(async () => {
  origins = await startOrigins();
});
afterAll(() => origins.close());
/** Undoes what a disk needed. */
let undo: () => void = () => {};
afterEach(async () => {
  undo();
  undo = () => {};
  await program?.close();
});

async function started(options: ProgramOptions = {}): Promise<void> {
  program = await aProgram(options);
  await program.start();
}

/** The status that a request gets now; null: the connection broke. */
async function ask(path: string): Promise<number | null> {
  try {
    const client = await connectTo(program.port);
    const host = `127.0.0.1:${origins.plain}`;
    const head = `GET http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    const { status } = await client.ask(head);
    client.destroy();
    return status;
  } catch {
    return null;
  }
}

/** Asks until the answer is this one. Milliseconds that it took, and what was answered on the way. */
async function until(
  wanted: number,
  what: string,
  patience = PATIENCE,
): Promise<{ took: number; on: Map<number | null, string[]> }> {
  const started = Date.now();
  const on = new Map<number | null, string[]>();
  for (let i = 0; Date.now() - started < patience; i++) {
    const path = `/${what}/${i}`;
    const status = await ask(path);
    on.set(status, [...(on.get(status) ?? []), path]);
    if (status === wanted) return { took: Date.now() - started, on };
    await wait(20);
  }
  throw new Error(`never ${wanted}: ${JSON.stringify([...on].map(([s, p]) => [s, p.length]))}; ${program.errors}`);
}

async function paths(): Promise<Set<string>> {
  await program.end("SIGTERM");
  const reader = new AuditReader(program.data);
  try {
    expect(verifyLog(program.data, reader, { key: null, head: null }).problem).toBeNull();
    return new Set([...reader.oldest({})].flatMap(({ record }) => record.path ?? []));
  } finally {
    reader.close();
  }
}

const limitFiles = (bytes: string): void => {
  const { status } = spawnSync("prlimit", ["--pid", String(program.pid), `--fsize=${bytes}:`]);
  expect(status).toBe(0);
};

/** A way to make the disk full, and to make room again; `options` for the program, once it is made. */
interface FullDisk {
  readonly name: string;
  readonly options?: ProgramOptions;
  before(): void;
  fill(): void;
  free(): void;
  after(): void;
}

const LIMIT: FullDisk = {
  name: "no file may grow",
  options: { before: "trap '' XFSZ" },
  before: () => {},
  fill: () => limitFiles("1"),
  free: () => limitFiles("unlimited"),
  after: () => {},
};

const run = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;

/** A file system of 4 MB, where this machine lets us have one: what is said then is ENOSPC. */
const SMALL: FullDisk = {
  name: "a small file system is full",
  before: () => expect(run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", program.data)).toBe(true),
  fill: () => void spawnSync("dd", ["if=/dev/zero", `of=${program.data}/filling`, "bs=4096"]),
  free: () => rmSync(join(program.data, "filling")),
  after: () => void run("umount", "--lazy", program.data),
};

function disks(): FullDisk[] {
  const probe = mkdtempSync(join(tmpdir(), "sallyport-mount-"));
  const can = run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", probe);
  if (can) run("umount", probe);
  rmSync(probe, { recursive: true });
  if (!can) console.warn("not tested here, since nothing can be mounted: a file system that is really full (ENOSPC)");
  return can ? [LIMIT, SMALL] : [LIMIT];
}

/** A program that runs on this disk. */
async function startedOn(disk: FullDisk, policy?: string): Promise<void> {
  program = await aProgram({ ...disk.options, ...(policy === undefined ? {} : { policy }) });
  undo = disk.after;
  disk.before();
  await program.start();
}

const readyz = async (): Promise<{ status: number; problems: { name: string; blocks: boolean }[] }> => {
  const answer = await fetch(`http://127.0.0.1:${program.adminPort}/readyz`);
  return { status: answer.status, ...((await answer.json()) as { problems: { name: string; blocks: boolean }[] }) };
};

describe.each(disks())("$name", (disk) => {
  test("a full disk: no 200 without a record, /readyz says it, and space brings everything back within 6 s", async () => {
    await startedOn(disk);
    expect(await ask("/before")).toBe(200);
    disk.fill();
    const full = await until(503, "full");
    for (let i = 0; i < 10; i++) expect(await ask(`/refused/${i}`)).toBe(503);
    expect(await readyz()).toMatchObject({ status: 503, problems: [{ name: "audit-unavailable", blocks: true }] });
    expect(await program.metrics()).toMatch(/^sallyport_audit_unavailable 1$/m);
    expect(program.running).toBe(true);
    disk.free();
    const back = await until(200, "back");
    expect(back.took).toBeLessThan(6_000);
    expect((await fetch(`http://127.0.0.1:${program.adminPort}/readyz`)).status).toBe(200);
    const recorded = await paths();
    const answered = ["/before", ...(full.on.get(200) ?? []), ...(back.on.get(200) ?? [])];
    expect(answered.filter((path) => !recorded.has(path))).toEqual([]);
  });

  test("a log that is not required: traffic goes on while the disk is full, and every way of asking says so", async () => {
    await startedOn(
      disk,
      "audit: { required: false }\ndefaults: { action: allow }\nnetwork: { allow: [127.0.0.0/8] }\n",
    );
    expect(await ask("/before")).toBe(200);
    disk.fill();
    const problems = [{ name: "audit-unavailable", blocks: false }];
    for (let i = 0; (await readyz()).problems.length === 0 && i < 400; i++) expect(await ask(`/full/${i}`)).toBe(200);
    expect(await readyz()).toMatchObject({ status: 200, problems });
    expect(await program.metrics()).toMatch(/^sallyport_audit_unavailable 1$/m);
    await expect.poll(() => program.errors).toMatch(/cannot be written/);
    disk.free();
    for (const end = Date.now() + PATIENCE; (await readyz()).problems.length > 0 && Date.now() < end; ) await wait(50);
    expect(await readyz()).toMatchObject({ status: 200, problems: [] });
    expect(await ask("/after")).toBe(200);
    expect((await paths()).has("/after")).toBe(true);
  });
});

test("a disk that fills and empties under load: nothing that was answered is missing, on any way", async () => {
  const report = await killLoop({
    ...{ kills: 3, clients: 10, load: 400, before: "trap '' XFSZ" },
    async trouble({ pid, adminPort }) {
      const limit = (bytes: string): unknown => run("prlimit", "--pid", String(pid), `--fsize=${bytes}:`);
      const ready = async (): Promise<number> => (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).status;
      limit("1");
      await expect.poll(ready, { timeout: PATIENCE }).toBe(503);
      await wait(300);
      limit("unlimited");
      await expect.poll(ready, { timeout: PATIENCE }).toBe(200);
    },
  });
  for (const count of Object.values(report.answeredBy)) expect(count).toBeGreaterThan(0);
  expect(report).toMatchObject({ missing: [], twice: [], chain: null, integrity: "ok" });
  expect(report.firstAnswers, "it ran all the while").toHaveLength(1);
});

test("a WebSocket that is open while the disk fills goes on, and its record is there when there is room again", async () => {
  await startedOn(LIMIT);
  const host = `127.0.0.1:${origins.plain}`;
  const open = await webSocketOver((await connectTo(program.port)).socket, host, "/talk");
  const said = async (text: string): Promise<string> => {
    open.send(text);
    const [data] = (await once(open, "message")) as [Buffer];
    return data.toString();
  };
  expect(await said("before")).toBe("before");
  LIMIT.fill();
  await until(503, "full");
  expect(await said("while full")).toBe("while full");
  const closed = once(open, "close");
  open.close(4_000);
  expect((await closed)[0]).toBe(4_000);
  await expect(webSocketOver((await connectTo(program.port)).socket, host, "/new")).rejects.toThrow("503");
  LIMIT.free();
  await until(200, "back");
  await program.end("SIGTERM");
  const reader = new AuditReader(program.data);
  const records = [...reader.oldest({})].map(({ record }) => record);
  reader.close();
  const [talk, ...more] = records.filter((r) => r.kind === "upgrade");
  expect(talk).toMatchObject({ path: "/talk", sent: { messages: 2, bytes: 16, complete: true } });
  expect(more).toEqual([]);
});

test("a data folder that is read-only: it does not start, and says why; it starts when it may write again", async () => {
  // Root may write anywhere: then the program runs without that. Not as somebody else, who might not read this checkout.
  const root = process.getuid?.() === 0;
  program = await aProgram(root ? { through: "setpriv --bounding-set=-dac_override" } : {});
  chmodSync(program.data, 0o555);
  await expect(program.start()).rejects.toThrow(/EACCES|read-?only|permission|cannot be (?:opened|written)/i);
  chmodSync(program.data, 0o755);
  await program.start();
  expect(await ask("/writable")).toBe(200);
});

test("no room for the CA at the first start: it says which file, leaves no half of one, and starts when there is room", async () => {
  program = await aProgram({ before: "trap '' XFSZ; ulimit -S -f 1" });
  await expect(program.start()).rejects.toThrow(/cannot use .*ca\.pem/);
  expect(readdirSync(join(program.dir, "ca"))).toEqual([]);
  const again = await aProgram();
  renameSync(join(program.dir, "ca"), join(again.dir, "ca"));
  await program.close();
  program = again;
  await program.start();
  expect(readdirSync(join(program.dir, "ca")).sort()).toEqual(["ca.key", "ca.pem"]);
});

test("no room for the log at the start: it says which file", async () => {
  program = await aProgram({ before: "trap '' XFSZ" });
  await program.start();
  await program.end("SIGTERM");
  rmSync(program.data, { recursive: true });
  const full = await aProgram({ before: "trap '' XFSZ; ulimit -S -f 1" });
  renameSync(join(program.dir, "ca"), join(full.dir, "ca"));
  await program.close();
  program = full;
  await expect(program.start()).rejects.toThrow(/cannot use .*audit\.(?:db|lock)/);
});

test("a data folder that is moved away under it: nothing passes, /readyz says why, and it goes on when the folder is back", async () => {
  await started();
  expect(await ask("/before")).toBe(200);
  renameSync(program.data, `${program.data}.away`);
  await until(503, "away");
  expect(await readyz()).toMatchObject({ status: 503, problems: [{ name: "audit-unavailable", blocks: true }] });
  expect(program.running).toBe(true);
  renameSync(`${program.data}.away`, program.data);
  const back = await until(200, "back");
  const recorded = await paths();
  for (const path of ["/before", ...(back.on.get(200) ?? [])]) expect(recorded).toContain(path);
});

test("a data folder that is removed under it: nothing passes any more, until it is started again", async () => {
  await started();
  expect(await ask("/before")).toBe(200);
  rmSync(program.data, { recursive: true });
  await until(503, "gone");
  for (let i = 0; i < 5; i++) expect(await ask(`/refused/${i}`)).toBe(503);
  await program.end("SIGTERM");
  await program.start();
  expect(await ask("/anew")).toBe(200);
});

test("a policy file whose place a pipe takes: nobody waits for it, and the old policy stays", async () => {
  await started();
  const file = join(program.dir, "policy.yaml");
  rmSync(file);
  expect(run("mkfifo", file)).toBe(true);
  await expect.poll(() => program.errors).toMatch(/it is not a regular file/);
  expect(await ask("/still")).toBe(200);
});

test("a database that another process holds: answers go on from the journal, and nothing is missing afterwards", async () => {
  await started();
  expect(await ask("/before")).toBe(200);
  await wait(300);
  const other = new Database(join(program.data, "audit.db"), { timeout: 5_000 });
  other.exec("BEGIN IMMEDIATE");
  const answered: string[] = [];
  for (let i = 0; i < 40; i++) {
    const path = `/locked/${i}`;
    if ((await ask(path)) === 200) answered.push(path);
    await wait(20);
  }
  expect(answered.length).toBeGreaterThan(0);
  other.exec("COMMIT");
  other.close();
  await until(200, "free");
  const recorded = await paths();
  expect(answered.filter((path) => !recorded.has(path))).toEqual([]);
});

test("a corrupt database: it does not start, says which file, and leaves the file as it is", async () => {
  await started();
  expect(await ask("/before")).toBe(200);
  await program.end("SIGTERM");
  const file = join(program.data, "audit.db");
  writeFileSync(file, Buffer.alloc(65_536, "not a database "));
  for (const rest of readdirSync(program.data).filter((name) => /-(wal|shm)$/.test(name)))
    truncateSync(join(program.data, rest));
  program.errors = "";
  await expect(program.start()).rejects.toThrow(/audit\.db|database/i);
  expect(existsSync(file)).toBe(true);
});

test("a clock that goes back: ids stay in order and the chain holds", async () => {
  const preload = `data:text/javascript,${encodeURIComponent(
    "const real = Date.now; let back = 0; process.on('SIGUSR2', () => (back = 3_600_000)); Date.now = () => real() - back;",
  )}`;
  await started({ nodeOptions: ["--import", preload] });
  const asked: string[] = [];
  for (let i = 0; i < 30; i++) {
    const path = `/clock/${i}`;
    asked.push(path);
    expect(await ask(path)).toBe(200);
    if (i === 15) program.child?.kill("SIGUSR2");
    await wait(20);
  }
  await program.end("SIGTERM");
  const reader = new AuditReader(program.data);
  const records = [...reader.oldest({})].map(({ record }) => record);
  expect(verifyLog(program.data, reader, { key: null, head: null }).problem).toBeNull();
  reader.close();
  expect(records.map((r) => r.path)).toEqual(asked);
  const times = records.map((r) => r.at);
  expect(Math.max(...times) - Math.min(...times), "the clock did jump").toBeGreaterThan(3_000_000);
  const ids = records.map((r) => r.id);
  expect([...ids].sort()).toEqual(ids);
  for (const record of records) expect(record.timings.total).toBeGreaterThanOrEqual(0);
});
