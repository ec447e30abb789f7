import { once } from "node:events";
import { mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import Database from "better-sqlite3";
import { expect, test } from "vitest";
import { databaseFile, FolderInUse, journalFolder } from "../../../src/edge/audit/folder.ts";
import { journalNumbers } from "../../../src/edge/audit/journal-files.ts";
import { pruneTo, usedBytes } from "../../../src/edge/audit/prune.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { signingKey } from "../../../src/edge/audit/signing-key.ts";
import { type Problem, verifyLog } from "../../../src/edge/audit/verify.ts";
import { openAuditSink } from "../../../src/edge/audit/worker-sink.ts";
import { aFolder, aRecord, sinkOptions, until } from "./support.ts";
import { tamper } from "./tamper.ts";

/** The first problem that verify finds. */
const verified = (dir: string): Problem | null => {
  const reader = new AuditReader(dir);
  try {
    return verifyLog(dir, reader, { key: null, head: null }).problem;
  } finally {
    reader.close();
  }
};

const countIn = (dir: string): number => {
  const reader = new AuditReader(dir);
  try {
    return reader.totals({}).records;
  } finally {
    reader.close();
  }
};

test("every record is released, reaches the database once, and journals that were taken in are deleted", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir, { rotateAt: 20_000 }));
  const released: boolean[] = [];
  for (let turn = 0; turn < 20; turn++) {
    for (let i = 0; i < 10; i++) sink.append(aRecord({ path: `/${turn}/${i}` }), (written) => released.push(written));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await sink.flush();
  expect(released).toEqual(Array(200).fill(true));
  expect(countIn(dir)).toBe(200);
  expect(sink.lag()).toBe(0);
  expect(sink.unavailable).toBeNull();
  await sink.close();
  expect(countIn(dir)).toBe(200);
  expect(journalNumbers(dir).length).toBeLessThanOrEqual(1);

  const again = await openAuditSink(sinkOptions(dir));
  again.append(aRecord());
  await again.close();
  expect(countIn(dir)).toBe(201);
});

test.each(["normal", "full"] as const)("sync %s: journals that were written to their end are closed", async (sync) => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir, { rotateAt: 1, sync }));
  const journals = (): string[] => openFiles().filter((file) => file.startsWith(journalFolder(dir)));
  const written = [];
  for (let i = 0; i < 50; i++) {
    written.push(new Promise((resolve) => sink.append(aRecord({ path: `/${i}` }), resolve)));
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await Promise.all(written)).toEqual(Array(50).fill(true));
  await sink.flush();
  // The last one is written still; the others wait for nothing but the disk.
  await until(() => journals().length === 1);
  await sink.close();
  await until(() => journals().length === 0);
  expect(countIn(dir)).toBe(50);
});

/** What this process has open, by name. */
const openFiles = (): string[] =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });

test("one process writes: a second opening names the first", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir));
  await expect(openAuditSink(sinkOptions(dir))).rejects.toThrow(FolderInUse);
  await expect(openAuditSink(sinkOptions(dir))).rejects.toThrow(String(process.pid));
  await sink.close();
  await (await openAuditSink(sinkOptions(dir))).close();
});

test("a full sync releases only after the disk has it", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir, { sync: "full" }));
  const written = await new Promise((resolve) => sink.append(aRecord(), resolve));
  expect(written).toBe(true);
  await sink.close();
  expect(countIn(dir)).toBe(1);
});

test("a backlog beyond its bound closes the line until the database has caught up", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir, { backlog: 1_000 }));
  for (let i = 0; i < 50; i++) sink.append(aRecord());
  await new Promise((resolve) => setImmediate(resolve));
  expect(sink.unavailable).toMatch(/behind/);
  await sink.flush();
  expect(sink.unavailable).toBeNull();
  await sink.close();
});

test("while the database cannot be written no traffic may start; afterwards the journal is taken in, once", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir));
  sink.append(aRecord());
  await sink.flush();
  const other = new Database(databaseFile(dir));
  other.exec("ALTER TABLE records RENAME TO gone");
  for (let i = 0; i < 5; i++) sink.append(aRecord());
  await until(() => sink.unavailable !== null);
  expect(sink.unavailable).toMatch(/database cannot be written/);
  other.exec("ALTER TABLE gone RENAME TO records");
  other.close();
  await until(() => sink.unavailable === null);
  await sink.flush();
  await sink.close();
  expect(countIn(dir)).toBe(6);
  expect(verified(dir)).toBeNull();
});

test("a damaged database is refused at the start, with what to do, and the folder is free again", async () => {
  const dir = aFolder();
  writeFileSync(databaseFile(dir), "this is no database ".repeat(1_000));
  await expect(openAuditSink(sinkOptions(dir))).rejects.toThrow(/is damaged \(SQLITE_NOTADB\): move it elsewhere/);
  expect(() => new AuditReader(dir)).toThrow(/is damaged/);
  rmSync(databaseFile(dir));
  const sink = await openAuditSink(sinkOptions(dir));
  sink.append(aRecord());
  await sink.close();
  expect(countIn(dir)).toBe(1);
});

/** Opens a sink, and hands out the thread that it started. */
async function withThread(dir: string, changes: Parameters<typeof sinkOptions>[1] = {}) {
  const options = sinkOptions(dir, changes);
  const begun = once(process, "worker") as Promise<[Worker]>;
  const sink = await openAuditSink(options);
  return { sink, thread: (await begun)[0], heard: options.heard };
}

test("the auditor's thread dies: no traffic until a new one runs, which takes in what was written meanwhile, once", async () => {
  const dir = aFolder();
  const { sink, thread, heard } = await withThread(dir);
  for (let i = 0; i < 50; i++) sink.append(aRecord());
  await sink.flush();
  const asked = sink.flush(); // perhaps never answered by that thread
  await thread.terminate();
  await until(() => sink.unavailable !== null);
  expect(sink.unavailable).toMatch(/thread/);
  const written = await new Promise((resolve) => sink.append(aRecord(), resolve));
  expect(written).toBe(true);
  await Promise.all([asked, sink.flush()]);
  expect(sink.unavailable).toBeNull();
  expect(sink.lag()).toBe(0);
  expect(heard.map((h) => h.message).join()).toMatch(/cannot be written.*died|ended/);
  await sink.close();
  expect(countIn(dir)).toBe(51);
  expect(verified(dir)).toBeNull();
});

test("closing while there is no thread: at once, and the next opening takes in the rest", async () => {
  const dir = aFolder();
  const { sink, thread } = await withThread(dir);
  await sink.flush();
  await thread.terminate();
  sink.append(aRecord());
  const started = performance.now();
  await sink.close();
  expect(performance.now() - started).toBeLessThan(15_000);
  const again = await openAuditSink(sinkOptions(dir));
  await again.close();
  expect(countIn(dir)).toBe(1);
});

test("whether the log is required changes under a running house, and a fault is told either way", async () => {
  const dir = aFolder();
  const { sink, thread } = await withThread(dir, { required: false });
  await sink.flush();
  await thread.terminate();
  await until(() => sink.fault !== null);
  expect(sink.unavailable).toBeNull();
  sink.change({ required: true, sync: "full", keep: { age: null, size: null } });
  expect(sink.unavailable).toBe(sink.fault);
  await until(() => sink.fault === null);
  expect(await new Promise((resolve) => sink.append(aRecord(), resolve))).toBe(true);
  await sink.close();
  expect(countIn(dir)).toBe(1);
});

test("what is older than its age goes at the start, and at once when a reload shortens it; the chain stays whole", async () => {
  const dir = aFolder();
  const day = 86_400_000;
  const before = await openAuditSink(sinkOptions(dir));
  for (const days of [9, 8, 3, 2, 0]) before.append(aRecord({ at: Date.now() - days * day }));
  await before.close();
  const sink = await openAuditSink(sinkOptions(dir, { keep: { age: 5 * day, size: null } }));
  await until(() => countIn(dir) === 3);
  sink.change({ required: true, sync: "normal", keep: { age: day, size: null } });
  await until(() => countIn(dir) === 1);
  sink.append(aRecord());
  await sink.close();
  expect(countIn(dir)).toBe(2);
  expect(verified(dir)).toBeNull();
});

test("old records that were changed stay, which is told, and keep nobody from writing", async () => {
  const dir = aFolder();
  const before = await openAuditSink(sinkOptions(dir));
  for (const at of [1_000, 2_000, 3_000]) before.append(aRecord({ at }));
  await before.close();
  tamper(dir, "DELETE FROM records WHERE seq = 1");
  const options = sinkOptions(dir, { keep: { age: 3_600_000, size: null } });
  const sink = await openAuditSink(options);
  await until(() => options.heard.some(({ message }) => /not pruned, because.* record 1 is missing/.test(message)));
  expect(await new Promise((resolve) => sink.append(aRecord(), resolve))).toBe(true);
  expect(sink.fault).toBeNull();
  await sink.close();
  expect(countIn(dir)).toBe(3);
  expect(verified(dir)).toMatchObject({ kind: "missing", seq: 1 });
});

test("a log over its size loses its oldest records, and not more than it must", async () => {
  const dir = aFolder();
  const before = await openAuditSink(sinkOptions(dir));
  for (let i = 0; i < 4_000; i++) before.append(aRecord({ host: `h${i}.example`, path: `/${"x".repeat(400)}/${i}` }));
  await before.close();
  const size = 1024 * 1024;
  const sink = await openAuditSink(sinkOptions(dir, { keep: { age: null, size } }));
  await until(() => countIn(dir) < 4_000);
  await sink.close();
  const db = new Database(databaseFile(dir), { readonly: true });
  // The names of what went are looked for a second later, which may be after the end.
  expect(usedBytes(db)).toBeLessThan(size * 1.25);
  expect(usedBytes(db)).toBeGreaterThan(size / 2);
  db.close();
  expect(verified(dir)).toBeNull();
  const reader = new AuditReader(dir);
  expect(reader.newest({}, 1)[0]?.record.host).toBe("h3999.example");
  reader.close();
});

test("the names of records that went go too, those of others stay, and a name that comes back is written again", async () => {
  const dir = aFolder();
  const names = (): string[] => {
    const db = new Database(databaseFile(dir), { readonly: true });
    const found = db.prepare<[], string>("SELECT text FROM words WHERE text LIKE '%.example'").pluck().all();
    db.close();
    return found.sort();
  };
  const old = { at: Date.now() - 7_200_000 };
  const sink = await openAuditSink(sinkOptions(dir));
  sink.append(aRecord({ ...old, host: "gone.example" }));
  sink.append(aRecord({ ...old, host: "kept.example", sni: "gone-too.example" }));
  sink.append(aRecord({ host: "kept.example", sni: "new.example" }));
  await sink.flush();
  sink.change({ required: true, sync: "normal", keep: { age: 3_600_000, size: null } });
  await until(() => names().length === 2);
  expect(names()).toEqual(["kept.example", "new.example"]);
  sink.append(aRecord({ host: "gone.example", sni: "kept.example" }));
  await sink.flush();
  const reader = new AuditReader(dir);
  expect(reader.newest({ host: "gone.example" }, 5).map((f) => f.record.sni)).toEqual(["kept.example"]);
  reader.close();
  await sink.close();
  expect(verified(dir)).toBeNull();
});

test("another process may prune while records are written", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir));
  const other = new Database(databaseFile(dir), { timeout: 5_000 });
  const key = signingKey(dir);
  for (let round = 1; round <= 5; round++) {
    for (let i = 0; i < 300; i++) sink.append(aRecord({ host: `h${round}.example` }));
    await sink.flush();
    for (let i = 0; i < 300; i++) sink.append(aRecord({ host: `h${round}.example` }));
    pruneTo(other, round * 600 - 450, Date.now(), key);
  }
  other.close();
  await sink.close();
  expect(verified(dir)).toBeNull();
  const reader = new AuditReader(dir);
  expect(reader.newest({ host: "h5.example" }, 1_000)).toHaveLength(450);
  expect(reader.newest({ host: "h1.example" }, 1_000)).toHaveLength(0);
  reader.close();
});

test.each([
  [true, false, /cannot be written/],
  [false, true, null],
])(
  "required %s: while no journal can be made, released(%s); loudly, and late records are kept",
  async (required, told, closed) => {
    const dir = aFolder();
    const options = sinkOptions(dir, { required, rotateAt: 1 });
    const sink = await openAuditSink(options);
    const append = () => new Promise((resolve) => sink.append(aRecord(), resolve));
    expect(await append()).toBe(true);
    await sink.flush();
    rmSync(journalFolder(dir), { recursive: true });
    expect(await append()).toBe(told);
    if (closed === null) expect(sink.unavailable).toBeNull();
    else expect(sink.unavailable).toMatch(closed);
    expect(options.heard.filter((h) => h.level === "error")).toHaveLength(1);
    mkdirSync(journalFolder(dir));
    await until(() => options.heard.some((h) => /log can be written again/.test(h.message)));
    expect(sink.unavailable).toBeNull();
    expect(await append()).toBe(true);
    await sink.close();
    // One stands for the journal that went with the folder: the auditor cannot know that it had read all of it.
    expect(countIn(dir)).toBe(4);
    expect(sink.dropped()).toBe(0);
  },
);
