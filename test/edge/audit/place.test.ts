// A data folder that is taken away while it is written: no write fails, and yet nobody would ever find the records.
import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { expect, test } from "vitest";
import { rowOf, rowText } from "../../../src/audit/row.ts";
import { databaseFile, journalFolder, lockFile } from "../../../src/edge/audit/folder.ts";
import { Intake } from "../../../src/edge/audit/intake.ts";
import { journalFile } from "../../../src/edge/audit/journal-files.ts";
import { FileGone, Place } from "../../../src/edge/audit/place.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { type HouseAuditSink, openAuditSink } from "../../../src/edge/audit/worker-sink.ts";
import { aFolder, aRecord, sinkOptions, until } from "./support.ts";

const pathsIn = (dir: string): (string | null)[] => {
  const reader = new AuditReader(dir);
  try {
    return [...reader.oldest({})].map(({ record }) => record.path);
  } finally {
    reader.close();
  }
};

const appended = (sink: HouseAuditSink, path: string): Promise<boolean> =>
  new Promise((resolve) => sink.append(aRecord({ path }), resolve));

/** A log in `data` below a folder of its own, with one record. */
async function opened(required = true): Promise<{ data: string; sink: HouseAuditSink }> {
  const data = join(aFolder(), "data");
  const sink = await openAuditSink(sinkOptions(data, { required }));
  expect(await appended(sink, "/before")).toBe(true);
  await sink.flush();
  return { data, sink };
}

const LOSSES: [string, (data: string) => void][] = [
  ["the folder is moved", (data) => renameSync(data, `${data}.away`)],
  ["the folder is removed", (data) => rmSync(data, { recursive: true })],
  ["the journals are removed", (data) => rmSync(journalFolder(data), { recursive: true })],
  ["the database is removed", (data) => rmSync(databaseFile(data))],
  ["the lock is removed", (data) => rmSync(lockFile(data))],
  [
    "a copy takes the folder's place",
    (data) => {
      cpSync(data, `${data}.copy`, { recursive: true });
      renameSync(data, `${data}.away`);
      renameSync(`${data}.copy`, data);
    },
  ],
];

test.each(LOSSES)("%s: nothing may start any more, and no record counts as written", async (_what, take) => {
  const { data, sink } = await opened();
  take(data);
  await until(() => sink.unavailable !== null);
  expect(sink.unavailable).toMatch(/was moved, replaced or removed/);
  expect(await appended(sink, "/lost")).toBe(false);
  await sink.close();
});

test("a folder that comes back is used again, with the records of the time between", async () => {
  const { data, sink } = await opened(false);
  renameSync(data, `${data}.away`);
  await until(() => sink.fault !== null);
  expect(await appended(sink, "/meanwhile")).toBe(true);
  renameSync(`${data}.away`, data);
  await until(() => sink.fault === null);
  expect(await appended(sink, "/after")).toBe(true);
  await sink.close();
  expect(pathsIn(data)).toEqual(["/before", "/meanwhile", "/after"]);
});

test("journals that are away with their folder are not taken for read", async () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir));
  writeFileSync(journalFile(dir, 1), `${rowText(rowOf(aRecord({ path: "/waiting" })))}\n`);
  renameSync(journalFolder(dir), join(dir, "away"));
  const said: string[] = [];
  const closed = new Promise<void>((resolve) => {
    const intake = new Intake(
      { dir, keep: { age: null, size: null }, liveFile: 2 },
      ({ type }) => said.push(type),
      resolve,
    );
    void until(() => said.includes("failed")).then(async () => {
      renameSync(join(dir, "away"), journalFolder(dir));
      await until(() => said.includes("recovered"));
      intake.receive({ type: "close" });
    });
  });
  await closed;
  expect(pathsIn(dir)).toEqual(["/waiting"]);
});

/** A log whose database is held by another while journals wait; the first of these that is not written any more is removed. */
async function withLostJournal() {
  const dir = aFolder();
  const options = sinkOptions(dir, { rotateAt: 5_000 });
  const sink = await openAuditSink(options);
  expect(await appended(sink, "/before")).toBe(true);
  await sink.flush();
  const db = new Database(databaseFile(dir));
  db.exec("BEGIN IMMEDIATE");
  for (let i = 0; i < 60; i++) expect(await appended(sink, `/${i}`)).toBe(true);
  rmSync(journalFile(dir, 2));
  const letGo = () => db.close();
  return { dir, sink, letGo, heard: options.heard };
}

const notesIn = (dir: string): string[] => {
  const reader = new AuditReader(dir);
  try {
    return [...reader.oldest({})].flatMap(({ record }) => record.notes);
  } finally {
    reader.close();
  }
};

test("a journal that is removed before it is read stops traffic, is counted, and leaves a record in its place", async () => {
  const { dir, sink, letGo, heard } = await withLostJournal();
  await until(() => sink.unavailable !== null);
  expect(sink.unavailable).toMatch(/00000002.jsonl was moved, replaced or removed/);
  letGo();
  await until(() => sink.unavailable === null);
  expect(await appended(sink, "/after")).toBe(true);
  await sink.flush();
  expect(sink.lag()).toBe(0);
  const paths = pathsIn(dir);
  // The record that stands for the journal has no path.
  expect(paths.filter((path) => path === null)).toHaveLength(1);
  expect(notesIn(dir)).toEqual(["journal-missing"]);
  expect(paths.slice(-2)).toEqual(["/59", "/after"]);
  expect(sink.dropped()).toBe(60 + 3 - paths.length);
  expect(sink.dropped()).toBeGreaterThan(0);
  expect(heard.some(({ message }) => /audit records were lost.*journal 2 is gone/.test(message))).toBe(true);
  await sink.close();
});

test("the journal that is written is removed with records that were not read: a record stands for them", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir));
  const db = new Database(databaseFile(dir));
  db.exec("BEGIN IMMEDIATE");
  for (let i = 0; i < 5; i++) expect(await appended(sink, `/${i}`)).toBe(true);
  rmSync(journalFile(dir, 1));
  await until(() => sink.unavailable !== null);
  db.close();
  await until(() => sink.unavailable === null && sink.dropped() > 0);
  expect(sink.dropped()).toBe(5);
  expect(await appended(sink, "/after")).toBe(true);
  await sink.close();
  expect(notesIn(dir)).toEqual(["journal-missing"]);
  expect(pathsIn(dir)).toEqual([null, "/after"]);
});

test("journals that went while no house ran are missed by the next one", async () => {
  const dir = aFolder();
  const sink = await openAuditSink(sinkOptions(dir));
  expect(await appended(sink, "/before")).toBe(true);
  await sink.close();
  rmSync(journalFile(dir, 1));
  const again = await openAuditSink(sinkOptions(dir));
  await until(() => notesIn(dir).length > 0);
  await until(() => again.unavailable === null);
  await again.close();
  expect(notesIn(dir)).toEqual(["journal-missing"]);
  await (await openAuditSink(sinkOptions(dir))).close();
  expect(notesIn(dir)).toEqual(["journal-missing"]);
});

test("a journal that comes back is read, and no record stands for it", async () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir));
  for (const number of [1, 2, 3])
    writeFileSync(journalFile(dir, number), `${rowText(rowOf(aRecord({ path: `/${number}` })))}\n`);
  renameSync(journalFile(dir, 2), join(dir, "away"));
  const said: string[] = [];
  await new Promise<void>((resolve) => {
    const intake = new Intake(
      { dir, keep: { age: null, size: null }, liveFile: 4 },
      (message) => {
        said.push(message.type);
        if (message.type === "failed") renameSync(join(dir, "away"), journalFile(dir, 2));
        if (message.type === "recovered") intake.receive({ type: "close" });
      },
      resolve,
    );
  });
  expect(pathsIn(dir)).toEqual(["/1", "/2", "/3"]);
  expect(said).not.toContain("lost");
});

test("a file is known by what it is, not by its name", () => {
  const file = join(aFolder(), "file");
  expect(() => new Place([file])).toThrow(FileGone);
  writeFileSync(file, "a");
  const place = new Place([file]);
  writeFileSync(file, "b");
  place.check();
  renameSync(file, `${file}.old`);
  writeFileSync(file, "b");
  expect(() => place.check()).toThrow(FileGone);
  rmSync(file);
  mkdirSync(file);
  expect(() => place.check()).toThrow(FileGone);
  rmSync(file, { recursive: true });
  renameSync(`${file}.old`, file);
  place.check();
});
