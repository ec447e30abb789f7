import { mkdirSync, rmSync } from "node:fs";
import Database from "better-sqlite3";
import { expect, test } from "vitest";
import { databaseFile, FolderInUse, journalFolder } from "../../../src/edge/audit/folder.ts";
import { journalNumbers } from "../../../src/edge/audit/journal-files.ts";
import { openAuditSink } from "../../../src/edge/audit/worker-sink.ts";
import { aFolder, aRecord, sinkOptions, until } from "./support.ts";

const countIn = (dir: string): number => {
  const db = new Database(databaseFile(dir), { readonly: true });
  try {
    return (db.prepare("SELECT count(*) AS n FROM records").get() as { n: number }).n;
  } finally {
    db.close();
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
    await until(() => options.heard.some((h) => /can be written again/.test(h.message)), 6_000);
    expect(sink.unavailable).toBeNull();
    expect(await append()).toBe(true);
    await sink.close();
    expect(countIn(dir)).toBe(3);
    expect(sink.dropped()).toBe(0);
  },
);
